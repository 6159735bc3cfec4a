/** A difference between what a container is and what its config asked for. */
export interface AuditFinding {
  readonly kind:
    | 'capabilities'
    | 'cgroup'
    | 'identity'
    | 'label'
    | 'mount'
    | 'namespace'
    | 'no-new-privileges'
    | 'resource-limit'
    | 'seccomp'
  /** `weaker` when the container may do more than was asked for; `different` for all else. */
  readonly severity: 'weaker' | 'different'
  /** JSON Pointer into config.json. */
  readonly pointer: string
  readonly expected: string
  readonly actual: string
}

/** What is looked at. */
export interface AuditSubject {
  /** The first process, as the host sees it. */
  readonly pid: number
  /** A file of it in /proc; empty when there is none. */
  read(name: string): string
}

/** The value behind a name in /proc/<pid>/status. */
export function statusField({ read }: AuditSubject, name: string): string {
  return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(read('status'))?.[1]?.trim() ?? ''
}
