import { join } from 'node:path'
import { ConflictError, RuntimeError, TimeoutError, UnsupportedError } from '../../errors.ts'
import { DBusConnection, DBusError } from '../../linux/dbus/connection.ts'
import type { Message } from '../../linux/dbus/message.ts'
import type { Value, Variant } from '../../linux/dbus/signature.ts'

/** A property of a unit (org.freedesktop.systemd1(5)). */
export type Property = readonly [name: string, value: Variant]

const service = 'org.freedesktop.systemd1'
const manager = `${service}.Manager`
const path = '/org/freedesktop/systemd1'
const bus = { destination: 'org.freedesktop.DBus', path: '/org/freedesktop/DBus', interface: 'org.freedesktop.DBus' }
/** Milliseconds that systemd may take for a job. */
const patience = 30_000

/** Where systemd may be reached; straight or by way of a message bus. */
interface Address {
  readonly path: string
  readonly isBus: boolean
}

/** The systemd of this host, or of this user. */
export class SystemdManager implements AsyncDisposable {
  private readonly connection: DBusConnection
  /** Name of systemd's own connection to the bus: whose signals count. */
  private readonly owner: string | undefined

  private constructor(connection: DBusConnection, owner: string | undefined) {
    this.connection = connection
    this.owner = owner
  }

  /**
   * Connects to systemd: over the bus that `DBUS_SYSTEM_BUS_ADDRESS` names, or `DBUS_SESSION_BUS_ADDRESS` for a user's;
   * else over its own socket, or the bus in its usual place.
   * @throws UnsupportedError when none answers.
   */
  static async open(isUser: boolean): Promise<SystemdManager> {
    const addresses = addressesOf(isUser)
    let cause: unknown
    for (const address of addresses) {
      const opened = await openAt(address).catch((error: unknown) => {
        cause ??= error
      })
      if (opened !== undefined) return new SystemdManager(opened.connection, opened.owner)
    }
    const where = addresses.map((address) => address.path.replace('\0', '@')).join(', ') || '$XDG_RUNTIME_DIR'
    throw new UnsupportedError('making cgroups through systemd', `no systemd answers at ${where}`, {
      cause,
      hint: 'Make cgroups without it: cgroupManager: "cgroupfs", or no --systemd-cgroup.',
    })
  }

  /** The cgroup that its own are below, with a slash before it; empty for the root. */
  async controlGroup(): Promise<string> {
    return String(await this.property('ControlGroup')).replace(/\/$/, '')
  }

  /** Its version, as a number. */
  async version(): Promise<number> {
    return Number.parseInt(String(await this.property('Version')).replace(/^\D+/, ''), 10) || 0
  }

  /** Makes a unit, and waits until it is there. @throws ConflictError when there is one of that name. */
  async startTransient(unit: string, properties: readonly Property[]): Promise<void> {
    const body = [unit, 'replace', properties, []]
    await this.job(`make the unit ${unit}`, unit, {
      ...{ member: 'StartTransientUnit', signature: 'ssa(sv)a(sa(sv))', body },
    })
  }

  /** Stops a unit, and waits until it has. One that is not there is no error. */
  async stop(unit: string): Promise<void> {
    try {
      await this.job(`stop the unit ${unit}`, unit, { member: 'StopUnit', signature: 'ss', body: [unit, 'replace'] })
    } catch (error) {
      if (!isNoSuchUnit(error)) throw error
    }
  }

  /** Changes properties of a unit until it is stopped. */
  async setProperties(unit: string, properties: readonly Property[]): Promise<void> {
    const body = [unit, true, properties]
    await this.call(`change the unit ${unit}`, { member: 'SetUnitProperties', signature: 'sba(sv)', body })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.connection[Symbol.asyncDispose]()
  }

  private async property(name: string): Promise<Value> {
    const call = { interface: 'org.freedesktop.DBus.Properties', member: 'Get', signature: 'ss', body: [manager, name] }
    const [variant] = await this.call(`read ${name} of systemd`, call)
    return (variant as Variant).value
  }

  /** Has systemd do something, and waits for the end of it. */
  private async job(step: string, unit: string, call: Parameters<SystemdManager['call']>[1]): Promise<void> {
    const results = new Map<string, string>()
    let wake = (): void => {}
    let failure: Error | undefined
    const ended = this.connection.listen(
      (signal) => {
        if (!this.isJobRemoved(signal)) return
        const [, job, , result] = signal.body ?? []
        results.set(String(job), String(result))
        wake()
      },
      (error) => {
        failure = error
        wake()
      },
    )
    let timer: NodeJS.Timeout | undefined
    try {
      const [job] = await this.call(step, call)
      const began = Date.now()
      while (!results.has(String(job))) {
        if (failure !== undefined) throw failure
        if (Date.now() - began >= patience) throw new TimeoutError(`systemd's job to ${step}`, patience)
        await new Promise<void>((resolve) => {
          wake = resolve
          timer = setTimeout(resolve, patience)
        })
        clearTimeout(timer)
      }
      const result = results.get(String(job))
      if (result !== 'done') throw failed(step, `the job of systemd ended as ${result}`, { subject: unit })
    } finally {
      ended()
    }
  }

  private isJobRemoved({ interface: of, member, sender }: Message): boolean {
    // Anybody on a bus can send anybody a signal.
    return of === manager && member === 'JobRemoved' && (this.owner === undefined || sender === this.owner)
  }

  private async call(
    step: string,
    call: {
      readonly interface?: string
      readonly member: string
      readonly signature: string
      readonly body: readonly Value[]
    },
  ): Promise<readonly Value[]> {
    const destination = this.owner === undefined ? undefined : service
    try {
      return await this.connection.call({ interface: manager, ...call, path, destination })
    } catch (cause) {
      if (!(cause instanceof DBusError) || isNoSuchUnit(cause)) throw cause
      if (cause.dbusName === `${service}.UnitExists`) {
        const hint = 'Stop it (systemctl stop), or give each container a cgroupsPath of its own.'
        throw new ConflictError(String(call.body[0]), `systemd has a unit ${call.body[0]} already`, { cause, hint })
      }
      throw failed(step, cause.message, { cause })
    }
  }
}

function failed(step: string, why: string, options: { readonly cause?: unknown; readonly subject?: string }): Error {
  return new RuntimeError(`${step}: ${why}`, { step, pointer: '/linux/cgroupsPath', ...options })
}

function isNoSuchUnit(error: unknown): boolean {
  return error instanceof DBusError && error.dbusName === `${service}.NoSuchUnit`
}

async function openAt({ path: socket, isBus }: Address): Promise<{
  readonly connection: DBusConnection
  readonly owner: string | undefined
}> {
  const connection = await DBusConnection.open(socket)
  if (!isBus) return { connection, owner: undefined }
  try {
    await connection.call({ ...bus, member: 'Hello' })
    const name = await connection.call({ ...bus, member: 'GetNameOwner', signature: 's', body: [service] })
    const rule = `type='signal',sender='${service}',interface='${manager}',member='JobRemoved'`
    await connection.call({ ...bus, member: 'AddMatch', signature: 's', body: [rule] })
    // Without a subscriber it sends no signals to the bus.
    await connection.call({ destination: service, path, interface: manager, member: 'Subscribe' })
    return { connection, owner: String(name[0]) }
  } catch (error) {
    await connection[Symbol.asyncDispose]()
    throw error
  }
}

function addressesOf(isUser: boolean): readonly Address[] {
  const { DBUS_SYSTEM_BUS_ADDRESS, DBUS_SESSION_BUS_ADDRESS, XDG_RUNTIME_DIR } = process.env
  const given = isUser ? DBUS_SESSION_BUS_ADDRESS : DBUS_SYSTEM_BUS_ADDRESS
  if (given !== undefined && given !== '') return parseAddresses(given)
  if (!isUser) {
    return [
      { path: '/run/systemd/private', isBus: false },
      { path: '/run/dbus/system_bus_socket', isBus: true },
    ]
  }
  if (!XDG_RUNTIME_DIR) return []
  return [
    { path: join(XDG_RUNTIME_DIR, 'systemd/private'), isBus: false },
    { path: join(XDG_RUNTIME_DIR, 'bus'), isBus: true },
  ]
}

/** Sockets of this host in a list of addresses (D-Bus specification, "Server Addresses"). */
function parseAddresses(text: string): readonly Address[] {
  return text.split(';').flatMap((address): readonly Address[] => {
    const [, kind, value] = /^unix:(?:.*,)?(path|abstract)=([^,]+)/.exec(address) ?? []
    if (kind === undefined || value === undefined) return []
    const plain = value.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    return [{ path: kind === 'abstract' ? `\0${plain}` : plain, isBus: true }]
  })
}
