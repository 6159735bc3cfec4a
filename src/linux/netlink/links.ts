import { type Attribute, attributesOf, type NetlinkMessage, NLM_F, netlinkRequest, RTM } from './message.ts'

const IFLA = { IFNAME: 3, NET_NS_FD: 28 } as const
const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4, FLAGS: 8 } as const
const IFF_UP = 1
const IFA_F_PERMANENT = 0x80
/** struct ifinfomsg and struct ifaddrmsg. */
const linkSize = 16
const addressSize = 8

/** A network device. */
export interface Link {
  readonly index: number
  readonly name: string
  readonly isUp: boolean
}

/** An address of a device. */
export interface LinkAddress {
  readonly family: number
  readonly prefix: number
  readonly scope: number
  readonly index: number
  readonly isPermanent: boolean
  readonly attributes: ReadonlyMap<number, Buffer>
}

/** Asks for all devices of the network namespace. */
export function listLinks(): Buffer {
  return netlinkRequest(RTM.GETLINK, NLM_F.DUMP, Buffer.alloc(linkSize), [])
}

/** Asks for all addresses of the network namespace. */
export function listAddresses(): Buffer {
  return netlinkRequest(RTM.GETADDR, NLM_F.DUMP, Buffer.alloc(addressSize), [])
}

/**
 * Moves a device to the network namespace that is open on a descriptor of the process which sends this. In `name` the
 * kernel puts the first free number for `%d`.
 */
export function moveLink(index: number, namespace: number, name: string | undefined): Buffer {
  const fd = Buffer.alloc(4)
  fd.writeUInt32LE(namespace)
  const attributes: Attribute[] = [[IFLA.NET_NS_FD, fd]]
  if (name !== undefined) attributes.push([IFLA.IFNAME, Buffer.from(`${name}\0`)])
  return netlinkRequest(RTM.NEWLINK, NLM_F.ACK, linkMessage(index, 0), attributes)
}

/** Brings a device up. */
export function bringUp(index: number): Buffer {
  return netlinkRequest(RTM.NEWLINK, NLM_F.ACK, linkMessage(index, IFF_UP), [])
}

/** Gives a device an address that another one had. */
export function addAddress(index: number, address: LinkAddress): Buffer {
  const fixed = Buffer.alloc(addressSize)
  fixed.writeUInt8(address.family, 0)
  fixed.writeUInt8(address.prefix, 1)
  fixed.writeUInt8(address.scope, 3)
  fixed.writeUInt32LE(index, 4)
  const kept = [IFA.ADDRESS, IFA.LOCAL, IFA.BROADCAST, IFA.FLAGS].flatMap((type): readonly Attribute[] => {
    const value = address.attributes.get(type)
    return value === undefined ? [] : [[type, value]]
  })
  return netlinkRequest(RTM.NEWADDR, NLM_F.ACK | NLM_F.CREATE | NLM_F.EXCL, fixed, kept)
}

/** Reads a message that {@link listLinks} asked for; undefined for any other. */
export function parseLink({ type, body }: NetlinkMessage): Link | undefined {
  if (type !== RTM.NEWLINK || body.length < linkSize) return undefined
  const name = attributesOf(body, linkSize).get(IFLA.IFNAME)
  const isUp = (body.readUInt32LE(8) & IFF_UP) !== 0
  return { index: body.readInt32LE(4), name: name?.toString('utf8', 0, name.indexOf(0)) ?? '', isUp }
}

/** Reads a message that {@link listAddresses} asked for; undefined for any other. */
export function parseAddress({ type, body }: NetlinkMessage): LinkAddress | undefined {
  if (type !== RTM.NEWADDR || body.length < addressSize) return undefined
  const attributes = attributesOf(body, addressSize)
  const flags = attributes.get(IFA.FLAGS)?.readUInt32LE(0) ?? body.readUInt8(2)
  return {
    family: body.readUInt8(0),
    prefix: body.readUInt8(1),
    scope: body.readUInt8(3),
    index: body.readUInt32LE(4),
    isPermanent: (flags & IFA_F_PERMANENT) !== 0,
    attributes,
  }
}

function linkMessage(index: number, flags: number): Buffer {
  const fixed = Buffer.alloc(linkSize)
  fixed.writeInt32LE(index, 4)
  fixed.writeUInt32LE(flags, 8)
  fixed.writeUInt32LE(flags, 12)
  return fixed
}
