import { existsSync } from 'node:fs'
import type { Writable } from 'node:stream'
import type { Spec } from '../bundle/spec.ts'
import { ConflictError, type ExitStatus, NotFoundError } from '../errors.ts'
import type { ExecOptions, ExecProcess, RuntimeContainer, RuntimeProcess } from '../runtime/index.ts'
import type { Store, WritableLayer } from '../store/index.ts'
import type { ContainerIds, ContainerRoot } from './container-root.ts'
import type { Output } from './output.ts'
import type { Runner } from './runner.ts'
import type { Stdio } from './stdio.ts'

/** What an attached container is made of. */
export interface AttachedParts {
  readonly runtime: RuntimeContainer
  readonly output: Output
  readonly stdio: Pick<Stdio, 'stdin' | 'close'>
  readonly store: Store
  readonly layer: WritableLayer
  /** Ids of its user namespace; undefined without one. */
  readonly ids: ContainerIds | undefined
  /** Whether the user writes to its input. */
  readonly offersInput: boolean
}

/** Runs a container that dies with this process. */
export class AttachedRunner implements Runner {
  readonly id: string
  readonly pid: number
  readonly warnings: readonly string[]
  readonly stdin: Writable | undefined
  readonly store: Store
  readonly output: Output
  readonly exited: Promise<ExitStatus>
  private readonly parts: AttachedParts

  constructor(parts: AttachedParts) {
    const { runtime, output, stdio } = parts
    this.parts = parts
    this.id = runtime.id
    this.pid = runtime.pid
    this.warnings = [...runtime.warnings, ...parts.layer.warnings]
    this.stdin = parts.offersInput ? stdio.stdin : undefined
    this.store = parts.store
    this.output = output
    this.exited = this.untilEnd()
  }

  get live(): RuntimeContainer {
    return this.parts.runtime
  }

  async kill(signal: string | number): Promise<void> {
    this.parts.runtime.kill(signal)
  }

  async config(): Promise<Spec> {
    return this.parts.runtime.config
  }

  exec(process: ExecProcess, options: ExecOptions): Promise<RuntimeProcess> {
    return this.parts.runtime.exec(process, options)
  }

  resize(columns: number, rows: number): void {
    const { terminal } = this.parts.runtime
    if (terminal === undefined) throw new ConflictError(this.id, `container ${this.id} has no terminal`)
    terminal.resize(columns, rows)
  }

  async root(): Promise<ContainerRoot> {
    const { layer, ids, runtime } = this.parts
    if (!existsSync(layer.upper)) throw new NotFoundError(this.id, `container ${this.id} has been removed`)
    return { layer, ids, pid: runtime.state.status === 'running' ? this.pid : undefined }
  }

  async remove(): Promise<void> {
    const { runtime, stdio, layer } = this.parts
    await runtime.delete({ force: true })
    await this.exited
    stdio.close()
    await layer.remove()
  }

  private async untilEnd(): Promise<ExitStatus> {
    const { runtime, output, stdio } = this.parts
    const status = await runtime.exited
    // Nobody reads it any more; what a terminal has shown last is still to be read.
    if (runtime.terminal === undefined) stdio.stdin?.destroy()
    await output.finish()
    return status
  }
}
