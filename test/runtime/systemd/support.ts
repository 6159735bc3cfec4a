import { existsSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Message } from '../../../src/linux/dbus/message.ts'
import type { Variant } from '../../../src/linux/dbus/signature.ts'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'
import { expandSlice } from '../../../src/runtime/systemd/scope.ts'
import { type Answer, TestService } from '../../linux/dbus/support.ts'

const manager = 'org.freedesktop.systemd1.Manager'

/**
 * Plays systemd on a bus, also where no real one runs, and as none would: jobs that fail. It does with the version 2 tree what systemd does: makes the
 * cgroup of a scope, puts the processes in, and removes it when the unit is stopped.
 */
export class PlayedSystemd {
  /** Units that are there, with their properties. */
  readonly units: Map<string, Map<string, unknown>> = new Map()
  /** Members that were called, with the unit. */
  readonly calls: string[] = []
  /** How the next job ends. */
  result: string = 'done'
  private readonly made: string[] = []
  private service: TestService | undefined
  private jobs = 0

  static async start(path: string): Promise<PlayedSystemd> {
    const played = new PlayedSystemd()
    played.service = await TestService.start(path, 'org.freedesktop.systemd1', (call) => played.answer(call))
    return played
  }

  /** Removes the slices that were made. */
  stop(): void {
    this.service?.stop()
    for (const directory of this.made.reverse()) if (existsSync(directory)) rmdirSync(directory)
  }

  /** Directory of a unit's cgroup. */
  directoryOf(unit: string): string {
    const slice = String(this.units.get(unit)?.get('Slice') ?? 'system.slice')
    return join(hostHierarchies().v2?.mountPoint ?? '', expandSlice(slice), unit)
  }

  private answer({ member = '', body = [] }: Message): Answer {
    const [unit] = body as readonly string[]
    if (member === 'Get') {
      return { signature: 'v', body: [{ signature: 's', value: body[1] === 'Version' ? '252.39-1~deb12u1' : '' }] }
    }
    this.calls.push(unit === undefined ? member : `${member} ${unit}`)
    if (unit === undefined) return {}
    if (member === 'StartTransientUnit') return this.startUnit(unit, body[2] as readonly [string, Variant][])
    const properties = this.units.get(unit)
    if (properties === undefined) return { error: 'org.freedesktop.systemd1.NoSuchUnit' }
    if (member === 'StopUnit') {
      this.units.delete(unit)
      return this.job(unit)
    }
    for (const [name, { value }] of body[2] as readonly [string, Variant][]) properties.set(name, value)
    return {}
  }

  private startUnit(unit: string, properties: readonly [string, Variant][]): Answer {
    if (this.units.has(unit)) return { error: 'org.freedesktop.systemd1.UnitExists' }
    if (this.result === 'done') {
      this.units.set(unit, new Map(properties.map(([name, { value }]) => [name, value])))
      const directory = this.directoryOf(unit)
      this.make(directory)
      const pids = this.units.get(unit)?.get('PIDs') as readonly number[]
      for (const pid of pids) writeFileSync(join(directory, 'cgroup.procs'), String(pid))
    }
    return this.job(unit)
  }

  private make(directory: string): void {
    if (existsSync(directory)) return
    this.make(dirname(directory))
    mkdirSync(directory)
    this.made.push(directory)
  }

  private job(unit: string): Answer {
    const id = ++this.jobs
    const job = `/org/freedesktop/systemd1/job/${id}`
    const signal = { path: '/org/freedesktop/systemd1', interface: manager, member: 'JobRemoved', signature: 'uoss' }
    const { result } = this
    // Behind the answer, as the real one.
    setImmediate(() => this.service?.signal({ ...signal, body: [id, job, unit, result] }))
    return { signature: 'o', body: [job] }
  }
}
