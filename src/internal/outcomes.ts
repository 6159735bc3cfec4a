/** How a container or a process in it ended. */
export interface ExitStatus {
  /** Exit code 0 to 255; 128 + n when signal n ended it, as shells and Docker report it. */
  readonly code: number
  /** Name of the signal that ended it, for example `SIGKILL`. */
  readonly signal: NodeJS.Signals | undefined
  /** Whether the kernel's out-of-memory killer struck in its cgroup. */
  readonly oomKilled: boolean
}

/** What a program in a container has written so far, and how it ended. */
export interface ExecOutcome {
  readonly stdout: string
  readonly stderr: string
  readonly exitCode: number
  readonly signal: NodeJS.Signals | undefined
}

/** What an error says of it: the reason, and the last lines of its errors, which is what one wants to see first. */
export function describeOutcome(subject: string, outcome: ExecOutcome, cause: unknown): string {
  const how = outcome.signal === undefined ? `exit code ${outcome.exitCode}` : `killed by ${outcome.signal}`
  const why = cause instanceof Error ? cause.message : `${subject} failed: ${how}`
  const last = outcome.stderr.trimEnd().split('\n').slice(-10).join('\n').slice(-2000)
  return last === '' ? why : `${why}\n\n${last}`
}
