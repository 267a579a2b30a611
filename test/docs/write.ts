/** Writes the reference into `docs`. */
import { join } from "node:path"
import { project } from "./examples.ts"
import * as Reference from "./reference.ts"

await Reference.write(join(project, "docs"))
