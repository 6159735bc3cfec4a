import { InvalidArgumentError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { isMachineAddress, isMetadataAddress } from './network/local-addresses.ts'

/**
 * Which registries are spoken to in plain http.
 *
 * - omitted: loopback addresses and `localhost`; every other registry https.
 * - a list of `host` or `host:port`: those, and loopback.
 * - `true`: all of them. `false`: none, not even loopback.
 */
export type Insecure = boolean | readonly string[]

/** The hosts that reference domains stand for where the two differ. */
const aliases: Readonly<Record<string, string>> = {
  'docker.io': 'registry-1.docker.io',
  'index.docker.io': 'registry-1.docker.io',
}

/**
 * Base URL of the registry that `domain` of a reference names: `docker.io` is served by
 * `registry-1.docker.io`; the scheme follows {@link Insecure}.
 * @throws InvalidArgumentError when `domain` is more or less than `host[:port]`.
 */
export function registryOrigin(domain: string, insecure: Insecure | undefined): URL {
  const host = aliases[domain.toLowerCase()] ?? domain
  const secure = parseHost(host, 'https', domain)
  return allowsPlainHttp(secure, domain, insecure) ? parseHost(host, 'http', domain) : secure
}

function parseHost(host: string, scheme: 'http' | 'https', domain: string): URL {
  const wrong = new InvalidArgumentError(`${quote(domain)} is not a registry's host[:port]`, { subject: domain })
  // What these characters begin would be taken for user information, a path, a query or a fragment.
  if (/[@/\\?#\s]/.test(host)) throw wrong
  try {
    return new URL(`${scheme}://${host}`)
  } catch {
    throw wrong
  }
}

function allowsPlainHttp(url: URL, domain: string, insecure: Insecure | undefined): boolean {
  if (typeof insecure === 'boolean') return insecure
  if (isLoopback(url.hostname)) return true
  return insecure?.some((entry) => entry.toLowerCase() === domain.toLowerCase()) ?? false
}

/**
 * Whether a host, as `URL.hostname` spells it, is this machine's loopback: 127.0.0.0/8, ::1 or
 * `localhost`. `URL` has turned short and numeric spellings (`127.1`, `0x7f000001`) into the plain one.
 */
export function isLoopback(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127(\.\d+){3}$/.test(hostname)
}

/** Whether a host reaches this machine: by loopback, by the unspecified address, or by an IPv4 address inside IPv6. */
export function isThisMachine(hostname: string): boolean {
  return isLoopback(plainHost(hostname)) || isMachineAddress(plainHost(hostname))
}

/** A host without the dot of the DNS root, and without the brackets of an IPv6 address. */
function plainHost(hostname: string): string {
  return hostname.replace(/\.$/, '').replace(/^\[|\]$/g, '')
}

/**
 * Why a registry at `origin` must not send us to `target`, or undefined when it may: only http(s),
 * never from https down to http, never with user information, never from another host to this
 * machine or to a link-local address.
 */
export function refusalOf(origin: URL, target: URL): string | undefined {
  if (target.protocol !== 'https:' && target.protocol !== 'http:') return `scheme ${quote(target.protocol)} is not http`
  if (target.username !== '' || target.password !== '') return 'the URL carries user information'
  if (target.host === origin.host && target.protocol === origin.protocol) return undefined
  if (origin.protocol === 'https:' && target.protocol === 'http:') return 'it leads from https to plain http'
  if (isMetadataAddress(plainHost(target.hostname))) return `${target.hostname} is a link-local or metadata address`
  if (isThisMachine(target.hostname) && !isThisMachine(origin.hostname)) return `${target.hostname} is this machine`
  return undefined
}
