import type { Spec } from '../bundle/spec.ts'
import { ConflictError, type ExitStatus, NotFoundError } from '../errors.ts'
import { killedWithMonitor } from '../runtime/exit.ts'
import {
  addMount,
  audit,
  deleteContainer,
  type ExecOptions,
  type ExecProcess,
  events,
  exec,
  kill,
  killAll,
  type LookupOptions,
  pause,
  type RuntimeProcess,
  removeMount,
  resume,
  state,
  stats,
  top,
  update,
  usage,
  wait,
} from '../runtime/index.ts'
import { readConfig } from '../runtime/state-directory.ts'
import type { Store } from '../store/index.ts'
import type { ContainerIds, ContainerRoot } from './container-root.ts'
import { type DetachedRecord, directoryOf } from './detached-record.ts'
import { LogFiles } from './log-files.ts'
import type { LiveContainer, Runner } from './runner.ts'

/**
 * Runs a container that lives without any process of ours: everything is asked of the runtime by the id,
 * in the process that made the container as in any other.
 */
export class DetachedRunner implements Runner {
  readonly id: string
  readonly pid: number
  readonly warnings: readonly string[]
  readonly stdin: undefined
  readonly store: Store
  readonly output: LogFiles
  readonly live: LiveContainer
  private readonly stateRoot: string
  private readonly ids: ContainerIds | undefined
  private end: Promise<ExitStatus> | undefined

  constructor(store: Store, record: DetachedRecord, pid: number, warnings: readonly string[]) {
    this.store = store
    this.id = record.id
    this.pid = pid
    this.warnings = warnings
    this.stateRoot = record.stateRoot
    this.live = liveById(record.id, { stateRoot: record.stateRoot })
    this.ids = record.ids
    this.output = new LogFiles(directoryOf(store, record.id), record.name, () => this.isRunning())
  }

  /** Asked for only when somebody wants to know: the wait keeps this process alive. */
  get exited(): Promise<ExitStatus> {
    // A container that is gone, by another process or a restart of the machine, can't be asked any more.
    this.end ??= wait(this.id, { stateRoot: this.stateRoot }).catch(() => killedWithMonitor)
    return this.end
  }

  kill(signal: string | number): Promise<void> {
    return kill(this.id, signal, { stateRoot: this.stateRoot })
  }

  config(): Promise<Spec> {
    return readConfig(this.stateRoot, this.id)
  }

  exec(process: ExecProcess, options: ExecOptions): Promise<RuntimeProcess> {
    return exec(this.id, process, { ...options, stateRoot: this.stateRoot })
  }

  resize(): never {
    throw new ConflictError(this.id, `container ${this.id} has no terminal: it is detached`)
  }

  async root(): Promise<ContainerRoot> {
    const layer = await this.store.openWritable(this.id)
    const found = await state(this.id, { stateRoot: this.stateRoot }).catch(ignoreMissing)
    return { layer, ids: this.ids, pid: found?.status === 'running' ? found.pid : undefined }
  }

  async remove(): Promise<void> {
    const { id, stateRoot } = this
    await this.kill('SIGKILL').catch((error: unknown) => {
      if (!(error instanceof ConflictError)) ignoreMissing(error)
    })
    // Read before the record of it goes.
    await this.exited
    await deleteContainer(id, { force: true, stateRoot }).catch(ignoreMissing)
    await this.store.removeWritable(id)
  }

  private async isRunning(): Promise<boolean> {
    const found = await state(this.id, { stateRoot: this.stateRoot }).catch(ignoreMissing)
    return ['running', 'created', 'paused'].includes(found?.status ?? '')
  }
}

function liveById(id: string, where: LookupOptions): LiveContainer {
  return {
    killAll: (signal) => killAll(id, signal, where),
    usage: () => usage(id, where),
    pause: (options) => pause(id, { ...options, ...where }),
    resume: () => resume(id, where),
    update: (resources) => update(id, resources, where),
    stats: () => stats(id, where),
    top: () => top(id, where),
    events: (options) => events(id, { ...options, ...where }),
    addMount: (mount) => addMount(id, mount, where),
    removeMount: (destination) => removeMount(id, destination, where),
    audit: () => audit(id, where),
  }
}

/** Another process was first, or the machine has been restarted, which empties the run state. */
function ignoreMissing(error: unknown): undefined {
  if (!(error instanceof NotFoundError)) throw error
}
