import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  writeFileSync,
} from 'node:fs'
import { mkdir, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Capabilities } from '../../bundle/spec-process.ts'
import { SyscallError } from '../../errors.ts'
import { fsconfigCreate, fsmount, fsopen } from '../../linux/calls/mounts.ts'
import { capabilityNames } from '../../linux/capabilities.ts'
import { perform } from '../../linux/local.ts'
import { startTimeOf } from '../processes.ts'
import { CapabilityEvents } from './capability-events.ts'
import type { CapabilityWatch } from './learning.ts'

/** Of the pid namespace that the machine starts with (include/linux/proc_ns.h, PROC_PID_INIT_INO). */
const firstPidNamespace = 'pid:[4026531836]'
/** KiB that the kernel keeps for each processor: more than is written between two looks. */
const bufferSize = 512
const event = 'events/capability/cap_capable'
const settings: readonly (readonly [file: string, value: string])[] = [
  ['buffer_size_kb', String(bufferSize)],
  // What does not fit is counted, instead of taking the place of what was there.
  ['options/overwrite', '0'],
  ['options/event-fork', '1'],
  // Only where it was asked for tells whether that was for the program.
  ['options/stacktrace', '1'],
  [`${event}/filter`, 'ret == 0'],
]
const inNamespace = 'this process is in a pid namespace of its own, and tracefs tells processes by their pids outside'
const noTracepoint = 'the kernel has no tracepoint capability:cap_capable; Linux 6.13 has it'

let count = 0

/** What a trace is written to: an instance of tracefs, apart from what others trace. */
interface Instance {
  readonly path: string
  /** The file system, which is mounted nowhere. */
  readonly mount: number
  readonly pipe: number
}

/**
 * The capabilities that the kernel found when it asked for them, in a program and all that come of it (tracepoint
 * capability:cap_capable, Linux 6.13).
 */
export class CapabilityTrace implements CapabilityWatch {
  /** Why it knows nothing, or not all. */
  unknown: string | undefined
  private readonly events = new CapabilityEvents()
  private readonly grants = new Set<string>()
  private opening: Promise<Instance | undefined> | undefined
  private instance: Instance | undefined
  private closing: Promise<void> | undefined

  /** What else is asked for successfully, by the kernel itself or in user namespaces of the program's own, does not count. */
  grant(capabilities: Capabilities | undefined): void {
    const { bounding, permitted = [], ambient = [] } = capabilities ?? { bounding: capabilityNames }
    for (const name of [...(bounding ?? []), ...permitted, ...ambient]) this.grants.add(name)
  }

  /** The names of those that were found and granted. */
  get used(): ReadonlySet<string> {
    return new Set(
      [...this.events.found].map((number) => capabilityNames[number] ?? '').filter((n) => this.grants.has(n)),
    )
  }

  /** Follows a thread, and what comes of it, from now on. Never rejects. */
  async follow(pid: number): Promise<void> {
    this.opening ??= this.open()
    const instance = await this.opening
    if (instance === undefined || this.closing !== undefined) return
    try {
      // Who is followed comes first: without any that would be the whole machine.
      writeFileSync(join(instance.path, 'set_event_pid'), String(pid), { flag: 'a' })
      writeFileSync(join(instance.path, event, 'enable'), '1')
    } catch (error) {
      this.fail(error)
    }
  }

  look(): void {
    const { instance } = this
    if (instance === undefined) return
    try {
      this.readAll(instance.pipe)
      if (lost(instance.path) > 0) this.unknown ??= 'more was asked for than the buffer of the kernel held'
    } catch (error) {
      this.fail(error)
    }
  }

  /** Ends it; what was found stays. Idempotent. */
  close(): Promise<void> {
    this.look()
    this.closing ??= this.end()
    return this.closing
  }

  private async end(): Promise<void> {
    await this.opening
    const { instance } = this
    this.instance = undefined
    if (instance === undefined) return
    closeSync(instance.pipe)
    await rmdir(instance.path).catch(() => {})
    closeSync(instance.mount)
  }

  private readAll(pipe: number): void {
    const chunk = Buffer.allocUnsafe(65_536)
    try {
      for (;;) {
        const size = readSync(pipe, chunk)
        if (size === 0) return
        this.events.read(chunk.toString('latin1', 0, size))
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }

  private async open(): Promise<Instance | undefined> {
    let mount: number | undefined
    try {
      if (readlinkSync('/proc/self/ns/pid') !== firstPidNamespace) throw new Unknown(inNamespace)
      mount = mountTracefs()
      const directory = `/proc/self/fd/${mount}`
      if (!existsSync(join(directory, event))) throw new Unknown(noTracepoint)
      const instances = join(directory, 'instances')
      await removeLeftOver(instances)
      const path = join(instances, `oci-ts-${process.pid}-${startTimeOf(process.pid)}-${++count}`)
      const pipe = await makeInstance(path)
      this.instance = { path, mount, pipe }
      return this.instance
    } catch (error) {
      this.fail(error)
      if (mount !== undefined) closeSync(mount)
      return undefined
    }
  }

  private fail(error: unknown): void {
    const hint = error instanceof SyscallError && error.errnoName === 'EPERM' ? ' (that takes root on the host)' : ''
    const text = (error as Error).message
    this.unknown ??= error instanceof Unknown ? text : `tracefs can't be used${hint}: ${text}`
  }
}

/** Why nothing can be known, in words of its own. */
class Unknown extends Error {}

function mountTracefs(): number {
  const why = { step: 'mount tracefs' }
  const context = perform(fsopen('tracefs', why))
  try {
    perform(fsconfigCreate(context, why))
    return perform(fsmount(context, 0, why))
  } finally {
    closeSync(context)
  }
}

/** @returns a descriptor of what it writes. */
async function makeInstance(path: string): Promise<number> {
  await mkdir(path)
  try {
    for (const [file, value] of settings) writeFileSync(join(path, file), value)
    return openSync(join(path, 'trace_pipe'), constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    await rmdir(path).catch(() => {})
    throw error
  }
}

/** Events that the buffer had no room for. */
function lost(path: string): number {
  const processors = join(path, 'per_cpu')
  const counts = readdirSync(processors).map((name) => {
    const text = readFileSync(join(processors, name, 'stats'), 'latin1')
    return Number(/^dropped events: (\d+)$/m.exec(text)?.[1] ?? 0)
  })
  return counts.reduce((all, each) => all + each, 0)
}

/** Removes the instances of processes that ended without doing so. */
async function removeLeftOver(instances: string): Promise<void> {
  for (const name of readdirSync(instances)) {
    const [, pid, since] = /^oci-ts-(\d+)-(\d+)-\d+$/.exec(name) ?? []
    if (pid !== undefined && startTimeOf(Number(pid)) !== since) await rmdir(join(instances, name)).catch(() => {})
  }
}
