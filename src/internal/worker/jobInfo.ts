/**
 * A job as others see it, from what its worker and its log know.
 */
import * as DateTime from "effect/DateTime"
import * as Option from "effect/Option"
import { JobInfo } from "../../JobInfo.ts"
import type { Worker } from "./worker.ts"

export const infoOf = ({ broadcaster, id, process, spec, state }: Worker): JobInfo =>
  new JobInfo({
    id,
    spec,
    status: state.status,
    pid: process.pid,
    startedAt: DateTime.unsafeMake(state.startedAt),
    exitedAt: time(state.exitedAt),
    endedAt: time(state.endedAt),
    stopReason: Option.fromNullable(state.stopReason),
    output: {
      stdoutBytes: broadcaster.log.written.stdout,
      stderrBytes: broadcaster.log.written.stderr,
      evictedBytes: (broadcaster.archive ?? broadcaster.log).evictedBytes,
      cut: state.cut,
      storeError: broadcaster.archive?.error ?? Option.none()
    }
  }, { disableValidation: true })

const time = (millis: number | undefined): Option.Option<DateTime.Utc> =>
  Option.map(Option.fromNullable(millis), DateTime.unsafeMake)
