import { BlockList, isIP } from 'node:net'

type Subnet = readonly [network: string, prefix: number]

/** Loopback, and the unspecified address, which reaches it as well. */
const machine: readonly Subnet[] = [
  ['127.0.0.0', 8],
  ['0.0.0.0', 8],
  ['::1', 128],
  ['::', 128],
]

/** Link-local addresses, and where clouds that do without them have their metadata service. */
const metadata: readonly Subnet[] = [
  ['169.254.0.0', 16],
  ['100.100.100.200', 32],
  ['fe80::', 10],
  ['fd00:ec2::254', 128],
]

/** Whether an address is this machine's own. */
export const isMachineAddress: (address: string) => boolean = checker(machine)

/** Whether an address is link-local, or that of a cloud's metadata service. */
export const isMetadataAddress: (address: string) => boolean = checker(metadata)

/** The list is made when it is first needed. An IPv4 address may be written, or translated, as IPv6. */
function checker(subnets: readonly Subnet[]): (address: string) => boolean {
  let list: BlockList | undefined
  return (address) => {
    list ??= listOf(subnets)
    const family = isIP(address)
    return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4')
  }
}

function listOf(subnets: readonly Subnet[]): BlockList {
  const list = new BlockList()
  for (const [network, prefix] of subnets) {
    const family = isIP(network) === 6 ? 'ipv6' : 'ipv4'
    list.addSubnet(network, prefix, family)
    if (family === 'ipv6') continue
    for (const outer of ['::ffff:', '64:ff9b::']) list.addSubnet(`${outer}${network}`, 96 + prefix, 'ipv6')
  }
  return list
}
