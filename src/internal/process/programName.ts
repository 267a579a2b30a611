/**
 * The name by which errors, spans and logs tell of a program.
 */
import type { JobSpec } from "../../JobSpec.ts"

/** What the operating system is asked for: the program, or the shell that runs a line. */
export const fileOf = ({ command, shell }: Pick<JobSpec, "command" | "shell">): string =>
  shell === false ? command : shell === true ? "/bin/sh" : shell

/**
 * Who gives a whole line as one, such as "echo hello", gets its first word alone, up to a "=": the rest are arguments and
 * variables, and may be secret.
 */
export const nameOf = (spec: Pick<JobSpec, "command" | "shell">): string => {
  const file = fileOf(spec)
  const [, first] = /^\s*([^\s=]*)\S*\s+\S/.exec(file) ?? []
  return first === undefined ? file : `${first} …`
}
