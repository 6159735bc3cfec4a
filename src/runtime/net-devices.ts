import { closeSync, openSync } from 'node:fs'
import type { LinuxNetDevice } from '../bundle/spec-linux.ts'
import { ConflictError, NotFoundError } from '../errors.ts'
import { pointerToken } from '../internal/json.ts'
import type { CallOptions } from '../linux/call.ts'
import { CLONE, setns } from '../linux/calls/processes.ts'
import { converse } from '../linux/netlink/conversation.ts'
import {
  addAddress,
  bringUp,
  type Link,
  type LinkAddress,
  listAddresses,
  listLinks,
  moveLink,
  parseAddress,
  parseLink,
} from '../linux/netlink/links.ts'
import { Remote } from '../linux/remote/remote.ts'
import type { CallRunner } from '../linux/runner.ts'

/** Descriptor of the network namespace that devices go to, in the process that moves them. */
const namespace = 4
const globalScope = 0

interface Move {
  readonly why: CallOptions
  readonly link: Link
  readonly name: string | undefined
  readonly addresses: readonly LinkAddress[]
}

/** A device in the container, and what it was on the host. */
interface Moved {
  readonly move: Move
  /** Its number there. */
  readonly index: number
}

/** Devices of the host that move into a container, and back when that can't be made. */
export class NetDeviceMoves {
  private readonly devices: Readonly<Record<string, LinuxNetDevice>>
  /** Descriptor of the container's network namespace, which is there as long as this is open. */
  private readonly there: number
  private readonly moved: Moved[] = []

  /** @param pid the container's first process */
  constructor(devices: Readonly<Record<string, LinuxNetDevice>>, pid: number) {
    this.devices = devices
    this.there = openSync(`/proc/${pid}/ns/net`, 'r')
  }

  /**
   * Moves devices of the host into the container's network namespace, gives them back the permanent global addresses that
   * the kernel takes from them on the way, and brings them up (config-linux.md, "Network Devices"). None is moved
   * before all are found.
   * @param inside makes calls in the container's first process
   * @throws NotFoundError for a device that the host does not have. @throws ConflictError for a name that the container
   * has already. @throws SyscallError when the kernel refuses.
   */
  async move(inside: CallRunner): Promise<void> {
    await using outside = Remote.spawn({ descriptors: new Map([[namespace, this.there]]) })
    for (const move of await planMoves(this.devices, outside)) {
      const { why, link, name, addresses } = move
      const there = await linksOf(inside, why)
      const before = new Set(there.map(({ index }) => index))
      // The kernel would move it first, and refuse the name then.
      if (there.some((each) => each.name === (name ?? link.name))) {
        throw new ConflictError(link.name, `${why.pointer}: the container has a device ${name ?? link.name} already`)
      }
      await converse(outside, moveLink(link.index, namespace, name), why)
      // It may have another index there, and a name that the kernel has chosen.
      const moved = (await linksOf(inside, why)).find(({ index }) => !before.has(index))
      if (moved === undefined) throw new NotFoundError(link.name, `the network device ${link.name} did not arrive`)
      this.moved.push({ move, index: moved.index })
      for (const address of addresses) await converse(inside, addAddress(moved.index, address), why)
      await converse(inside, bringUp(moved.index), why)
    }
  }

  /** Moves back what has moved, with its name, its addresses and as it was, up or down; what can't be is left where it is. */
  async back(): Promise<void> {
    if (this.moved.length === 0) return
    const host = openSync('/proc/self/ns/net', 'r')
    try {
      const descriptors = new Map([
        [namespace, host],
        [namespace + 1, this.there],
      ])
      await using inside = Remote.spawn({ descriptors })
      await using outside = Remote.spawn()
      await inside.run([setns(namespace + 1, CLONE.NEWNET, { step: 'enter the network namespace' })])
      for (const moved of this.moved.splice(0)) await backOf(moved, inside, outside).catch(() => {})
    } finally {
      closeSync(host)
    }
  }

  /** Lets go of the namespace; to be called once. */
  close(): void {
    closeSync(this.there)
  }
}

async function backOf({ move, index }: Moved, inside: CallRunner, outside: CallRunner): Promise<void> {
  const { why, link, addresses } = move
  await converse(inside, moveLink(index, namespace, link.name), why)
  const arrived = (await linksOf(outside, why)).find(({ name }) => name === link.name)
  if (arrived === undefined) return
  for (const address of addresses) await converse(outside, addAddress(arrived.index, address), why)
  if (link.isUp) await converse(outside, bringUp(arrived.index), why)
}

async function planMoves(devices: Readonly<Record<string, LinuxNetDevice>>, outside: Remote): Promise<readonly Move[]> {
  const step = { step: 'look at the network devices of the host', pointer: '/linux/netDevices' }
  const links = await linksOf(outside, step)
  const addresses = (await converse(outside, listAddresses(), step)).flatMap((message) => parseAddress(message) ?? [])
  return Object.entries(devices).map(([host, { name }]) => {
    const why = { step: `move the network device ${host}`, pointer: `/linux/netDevices${pointerToken(host)}` }
    const link = links.find((each) => each.name === host)
    if (link === undefined) {
      throw new NotFoundError(host, `${why.pointer}: the host has no network device ${JSON.stringify(host)}`)
    }
    const kept = addresses.filter((each) => each.index === link.index && each.isPermanent && each.scope === globalScope)
    return { why, link, name: name || undefined, addresses: kept }
  })
}

async function linksOf(runner: CallRunner, why: CallOptions): Promise<readonly Link[]> {
  return (await converse(runner, listLinks(), why)).flatMap((message) => parseLink(message) ?? [])
}
