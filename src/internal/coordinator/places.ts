/**
 * The places among the running jobs. A job holds one from before its process is made until it has ended.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { JobLimitReached } from "../../JobError.ts"
import type { Share } from "../telemetry/telemetry.ts"

export class Place {
  state: "wanted" | "taken" | "left" = "wanted"
}

export class Places {
  private readonly limit: number
  private readonly taken: Share
  private readonly empty = Effect.unsafeMakeLatch(true)

  constructor(limit: number, taken: Share) {
    this.limit = limit
    this.taken = taken
  }

  /** Waits until no place is taken. */
  get awaitEmpty(): Effect.Effect<void> {
    return this.empty.await
  }

  take(place: Place): Exit.Exit<void, JobLimitReached> {
    if (this.taken.value >= this.limit) {
      return Exit.fail(new JobLimitReached({ limit: this.limit }, { disableValidation: true }))
    }
    if (place.state === "wanted") {
      place.state = "taken"
      this.taken.add(1)
      this.empty.unsafeClose()
    }
    return Exit.void
  }

  leave(place: Place): void {
    if (place.state === "taken") this.taken.add(-1)
    place.state = "left"
    if (this.taken.value === 0) this.empty.unsafeOpen()
  }
}
