import { closeSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import { RuntimeError } from '../errors.ts'
import { hostArchitecture } from '../linux/architecture.ts'
import { close } from '../linux/calls/files.ts'
import { pidfdOpen } from '../linux/calls/processes.ts'
import { perform } from '../linux/local.ts'
import { Channel } from '../linux/remote/channel.ts'
import { Remote, socketPair } from '../linux/remote/remote.ts'
import type { Results } from '../linux/runner.ts'
import { directoriesOf, oomCounterPath, removeCgroup } from './cgroups/cgroup.ts'
import { RuntimeContainer } from './container.ts'
import { thisHost } from './host.ts'
import { writeIdMaps } from './id-maps.ts'
import { foundTarget } from './masks.ts'
import { descriptor, type Plan, planContainer } from './plan.ts'
import { ungrantable } from './process.ts'
import { processStat } from './processes.ts'
import type { OverlayRootfs } from './rootfs.ts'
import { seccompProgram } from './seccomp.ts'
import { type ContainerRecord, defaultStateRoot, StateDirectory } from './state-directory.ts'
import { stepFailed } from './step-error.ts'
import { sweep } from './sweep.ts'

/** Options of {@link createContainer}. */
export interface CreateOptions {
  /** Unique among the containers of `stateRoot`: letters, digits and `_ + . -`. */
  readonly id: string
  /** A valid config.json (runtime-spec 1.x); see `validateSpec` of oci-ts/bundle. */
  readonly spec: Spec
  /** Absolute path of the bundle. */
  readonly bundle: string
  /** Layers to mount as the root filesystem, inside the container's mount namespace. Default: `root.path` as it is. */
  readonly overlay?: OverlayRootfs | undefined
  /** Descriptors of this process that become 0, 1 and 2 of the container; they stay open here. Default /dev/null. */
  readonly stdio?: readonly [stdin: number | undefined, stdout: number | undefined, stderr: number | undefined]
  /** Whether the container goes on when this process ends. Default false: it is killed with it. */
  readonly detach?: boolean | undefined
  /** Where containers are recorded. Default `/run/oci-ts`, or below `$XDG_RUNTIME_DIR` without root. */
  readonly stateRoot?: string | undefined
  /** File to write the pid of the first process to. */
  readonly pidFile?: string | undefined
  /** Aborting rejects with `signal.reason` and leaves nothing behind. */
  readonly signal?: AbortSignal | undefined
}

const lockDescriptor = 6

/**
 * Makes a container: everything but its program runs (runtime-spec, runtime.md, "Create").
 * @throws RuntimeError naming the step that failed; nothing is left behind.
 * @throws ConflictError when the id is in use. @throws UnsupportedError for what this host can't do.
 */
export async function createContainer(options: CreateOptions): Promise<RuntimeContainer> {
  options.signal?.throwIfAborted()
  const root = options.stateRoot ?? defaultStateRoot()
  await sweep(root)
  const host = thisHost()
  const plan = planContainer({
    id: options.id,
    spec: options.spec,
    bundle: options.bundle,
    overlay: options.overlay,
    filter: seccompProgram(options.spec.linux?.seccomp),
    outlive: options.detach === true,
    manyIds: (options.spec.linux?.gidMappings ?? []).reduce((sum, map) => sum + map.size, 0) > 1,
    host,
  })
  const directory = StateDirectory.create(root, options.id)
  const creation = new Creation(options, plan, directory)
  try {
    return await creation.run()
  } catch (cause) {
    await creation.undo()
    throw stepFailed(options.id, cause)
  }
}

/** One creation: what has been made so far, so that it can be undone. */
class Creation {
  private readonly options: CreateOptions
  private readonly plan: Plan
  private readonly directory: StateDirectory
  private monitor: Remote | undefined
  private init: Channel | undefined
  private pidfd: number | undefined

  constructor(options: CreateOptions, plan: Plan, directory: StateDirectory) {
    this.options = options
    this.plan = plan
    this.directory = directory
  }

  async run(): Promise<RuntimeContainer> {
    const { options, plan, directory } = this
    const outlive = options.detach === true
    this.record({ pid: 0, startTime: '' })
    const { monitor, init } = this.spawn(outlive)
    const maps = plan.namespaces.isNew('user')
    // Handed over before there is anybody to read it: the first process finds it when it is born.
    const early = maps ? undefined : settled(init.run(plan.setup))
    const made = await monitor.run(plan.monitor)
    const pid = made.value(plan.clone)
    this.pidfd = perform(pidfdOpen(pid, { step: 'get hold of the container' }))
    if (maps) await writeIdMaps(pid, options.spec.linux)
    const setup = unsettled(await (early ?? settled(init.run(plan.setup))))
    options.signal?.throwIfAborted()
    const program = await this.finish(init, setup)
    options.signal?.throwIfAborted()

    const record = this.record({ pid, startTime: processStat(pid)?.startTime ?? '' })
    if (options.pidFile !== undefined) writeFileSync(options.pidFile, String(pid))
    const exitRecord = outlive ? join(directory.path, 'exit') : undefined
    const warnings = this.warnings()
    return new RuntimeContainer({
      record,
      directory,
      plan,
      program,
      monitor,
      init,
      pidfd: this.pidfd,
      exitRecord,
      warnings,
    })
  }

  /** Removes all that was made. Errors of it would hide the one that led here. */
  async undo(): Promise<void> {
    await this.init?.close()
    await this.monitor?.close().catch(() => {})
    if (this.pidfd !== undefined) closeSync(this.pidfd)
    await removeCgroup(directoriesOf(this.plan.cgroup)).catch(() => {})
    this.directory.remove()
  }

  private spawn(outlive: boolean): { readonly monitor: Remote; readonly init: Channel } {
    const pair = socketPair()
    this.init = new Channel(pair.here, { architecture: hostArchitecture(), outlive })
    try {
      const descriptors = new Map<number, number>([[descriptor.init, pair.there]])
      if (outlive) descriptors.set(lockDescriptor, this.directory.lock)
      this.options.stdio?.forEach((fd, index) => {
        if (fd !== undefined) descriptors.set(index, fd)
      })
      // The id maps of an ordinary user's namespace are written by way of /proc, which must show the process.
      const dumpable = this.plan.namespaces.isNew('user')
      this.monitor = Remote.spawn({ descriptors, outlive, dumpable })
      return { monitor: this.monitor, init: this.init }
    } finally {
      perform(close(pair.there))
    }
  }

  /** The second batch of the first process: masks, root, working directory. @returns path of the program. */
  private async finish(init: Channel, setup: Results): Promise<string> {
    const { plan, options } = this
    const found = plan.targets
      .filter((target) => setup.value(target.handle) >= 0)
      .map((target) => foundTarget(target, setup.value(target.handle), setup.bytes(target.stat)))
    const results = await init.run(plan.finish(found))
    const workingDirectory = results.bytes(plan.workingDirectory).toString('latin1')
    if (!workingDirectory.startsWith('/')) {
      const step = 'check the working directory'
      const message = `container ${options.id}: the working directory is outside of the container's root`
      throw new RuntimeError(message, { step, pointer: '/process/cwd', subject: options.id })
    }
    return chooseProgram(options, plan, results)
  }

  private record(of: { readonly pid: number; readonly startTime: string }): ContainerRecord {
    const { options, plan, directory } = this
    const { spec } = options
    const record: ContainerRecord = {
      ociVersion: spec.ociVersion,
      id: options.id,
      bundle: options.bundle,
      annotations: spec.annotations,
      ...of,
      started: false,
      cgroups: directoriesOf(plan.cgroup),
      oomCounter: oomCounterPath(plan.cgroup),
      outlive: options.detach === true,
      created: Date.now(),
    }
    directory.write(record)
    return record
  }

  private warnings(): readonly string[] {
    if (this.plan.namespaces.isNew('user')) return []
    const names = ungrantable(this.options.spec.process?.capabilities, thisHost().capabilities)
    return names.map((name) => `${name} can't be granted: this process does not have it`)
  }
}

/** The first candidate that can be executed. @throws RuntimeError when there is none. */
function chooseProgram(options: CreateOptions, plan: Plan, results: Results): string {
  const index = plan.lookups.findIndex((call) => results.value(call) === 0)
  const program = plan.programs[index]
  if (program !== undefined || plan.programs.length === 0) return program ?? ''
  const name = JSON.stringify(options.spec.process?.args?.[0])
  const denied = plan.lookups.some((call) => -results.value(call) === 13)
  const what = denied ? `${name}: permission denied` : `exec: ${name}: executable file not found in $PATH`
  throw new RuntimeError(`container ${options.id}: ${what}`, {
    step: 'find the program',
    pointer: '/process/args/0',
    subject: options.id,
    hint: `Looked for ${plan.programs.slice(0, 10).join(', ')}.`,
  })
}

type Settled<T> = { readonly value: T } | { readonly error: unknown }

/** A promise that does not reject, so that it may wait to be looked at. */
function settled<T>(promise: Promise<T>): Promise<Settled<T>> {
  return promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
}

function unsettled<T>(outcome: Settled<T>): T {
  if ('error' in outcome) throw outcome.error
  return outcome.value
}
