import type { LookupAddress, LookupAllOptions, LookupOptions } from 'node:dns'
import { isIP } from 'node:net'
import { isMachineAddress, isMetadataAddress } from './local-addresses.ts'

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
 * What the registries' own names have resolved to when they were connected to. Asking again would not
 * do: whoever has the name of a registry can let it mean another address by then.
 */
export class HomeAddresses {
  /** Whether every address of a host has been this machine's. */
  readonly #local: Map<string, boolean> = new Map()

  note(hostname: string, addresses: readonly LookupAddress[]): void {
    const local = addresses.every(({ address }) => isMachineAddress(address))
    this.#local.set(hostname, local && this.#local.get(hostname) !== false)
  }

  /** Whether a registry's host, as `URL.hostname` spells it, is this machine. */
  isLocal(hostname: string): boolean {
    const host = hostname.replace(/^\[|\]$/g, '')
    if (isIP(host) > 0) return isMachineAddress(host)
    return host === 'localhost' || this.#local.get(host) === true
  }
}

/** A lookup for the registries' own hosts, which notes what they resolve to. */
export function notingLookup(homes: HomeAddresses, resolve: Resolve): Lookup {
  return (hostname, options, done) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return done(error, [])
      homes.note(hostname, addresses)
      answer(options, addresses, done)
    })
  }
}

/**
 * A lookup for hosts that a registry has chosen: redirects, upload locations, token servers. A name
 * that leads to this machine is refused unless the registry `home` is there as well, and one that leads
 * to a link-local or metadata address always, so that a registry can't make us speak to what only we can
 * reach. The check is on the very addresses that are connected to, so a name that changes its mind
 * between check and use gains nothing.
 */
export function guardedLookup(home: string, homes: HomeAddresses, resolve: Resolve): Lookup {
  return (hostname, options, done) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return done(error, [])
      const refused = addresses.find(
        ({ address }) => isMetadataAddress(address) || (isMachineAddress(address) && !homes.isLocal(home)),
      )
      if (refused === undefined) return answer(options, addresses, done)
      const message = `${hostname} resolves to ${refused.address}, which a registry elsewhere has no business to name`
      done(Object.assign(new Error(message), { code: 'ERR_OCI_ADDRESS_GUARD' }), [])
    })
  }
}

function answer({ all }: LookupOptions, addresses: LookupAddress[], done: Parameters<Lookup>[2]): void {
  const [first] = addresses
  if (all === true || first === undefined) done(null, addresses)
  else done(null, first.address, first.family)
}
