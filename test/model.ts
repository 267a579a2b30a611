/**
 * What a coordinator may answer, as a small pure state machine, and what that says about the calls of many fibers.
 *
 * A job only ever goes forward: running, exited, ended, removed. An answer that shows a job in a phase says that it had
 * come so far when the answer came, or had not come further when the question was put. Calls that overlap may have
 * happened in either order; answers are right if one order explains them all.
 */
import type { JobEvent } from "../src/JobEvent.ts"
import type { JobId } from "../src/JobId.ts"
import type { JobInfo } from "../src/JobInfo.ts"
import type { JobStatus } from "../src/JobStatus.ts"
import type * as SimulatedProcesses from "../src/SimulatedProcesses.ts"

export type Phase = "Running" | "Exited" | "Ended" | "Removed"

const phases: ReadonlyArray<Phase> = ["Running", "Exited", "Ended", "Removed"]

export type Question = "start" | "stop" | "status" | "wait" | "output" | "glance" | "remove" | "list"

/** What came of a call; `Left`: its caller was interrupted. */
export type Answer =
  | { readonly _tag: "Started"; readonly id: JobId; readonly command: string }
  | { readonly _tag: "Status"; readonly status: JobStatus }
  | { readonly _tag: "Text"; readonly text: string }
  | { readonly _tag: "Listed"; readonly infos: ReadonlyArray<JobInfo> }
  | { readonly _tag: "Done" }
  | { readonly _tag: "Failed"; readonly error: string }
  | { readonly _tag: "Left" }

export interface Call {
  readonly question: Question
  /** Of the job that is asked about. */
  readonly id: JobId | undefined
  /** Moments of one count over all calls. */
  readonly asked: number
  readonly answered: number
  /** How many entries the trace had by then. */
  readonly traced: number
  readonly answer: Answer
}

export interface History {
  readonly maxRunning: number
  readonly maxEnded: number
  readonly scripts: Readonly<Record<string, SimulatedProcesses.Script>>
  readonly calls: ReadonlyArray<Call>
  /** All events from before the first call. */
  readonly events: ReadonlyArray<JobEvent>
  readonly trace: ReadonlyArray<SimulatedProcesses.TraceEntry>
}

type Bounds = readonly [atLeast: Phase, atMost: Phase]

/** What an answer shows of a job: it was in the first phase, at least, when it came, and in the last, at most, when asked for. */
const shows = ({ answer, asked, question }: Call, { id, start }: Job): Bounds | undefined => {
  switch (answer._tag) {
    case "Status":
      if (question === "stop") return ["Ended", "Exited"]
      if (question === "wait") return ["Ended", "Ended"]
      return answer.status._tag === "Running" ? ["Running", "Running"] : ["Exited", "Ended"]
    case "Text":
      return [question === "output" ? "Ended" : "Running", "Ended"]
    case "Done":
      return ["Removed", "Ended"]
    case "Failed":
      return showsByError[answer.error]
    case "Listed": {
      const info = answer.infos.find((info) => info.id === id)
      if (info === undefined) return start.answered < asked ? ["Removed", "Removed"] : undefined
      if (info.endedAt._tag === "Some") return ["Ended", "Ended"]
      return info.status._tag === "Running" ? ["Running", "Running"] : ["Exited", "Exited"]
    }
    default:
      return undefined
  }
}

const showsByError: Readonly<Record<string, Bounds>> = {
  JobNotFound: ["Removed", "Removed"],
  JobAlreadyEnded: ["Ended", "Ended"],
  JobStillRunning: ["Running", "Exited"]
}

const permitted: Readonly<Record<Question, ReadonlyArray<string>>> = {
  start: ["JobStartError", "JobLimitReached"],
  stop: ["JobNotFound", "JobAlreadyEnded"],
  status: ["JobNotFound"],
  wait: ["JobNotFound"],
  output: ["JobNotFound"],
  glance: ["JobNotFound"],
  remove: ["JobNotFound", "JobStillRunning"],
  list: []
}

interface Job {
  readonly id: JobId
  readonly command: string
  readonly pid: number
  readonly start: Call
  readonly calls: ReadonlyArray<Call>
}

/** Everything in a history that no correct coordinator does. */
export const problems = (history: History): ReadonlyArray<string> => {
  const jobs = jobsOf(history)
  return [
    ...history.calls.flatMap(wrongErrors),
    ...strangers(history, jobs),
    ...jobs.flatMap(backwards),
    ...jobs.flatMap((job) => tooEarly(job, history)),
    ...jobs.flatMap((job) => wrongStatus(job, history)),
    ...jobs.flatMap((job) => wrongOutput(job, history)),
    ...wrongLists(history),
    ...wrongPlaces(history, jobs)
  ]
}

const jobsOf = ({ calls, events }: History): ReadonlyArray<Job> =>
  calls.flatMap((start) => {
    const { answer } = start
    if (answer._tag !== "Started") return []
    const event = events.find((event) => event._tag === "JobStarted" && event.info.id === answer.id)
    const pid = event?._tag === "JobStarted" ? event.info.pid : -1
    return [{
      ...answer,
      pid,
      start,
      calls: calls.filter(({ id, question }) => id === answer.id || question === "list")
    }]
  })

const wrongErrors = ({ answer, question }: Call): ReadonlyArray<string> =>
  answer._tag === "Failed" && !permitted[question].includes(answer.error) ? [`${question} failed: ${answer.error}`] : []

/** Jobs that are told of are those whose start succeeded, and every other process was ended before its start failed. */
const strangers = ({ calls, events, trace }: History, jobs: ReadonlyArray<Job>): ReadonlyArray<string> => {
  const ids = new Set(jobs.map((job) => job.id))
  const told = [
    ...events.flatMap((event) => event._tag === "JobRemoved" ? [event.id] : [event.info.id]),
    ...calls.flatMap(({ answer }) => answer._tag === "Listed" ? answer.infos.map((info) => info.id) : [])
  ]
  const exited = new Set(trace.flatMap((entry) => entry._tag === "Exited" ? [entry.pid] : []))
  return [
    ...new Set(told.filter((id) => !ids.has(id)).map((id) => `a job that nobody started: ${id}`)),
    ...jobs.filter((job) => job.pid === -1).map((job) => `no event tells of the start of ${job.command}`),
    ...trace.filter((entry) => entry._tag === "Spawned" && !exited.has(entry.pid))
      .map((entry) => `a process is left: ${entry.command}, ${entry.pid}`),
    ...calls.filter(({ answer, id }) =>
      id !== undefined && !ids.has(id) && answer._tag !== "Left" &&
      !("error" in answer && answer.error === "JobNotFound")
    ).map(({ question }) => `${question} knows an unknown job`)
  ]
}

/** An answer that shows less than one that came before it was asked for. */
const backwards = (job: Job): ReadonlyArray<string> => {
  const seen = job.calls.flatMap((call) => {
    const bounds = shows(call, job)
    return bounds === undefined ? [] : [{ call, atLeast: phases.indexOf(bounds[0]), atMost: phases.indexOf(bounds[1]) }]
  })
  const contradictions = seen.flatMap((early) =>
    seen.filter((late) => early.call.answered < late.call.asked && early.atLeast > late.atMost)
      .map((late) => `${job.command}: ${described(early.call)}, and later ${described(late.call)}`)
  )
  const removals = job.calls.filter(({ answer }) => answer._tag === "Done").length
  return removals > 1 ? [`${job.command} was removed ${removals} times`, ...contradictions] : contradictions
}

const described = ({ answer, asked, answered, question }: Call): string =>
  `${question} ${JSON.stringify(answer)} [${asked}, ${answered}]`

/** A job that somebody has been told has ended of which something still lives. */
const tooEarly = (job: Job, history: History): ReadonlyArray<string> =>
  job.calls.flatMap((call) => {
    if (phases.indexOf(shows(call, job)?.[0] ?? "Running") < phases.indexOf("Ended")) return []
    const soFar = history.trace.slice(0, call.traced)
    return membersOf(job, { ...history, trace: soFar }).filter(({ exited }) => exited === undefined)
      .map(({ spawned }) => `${job.command}: ${described(call)} while ${spawned.pid} lives`)
  })

/** The script of each process of a job, its leader first. */
const membersOf = (job: Job, { scripts, trace }: History) => {
  const script = scripts[job.command] ?? {}
  return [script, ...(script.children ?? [])].flatMap((script, index) => {
    const of = (tag: string) => trace.find((entry) => entry._tag === tag && entry.pid === job.pid + index)
    const spawned = of("Spawned")
    return spawned === undefined ? [] : [{ script, spawned, exited: of("Exited") }]
  })
}

/** Everybody sees the same end, and it is that of the leader. */
const wrongStatus = (job: Job, history: History): ReadonlyArray<string> => {
  const [leader] = membersOf(job, history)
  const end = leader?.script.end
  const signal = leader?.exited?.signal
  const expected = signal ?? (end !== undefined && "code" in end ? end.code : "no end")
  const statuses = [
    ...job.calls.flatMap(({ answer }) => answer._tag === "Status" ? [answer.status] : []),
    ...history.events.flatMap((event) =>
      event._tag === "JobEnded" && event.info.id === job.id ? [event.info.status] : []
    )
  ]
  const ends = statuses.flatMap((status) =>
    status._tag === "Running" ? [] : [status._tag === "Exited" ? status.code : status.signal]
  )
  return ends.filter((end) => end !== expected).map((end) => `${job.command} ended with ${end}, not ${expected}`)
}

/** Output is what its processes had written when they left: all of it, once, in order of time. */
const wrongOutput = (job: Job, history: History): ReadonlyArray<string> => {
  const writes = membersOf(job, history)
    .flatMap(({ exited, script, spawned }) =>
      (script.output ?? []).map(({ at, data }) => {
        const time = spawned.at + Number(at ?? 0)
        const life = (exited?.at ?? Infinity) - time
        return { time, data: String(data), must: life > 0, may: life >= 0 }
      })
    )
    .filter((write) => write.may)
    .sort((a, b) => a.time - b.time)
  const texts = job.calls.flatMap((call) =>
    call.answer._tag === "Text" ? [{ text: call.answer.text, isWhole: call.question === "output" }] : []
  )
  const whole = texts.find((_) => _.isWhole)?.text
  return texts.flatMap(({ isWhole, text }) => {
    let rest = text
    for (const { data, must } of writes) {
      if (rest.startsWith(data)) rest = rest.slice(data.length)
      else if (must && (isWhole || rest.length > 0)) return [`${job.command}: ${JSON.stringify(text)} lacks ${data}`]
    }
    if (rest.length > 0) return [`${job.command}: nobody wrote ${JSON.stringify(rest)}`]
    const agrees = whole === undefined || (isWhole ? whole === text : whole.startsWith(text))
    return agrees ? [] : [`${job.command}: ${JSON.stringify(text)} and ${JSON.stringify(whole)}`]
  })
}

/**
 * Every list is what replaying the events up to some moment gives, and lists that come one after the other are of moments
 * that do.
 */
const wrongLists = ({ calls, events, maxEnded }: History): ReadonlyArray<string> => {
  const table = new Map<JobId, string>()
  const moments = new Map<string, Array<number>>([["", [0]]])
  const problems: Array<string> = []
  events.forEach((event, index) => {
    const id = event._tag === "JobRemoved" ? event.id : event.info.id
    if (table.has(id) === (event._tag === "JobStarted")) problems.push(`event ${index} is out of turn: ${event._tag}`)
    if (event._tag === "JobRemoved") table.delete(id)
    else table.set(id, rowOf(event.info))
    const rows = Array.from(table.values()).join()
    moments.set(rows, [...moments.get(rows) ?? [], index + 1])
  })
  const placed: Array<{ readonly moment: number; readonly answered: number }> = []
  for (const { answer, answered, asked } of Array.from(calls).sort((a, b) => a.answered - b.answered)) {
    if (answer._tag !== "Listed") continue
    const earliest = Math.max(0, ...placed.filter((list) => list.answered < asked).map((list) => list.moment))
    const rows = answer.infos.map(rowOf).join()
    const moment = moments.get(rows)?.find((moment) => moment >= earliest)
    if (moment === undefined) problems.push(`no moment after ${earliest} has this list: ${rows}`)
    else placed.push({ moment, answered })
    const ended = answer.infos.filter((info) => info.endedAt._tag === "Some").length
    if (ended > maxEnded) problems.push(`${ended} ended jobs are kept`)
  }
  return problems
}

/** A job in a table, without what changes between its start and its end. */
const rowOf = ({ endedAt, id, output, status }: JobInfo): string =>
  endedAt._tag === "None" ? id : JSON.stringify([id, status, endedAt, output])

/** Never more live than may, and nobody is turned away while there is a place that nobody can have. */
const wrongPlaces = (history: History, jobs: ReadonlyArray<Job>): ReadonlyArray<string> => {
  const { calls, maxRunning, scripts, trace } = history
  const most = mostAlive(scripts, trace)
  const starts = calls.filter(({ question }) => question === "start")
  const turnedAway = (call: Call) => call.answer._tag === "Failed" && call.answer.error === "JobLimitReached"
  const leftAt = new Map(jobs.map((job) => [
    job.start,
    Math.min(...job.calls.flatMap((call) => {
      const bounds = shows(call, job)
      return bounds !== undefined && phases.indexOf(bounds[0]) >= phases.indexOf("Ended") ? [call.answered] : []
    }))
  ]))
  const holders = ({ answered, asked }: Call) =>
    starts.filter((other) =>
      !turnedAway(other) && other.asked < answered && (leftAt.get(other) ?? other.answered) > asked
    ).length
  return [
    ...most > maxRunning ? [`${most} jobs live at once`] : [],
    ...starts.filter((start) => turnedAway(start) && holders(start) < maxRunning)
      .map((start) => `a start was turned away while ${holders(start)} of ${maxRunning} places could be taken`)
  ]
}

const mostAlive = (scripts: History["scripts"], trace: History["trace"]): number => {
  const leaders = new Map<number, number>()
  const alive = new Map<number, number>()
  let most = 0
  for (const { _tag, command, pid } of trace) {
    if (_tag === "Spawned" && !leaders.has(pid)) {
      const size = 1 + (scripts[command]?.children?.length ?? 0)
      for (let member = pid; member < pid + size; member++) leaders.set(member, pid)
      alive.set(pid, size)
    } else if (_tag === "Exited") {
      const leader = leaders.get(pid) ?? pid
      const left = (alive.get(leader) ?? 0) - 1
      if (left > 0) alive.set(leader, left)
      else alive.delete(leader)
    }
    most = Math.max(most, alive.size)
  }
  return most
}
