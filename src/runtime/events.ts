import { type FSWatcher, watch } from 'node:fs'
import { join } from 'node:path'
import { ConflictError, InvalidArgumentError } from '../errors.ts'
import { onAbort } from '../internal/abort.ts'
import { hasCode } from '../internal/file-error.ts'
import { type Duration, toMilliseconds } from '../internal/units.ts'
import { isFrozen } from './cgroups/freezer.ts'
import { type CgroupLocation, locateCgroup, numbersOf, readCgroupFile } from './cgroups/location.ts'
import { type PressureTrigger, watchPressure } from './cgroups/pressure.ts'
import { type LookupOptions, statusOf } from './lookup.ts'
import { type ContainerRecord, defaultStateRoot, readRecord } from './state-directory.ts'
import { statsOf } from './stats/stats.ts'
import type { ContainerStats } from './stats/types.ts'
import { untilEnded } from './wait.ts'

/** Options of {@link events}. */
export interface EventsOptions extends LookupOptions {
  /** Time between two `stats` events; none come when it is 0. Default 5 seconds. */
  readonly interval?: Duration | undefined
  /** Stalls to be told of, each as a `pressure` event. Default none. */
  readonly pressure?: readonly PressureTrigger[] | undefined
  /** Aborting ends the iteration; it does not throw. */
  readonly signal?: AbortSignal | undefined
}

/** Something that happened to a container. */
export type ContainerEvent =
  | { readonly type: 'stats'; readonly stats: ContainerStats }
  /** The out-of-memory killer struck; `kills` is how often it has so far. */
  | { readonly type: 'oom'; readonly kills: number }
  | { readonly type: 'paused' | 'resumed' }
  | { readonly type: 'pressure'; readonly trigger: PressureTrigger }

/** How often a version 1 cgroup, which tells nothing by itself, is looked at; in milliseconds. */
const lookAgain = 100

/**
 * What happens to a container of any process, until it ends. The first `stats` come at once.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it does not run.
 * @throws InvalidArgumentError for options that can't be used. @throws UnsupportedError for pressure that this kernel
 * does not measure.
 */
export async function* events(id: string, options: EventsOptions = {}): AsyncGenerator<ContainerEvent, void, void> {
  yield* eventsOf(await readRecord(options.stateRoot ?? defaultStateRoot(), id), options)
}

/** What happens to the container of a record. */
export async function* eventsOf(
  record: ContainerRecord,
  options: EventsOptions = {},
): AsyncGenerator<ContainerEvent, void, void> {
  const interval = toMilliseconds(options.interval ?? '5s', 'interval')
  if (!Array.isArray(options.pressure ?? [])) throw new InvalidArgumentError('pressure must be a list of triggers')
  const status = statusOf(record)
  if (status === 'stopped' || status === 'creating') {
    throw new ConflictError(record.id, `container ${record.id} is not running`)
  }
  const queue = new EventQueue(record, interval)
  const end = new AbortController()
  const stop = (): void => end.abort()
  const unlink = onAbort(options.signal, stop)
  try {
    queue.watch()
    // None of these rejects but for a fault that the reader should learn of.
    const sources = (options.pressure ?? []).map((trigger) =>
      watchPressure(locateCgroup(record.cgroups), trigger, () => queue.push({ type: 'pressure', trigger }), end.signal),
    )
    void untilEnded(record, end.signal)
      .catch(() => {})
      .then(() => queue.end())
    for (const source of sources) source.catch((error: unknown) => queue.fail(end.signal.aborted ? undefined : error))
    yield* queue.read()
  } finally {
    unlink()
    stop()
    queue.close()
  }
}

/** Events that wait to be read. What comes too often to be read is told once. */
class EventQueue {
  private readonly record: ContainerRecord
  private readonly location: CgroupLocation
  private readonly interval: number
  private readonly waiting: ContainerEvent[] = []
  private readonly watchers: FSWatcher[] = []
  private readonly timers: NodeJS.Timeout[] = []
  private frozen: boolean
  private kills: number
  private state: 'open' | 'ended' | { readonly error: unknown } = 'open'
  private wake: () => void = () => {}

  constructor(record: ContainerRecord, interval: number) {
    this.record = record
    this.interval = interval
    this.location = locateCgroup(record.cgroups)
    this.frozen = isFrozen(this.location)
    this.kills = this.oomKills()
  }

  /** The kernel tells of changes of version 2's event files; those of version 1 have to be looked at. */
  watch(): void {
    const { v1, v2 } = this.location
    const look = (): void => this.look()
    for (const name of v2 === undefined ? [] : ['cgroup.events', 'memory.events']) {
      try {
        this.watchers.push(watch(join(v2 ?? '', name), look))
      } catch (error) {
        if (!hasCode(error, 'ENOENT')) throw error
      }
    }
    for (const watcher of this.watchers) watcher.on('error', () => {})
    if (v1.has('memory') || (v2 === undefined && v1.has('freezer'))) this.timers.push(setInterval(look, lookAgain))
    if (this.interval > 0) {
      const measure = (): void => void this.measure()
      measure()
      this.timers.push(setInterval(measure, this.interval))
    }
  }

  async *read(): AsyncGenerator<ContainerEvent, void, void> {
    for (;;) {
      const event = this.waiting.shift()
      if (event !== undefined) yield event
      else if (this.state === 'ended') return
      else if (this.state !== 'open') throw this.state.error
      else {
        await new Promise<void>((resolve) => {
          this.wake = resolve
        })
      }
    }
  }

  push(event: ContainerEvent): void {
    // The latest numbers replace those that nobody has read.
    const same = this.waiting.findIndex((each) => each.type === event.type && event.type !== 'oom')
    if (same >= 0) this.waiting.splice(same, 1)
    this.waiting.push(event)
    this.wake()
  }

  /** The container has ended; what happened last is still told. */
  end(): void {
    if (this.state !== 'open') return
    this.look()
    this.state = 'ended'
    this.wake()
  }

  fail(error: unknown): void {
    if (this.state !== 'open') return
    this.state = error === undefined ? 'ended' : { error }
    this.wake()
  }

  close(): void {
    for (const watcher of this.watchers) watcher.close()
    for (const timer of this.timers) clearInterval(timer)
  }

  private look(): void {
    const frozen = isFrozen(this.location)
    if (frozen !== this.frozen) this.push({ type: frozen ? 'paused' : 'resumed' })
    this.frozen = frozen
    const kills = this.oomKills()
    if (kills > this.kills) this.push({ type: 'oom', kills })
    this.kills = Math.max(this.kills, kills)
  }

  private async measure(): Promise<void> {
    try {
      const stats = await statsOf(this.record)
      if (this.state === 'open') this.push({ type: 'stats', stats })
    } catch {
      // It has just ended, which is told in another way.
    }
  }

  private oomKills(): number {
    const text = readCgroupFile(this.location, 'memory', { v1: 'memory.oom_control', v2: 'memory.events' })
    return numbersOf(text).oom_kill ?? 0
  }
}
