import type { LookupAddress, LookupAllOptions, LookupOptions } from 'node:dns'
import { BlockList, isIP } from 'node:net'

/** Resolves a name to all its addresses. */
export type Resolve = (
  hostname: string,
  options: LookupAllOptions,
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void

/** What a socket calls to resolve a name. */
export type Lookup = (
  hostname: string,
  options: LookupOptions,
  done: (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void,
) => void

/**
 * A lookup for hosts that a registry has chosen: redirects, upload locations, token servers. A name
 * that leads to this machine or to a link-local or metadata address is refused, so that a registry
 * can't make us speak to what only we can reach. The check is on the very addresses that are
 * connected to, so a name that changes its mind between check and use gains nothing. Not refused is
 * what the registry `home` itself resolves to: whoever runs both on one machine may.
 */
export function guardedLookup(home: string, resolve: Resolve): Lookup {
  return (hostname, options, done) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return done(error, [])
      const first = addresses[0]
      const answer = (): void => {
        if (options.all === true || first === undefined) done(null, addresses)
        else done(null, first.address, first.family)
      }
      const local = addresses.find(({ address }) => isLocalAddress(address))
      if (local === undefined) return answer()
      isAtHome(home, resolve, (yes) => {
        if (yes) return answer()
        const message = `${hostname} resolves to ${local.address}, which a registry elsewhere has no business to name`
        done(Object.assign(new Error(message), { code: 'ERR_OCI_ADDRESS_GUARD' }), [])
      })
    })
  }
}

function isAtHome(home: string, resolve: Resolve, done: (yes: boolean) => void): void {
  const host = home.replace(/^\[|\]$/g, '')
  if (isIP(host) > 0) {
    done(isLocalAddress(host))
    return
  }
  resolve(host, { all: true }, (error, addresses) => {
    done(error === null && addresses.some(({ address }) => isLocalAddress(address)))
  })
}

let list: BlockList | undefined

/** Whether an address is this machine, link-local, or where a cloud has its metadata service. */
export function isLocalAddress(address: string): boolean {
  list ??= localAddresses()
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

function localAddresses(): BlockList {
  const addresses = new BlockList()
  for (const [network, prefix] of [
    ['127.0.0.0', 8],
    ['0.0.0.0', 8],
    ['169.254.0.0', 16],
    ['100.100.100.200', 32],
  ] as const) {
    addresses.addSubnet(network, prefix, 'ipv4')
    addresses.addSubnet(`::ffff:${network}`, 96 + prefix, 'ipv6')
  }
  for (const [network, prefix] of [
    ['::1', 128],
    ['::', 128],
    ['fe80::', 10],
    ['fd00:ec2::254', 128],
  ] as const) {
    addresses.addSubnet(network, prefix, 'ipv6')
  }
  return addresses
}
