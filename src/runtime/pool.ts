import { randomBytes } from 'node:crypto'
import { InvalidArgumentError } from '../errors.ts'
import type { RuntimeContainer } from './container.ts'
import { type CreateOptions, createParked } from './create.ts'
import type { ParkedContainer } from './parked.ts'
import { checkRun, type PoolProcess, type PoolRunOptions } from './run-plan.ts'
import { checkId } from './state-directory.ts'
import { checkSize, WarmPool } from './warm-pool.ts'

/** Options of {@link createPool}: what all its containers have in common. */
export interface PoolOptions
  extends Pick<
    CreateOptions,
    'spec' | 'bundle' | 'overlay' | 'accounting' | 'cgroup' | 'stateRoot' | 'newKeyring' | 'hooks'
  > {
  /** How many containers are kept ready; each takes some 100 KB. 1 to 1000. */
  readonly size: number
  /** What the ids of its containers begin with. Default `pool-` and 8 random digits. */
  readonly id?: string | undefined
}

/**
 * Keeps containers ready: namespaces made, cgroup joined, root and mounts in place. A run then is one batch of system calls.
 * It is filled in the background, and again when containers are taken or killed.
 *
 * Fixed are mounts, namespaces, limits, seccomp, labels and all else of the config; what a run may choose is
 * {@link PoolProcess} and {@link PoolRunOptions}. Each run has a container of its own, which is used once. Hooks up to
 * `createContainer` are run when it is made ready, the others with the run.
 *
 * Nothing of it outlives this process, and it does not keep this process alive.
 * @throws InvalidArgumentError for a size or a config that a pool can't have. What making a container throws, is thrown by
 * {@link Pool.run} and {@link Pool.full}.
 */
export function createPool(options: PoolOptions): Pool {
  const { size, id = `pool-${randomBytes(4).toString('hex')}` } = options
  checkSize(size)
  checkId(id)
  refuseShared(options)
  return new Pool(options, id)
}

/** Containers that wait for what they are to run; see {@link createPool}. */
export class Pool implements AsyncDisposable {
  private readonly options: PoolOptions
  private readonly spares: WarmPool<ParkedContainer>
  private count = 0

  /** @internal */
  constructor(options: PoolOptions, id: string) {
    const { size, ...common } = options
    this.options = options
    this.spares = new WarmPool(size, (early) => createParked({ ...common, id: `${id}-${++this.count}` }, early))
  }

  /** How many containers are ready at this moment. */
  get ready(): number {
    return this.spares.ready
  }

  /** Resolves when it is full. @throws what making a container throws. */
  full(): Promise<void> {
    return this.spares.whenReady()
  }

  /**
   * Runs a program in a container of the pool, or in the next one that is ready. Resolves when the kernel has accepted it.
   * The container is the caller's: `delete` removes it.
   * @param process What it runs, and how; what is not given is as the pool's config has it.
   * @throws RuntimeError naming the step that failed; the container then is gone. @throws InvalidArgumentError for what can't
   * be used. @throws ConflictError when the pool is closed.
   */
  async run(process: PoolProcess = {}, options: PoolRunOptions = {}): Promise<RuntimeContainer> {
    checkRun(this.options.spec, process, options.hostname)
    return this.spares.use((parked) => parked.run(process, options), options.signal)
  }

  /** Removes the containers that are ready. Those that run are their users'. Idempotent. */
  close(): Promise<void> {
    return this.spares.close()
  }

  /** As {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** Refuses what only one container can have. */
function refuseShared({ spec, overlay }: PoolOptions): void {
  const refuse = (subject: string, hint: string): never => {
    throw new InvalidArgumentError(`the containers of a pool can't share ${subject}`, { subject, hint })
  }
  if (spec.process?.terminal === true)
    refuse('process.terminal', 'Run what needs a terminal by createContainer or exec.')
  if (spec.linux?.cgroupsPath) refuse('linux.cgroupsPath', 'Leave it out: each gets a cgroup named after its id.')
  if (overlay?.upper !== undefined) {
    refuse('overlay.upper', 'Give lower layers only; createPool of an engine makes a writable layer for each.')
  }
}
