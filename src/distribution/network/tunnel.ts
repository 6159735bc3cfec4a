import type { ClientRequestArgs, IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { redactText } from '../../internal/redact.ts'

/** Milliseconds a proxy gets to make a connection. */
const connectTimeout = 30_000

/** Where a tunnel ends. */
export interface TunnelTarget {
  readonly host: string
  readonly port: number
}

/** Opens a connection to `target` through a proxy, by CONNECT (RFC 9110, 9.3.6). */
export async function openTunnel(proxy: URL, target: TunnelTarget): Promise<Duplex> {
  const secure = proxy.protocol === 'https:'
  const { request } = secure ? await import('node:https') : await import('node:http')
  const name = `${target.host.includes(':') ? `[${target.host}]` : target.host}:${target.port}`
  return new Promise((resolve, reject) => {
    const fail = (reason: string): void => reject(new Error(`the proxy ${proxy.host} ${reason}`))
    const connect = request({
      host: proxy.hostname.replace(/^\[|\]$/g, ''),
      port: proxy.port || (secure ? 443 : 80),
      method: 'CONNECT',
      path: name,
      headers: { host: name, ...proxyAuthorization(proxy) },
      agent: false,
      timeout: connectTimeout,
    })
    connect.once('timeout', () => connect.destroy(new Error('timeout')))
    connect.once('error', (error) => fail(`can't be used: ${redactText(error.message)}`))
    // A proxy that answers with a document has refused.
    connect.once('response', (response: IncomingMessage) => {
      response.destroy()
      fail(`answered CONNECT with ${response.statusCode}`)
    })
    connect.once('connect', (response: IncomingMessage, socket: Duplex) => {
      if (response.statusCode === 200) return resolve(socket)
      socket.destroy()
      fail(`answered CONNECT with ${response.statusCode}`)
    })
    connect.end()
  })
}

function proxyAuthorization({ username, password }: URL): Readonly<Record<string, string>> {
  if (username === '') return {}
  const secret = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return { 'proxy-authorization': `Basic ${Buffer.from(secret, 'utf8').toString('base64')}` }
}

type Connected = (error: Error | null, stream?: Duplex) => void

/** What an agent calls to make its connections, when they go through a proxy. */
export function tunnelConnector(
  proxy: URL,
  encrypt: ((socket: Duplex, options: ClientRequestArgs) => TLSSocket) | undefined,
): (options: ClientRequestArgs, done?: Connected) => undefined {
  return (options, done) => {
    const port = Number(options.port ?? (encrypt === undefined ? 80 : 443))
    openTunnel(proxy, { host: String(options.host), port })
      .then((socket) => encrypt?.(socket, options) ?? socket)
      .then(
        (socket) => done?.(null, socket),
        (error: Error) => done?.(error),
      )
    return undefined
  }
}
