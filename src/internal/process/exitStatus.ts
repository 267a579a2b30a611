/**
 * How a process ended, from what Node tells of it.
 */
import * as Schema from "effect/Schema"
import { type Ended, Exited, Killed, Signal } from "../../JobStatus.ts"

/** Node names no real-time signal, and gives code 0 for it: that cannot be told from an exit. */
export const fromNode = (code: number | null, signal: string | null): Ended =>
  signal === null
    ? new Exited({ code: code ?? 0 }, { disableValidation: true })
    : new Killed({ signal: isSignal(signal) ? signal : "UNKNOWN" }, { disableValidation: true })

/** Other systems have signals of their own. */
const isSignal = Schema.is(Signal)
