/** Where a container is in its life (runtime-spec, runtime.md, "State"). */
export type ContainerStatus = 'creating' | 'created' | 'running' | 'stopped'

/** The state of a container (runtime-spec, runtime.md, "State"); hooks get it on standard input. */
export interface State {
  readonly ociVersion: string
  /** Unique on the host. */
  readonly id: string
  /** Runtimes may add values of their own, `paused` for one. */
  readonly status: ContainerStatus | 'paused' | (string & {})
  /** Process id as the host sees it; set when created or running. */
  readonly pid?: number
  /** Absolute path of the bundle. */
  readonly bundle: string
  readonly annotations?: Readonly<Record<string, string>>
}

/** What a seccomp listener gets beside the descriptor (config-linux.md, "The Container Process State"). */
export interface ContainerProcessState {
  readonly ociVersion: string
  /** Names of the descriptors passed, in their order. */
  readonly fds?: readonly string[]
  readonly pid: number
  readonly metadata?: string
  readonly state: State
}
