import { BlockList, isIP } from 'node:net'
import { InvalidArgumentError } from '../../errors.ts'
import { redactUrl } from '../../internal/redact.ts'
import { isLoopback } from '../origin.ts'

/** Finds the proxy for a URL, as a URL `http://[user:password@]host:port` or https; undefined for none. */
export type ProxyProvider = (url: URL) => string | undefined

/**
 * The proxy that the environment names, as most programs read it: `HTTPS_PROXY` or `HTTP_PROXY` by the
 * scheme of the URL, else `ALL_PROXY`, unless `NO_PROXY` lists the host; lower-case names too.
 * This machine is never reached through a proxy.
 */
export const proxyFromEnvironment: ProxyProvider = (url) => {
  const read = (name: string): string => process.env[name.toLowerCase()] || process.env[name] || ''
  const proxy = read(url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY') || read('ALL_PROXY')
  if (proxy === '' || isLoopback(url.hostname) || isExempt(url, read('NO_PROXY'))) return undefined
  return proxy.includes('://') ? proxy : `http://${proxy}`
}

/** Whether a list as in `NO_PROXY` names the host: `host`, `.domain`, `domain:port`, `10.0.0.0/8`, `*`. */
export function isExempt(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '')
  const port = url.port || (url.protocol === 'https:' ? '443' : '80')
  return list
    .toLowerCase()
    .split(/[\s,]+/)
    .some((entry) => {
      if (entry === '*') return true
      if (isIP(host) > 0) return matchesAddress(host, entry, port)
      const [, name = '', wanted] = /^(?:\*?\.)?([^:]*)(?::(\d+))?$/.exec(entry) ?? []
      if (name === '' || (wanted !== undefined && wanted !== port)) return false
      return host === name || host.endsWith(`.${name}`)
    })
}

function matchesAddress(host: string, entry: string, port: string): boolean {
  const family = isIP(host) === 6 ? 'ipv6' : 'ipv4'
  const [, network = '', prefix] = /^\[?([0-9a-f.:]+?)\]?\/(\d{1,3})$/.exec(entry) ?? []
  if (prefix === undefined) return entry === host || entry === `${host}:${port}` || entry === `[${host}]:${port}`
  if (isIP(network) !== isIP(host) || Number(prefix) > (family === 'ipv6' ? 128 : 32)) return false
  const list = new BlockList()
  list.addSubnet(network, Number(prefix), family)
  return list.check(host, family)
}

/** Makes a provider of whatever was given; of nothing, the environment's. @throws InvalidArgumentError */
export function proxyProvider(proxy: string | false | ProxyProvider | undefined): ProxyProvider {
  if (proxy === undefined) return proxyFromEnvironment
  if (typeof proxy === 'function') return proxy
  if (proxy === false) return () => undefined
  const { href } = parseProxy(proxy)
  return () => href
}

/** Checks what a provider gave. @throws InvalidArgumentError */
export function parseProxy(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url !== undefined && (url.protocol === 'http:' || url.protocol === 'https:')) return url
  const shown = url === undefined ? 'the proxy' : redactUrl(url)
  throw new InvalidArgumentError(`${shown} can't be used as a proxy: it must be a URL http://host:port or https`, {
    subject: 'proxy',
  })
}
