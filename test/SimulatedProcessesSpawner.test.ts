import * as JobSpec from "../src/JobSpec.ts"
import * as SimulatedProcesses from "../src/SimulatedProcesses.ts"
import { suite } from "./ProcessSpawner.suite.ts"

const layer = SimulatedProcesses.layer({
  writes: { output: [{ data: "out\n" }, { source: "stderr", data: "err\n" }], end: { at: "1 millis", code: 12 } },
  succeeds: { end: { code: 0 } },
  runs: {},
  ignoresTerm: { output: [{ data: "ready\n" }], ignores: ["SIGTERM"] },
  floods: { output: [{ data: "x".repeat(1024 * 1024) }], end: { code: 0 } },
  fillsPipe: { output: [{ source: "stderr", data: "ready\n" }, { data: new Uint8Array(69_632) }] },
  leavesChild: { output: [{ data: "1001\n" }], end: { code: 0 }, children: [{ holdsPipes: true }] },
  leavesEscapee: {
    output: [{ data: "1001\n" }],
    end: { code: 0 },
    children: [{ holdsPipes: true, escaped: true }]
  },
  copies: { onInput: (line) => ({ output: [{ data: line + "\n" }] }), onInputEnd: { end: { code: 0 } } },
  closesInput: { output: [{ data: "closed\n" }], closesInput: true },
  catches: {
    output: [{ data: "ready\n" }],
    onSignal: {
      SIGUSR1: { output: [{ data: "again\n" }] },
      SIGTERM: { output: [{ data: "bye\n" }], end: { code: 3 } }
    }
  },
  answers: {
    onInput: (line) =>
      line === "quit"
        ? { output: [{ data: "bye\n" }], end: { code: 4 } }
        : { output: [{ data: `hello ${line}\n` }] },
    onInputEnd: { output: [{ data: "end\n" }], end: { code: 5 } }
  },
  echoes: ({ args }) => ({ output: [{ data: `${args.at(-1)}\n` }], end: { code: 0 } }),
  NotFound: { failsToStart: "NotFound" },
  PermissionDenied: { failsToStart: "PermissionDenied" },
  InvalidDirectory: { failsToStart: "InvalidDirectory" },
  ArgumentListTooLong: { failsToStart: "ArgumentListTooLong" },
  ResourceExhausted: { failsToStart: "ResourceExhausted" },
  Unknown: { failsToStart: "Unknown" }
})

const program = (command: string, stdin: "ignore" | "pipe" = "ignore") => JobSpec.make({ command, stdin })

suite("SimulatedProcesses", layer, {
  writes: program("writes"),
  succeeds: program("succeeds"),
  runs: program("runs"),
  ignoresTerm: program("ignoresTerm"),
  floods: program("floods"),
  fillsPipe: program("fillsPipe"),
  leavesChild: program("leavesChild"),
  leavesEscapee: program("leavesEscapee"),
  copies: program("copies", "pipe"),
  neverReads: program("runs", "pipe"),
  closesInput: program("closesInput", "pipe"),
  catches: program("catches"),
  answers: program("answers", "pipe"),
  echoes: { ...program("echoes"), args: ["what it says"] },
  failures: {
    NotFound: program("NotFound"),
    PermissionDenied: program("PermissionDenied"),
    InvalidDirectory: program("InvalidDirectory"),
    ArgumentListTooLong: program("ArgumentListTooLong"),
    ResourceExhausted: program("ResourceExhausted"),
    Unknown: program("Unknown")
  }
}, {
  guarantee: "group",
  pipes: "tight",
  limits: "ignored",
  joins: true,
  kill: () => {}
})
