import type { Agent as HttpAgent } from 'node:http'
import type { Agent as HttpsAgent } from 'node:https'
import { guardedLookup, HomeAddresses, type Lookup, notingLookup } from './address-guard.ts'
import { withLargeReads } from './large-reads.ts'
import { type ProxyProvider, parseProxy } from './proxy.ts'
import { type TlsProvider, tlsContext } from './tls.ts'
import { tunnelConnector } from './tunnel.ts'

/** How connections are made. */
export interface NetworkOptions {
  readonly tls: TlsProvider
  readonly proxy: ProxyProvider
}

/** Milliseconds an idle connection is kept; servers that announce less are obeyed. */
const idleTimeout = 15_000
/** Agents that are kept: a registry could redirect to any number of hosts. */
const maxAgents = 100

type Agent = HttpAgent | HttpsAgent

/** Keeps the connections: one agent for all hosts that need nothing special, and one for each that does. */
export class Agents {
  readonly #options: NetworkOptions
  readonly #agents: Map<string, Promise<Agent>> = new Map()
  readonly #homes: HomeAddresses = new HomeAddresses()

  constructor(options: NetworkOptions) {
    this.#options = options
  }

  /** @param home the registry's host when it has chosen this URL, so that its address is guarded. */
  async find(url: URL, home: string | undefined): Promise<Agent> {
    const secure = url.protocol === 'https:'
    const tls = secure ? await this.#options.tls(url.host) : undefined
    const proxy = this.#options.proxy(url)
    const key = JSON.stringify([url.protocol, proxy ?? '', home ?? '', tls === undefined ? '' : url.host])
    const known = this.#agents.get(key)
    if (known !== undefined) return known
    const agent = this.#make(url, proxy, home, tls)
    agent.catch(() => this.#agents.delete(key))
    this.#agents.set(key, agent)
    const [oldest] = this.#agents
    if (oldest !== undefined && this.#agents.size > maxAgents) {
      this.#agents.delete(oldest[0])
      // Its connections close when they are idle.
    }
    return agent
  }

  close(): void {
    for (const agent of this.#agents.values()) {
      agent.then(
        (made) => made.destroy(),
        () => {},
      )
    }
    this.#agents.clear()
  }

  async #make(
    url: URL,
    proxy: string | undefined,
    home: string | undefined,
    tls: Awaited<ReturnType<TlsProvider>>,
  ): Promise<Agent> {
    const [http, https, { connect }, dns, { createConnection }] = await Promise.all([
      import('node:http'),
      import('node:https'),
      import('node:tls'),
      import('node:dns'),
      import('node:net'),
    ])
    const secure = url.protocol === 'https:'
    const lookup: Lookup =
      home === undefined ? notingLookup(this.#homes, dns.lookup) : guardedLookup(home, this.#homes, dns.lookup)
    const agent = secure
      ? new https.Agent({
          keepAlive: true,
          timeout: idleTimeout,
          ...(tls === undefined ? {} : await tlsContext(tls, url.host)),
          lookup: lookup as never,
        })
      : new http.Agent({
          keepAlive: true,
          timeout: idleTimeout,
          lookup: lookup as never,
        })
    if (proxy === undefined) {
      return secure ? agent : withLargeReads(agent, createConnection)
    }
    const encrypt = secure
      ? (socket: import('node:stream').Duplex, options: object) => connect({ ...options, socket } as never)
      : undefined
    return Object.assign(agent, { createConnection: tunnelConnector(parseProxy(proxy), encrypt) })
  }
}
