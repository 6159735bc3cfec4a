import { closeSync, openSync } from 'node:fs'
import type { LinuxNetDevice } from '../bundle/spec-linux.ts'
import { ConflictError, NotFoundError } from '../errors.ts'
import { pointerToken } from '../internal/json.ts'
import type { CallOptions } from '../linux/call.ts'
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

/** Descriptor of the container's network namespace in the process that moves devices. */
const namespace = 4
const globalScope = 0

interface Move {
  readonly why: CallOptions
  readonly link: Link
  readonly name: string | undefined
  readonly addresses: readonly LinkAddress[]
}

/**
 * Moves devices of the host into the container's network namespace, gives them back the permanent global addresses that
 * the kernel takes from them on the way, and brings them up (config-linux.md, "Network Devices"). None is moved
 * before all are found.
 * @param pid the container's first process; `inside` makes calls in it
 * @throws NotFoundError for a device that the host does not have. @throws ConflictError for a name that the container
 * has already. @throws SyscallError when the kernel refuses.
 */
export async function moveNetDevices(
  devices: Readonly<Record<string, LinuxNetDevice>>,
  pid: number,
  inside: CallRunner,
): Promise<void> {
  const fd = openSync(`/proc/${pid}/ns/net`, 'r')
  try {
    await using outside = Remote.spawn({ descriptors: new Map([[namespace, fd]]) })
    for (const move of await planMoves(devices, outside)) {
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
      for (const address of addresses) await converse(inside, addAddress(moved.index, address), why)
      await converse(inside, bringUp(moved.index), why)
    }
  } finally {
    closeSync(fd)
  }
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
