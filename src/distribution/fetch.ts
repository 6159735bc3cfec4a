import type { Agent as HttpAgent } from 'node:http'
import type { Agent as HttpsAgent } from 'node:https'
import type { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { BodyInit } from 'node-fetch'
import { redactText } from '../internal/redact.ts'

/** What the client hands to a fetch function. */
export interface FetchInit {
  readonly method: string
  readonly headers: Record<string, string>
  /** A stream is sent once; its `Content-Length` is among the headers. */
  readonly body?: Uint8Array | Readable
  /** Redirects are the client's business: it decides what may go where. */
  readonly redirect: 'manual'
  readonly signal: AbortSignal
  readonly duplex: 'half'
}

/** Headers of a response. */
export interface HeadersLike {
  /** Value of a header, whose name has no case; null when it is absent. */
  get(name: string): string | null
}

/** The part of a response that the client reads. */
export interface ResponseLike {
  readonly status: number
  readonly headers: HeadersLike
  readonly body: Readable | ReadableStream<Uint8Array> | null
}

/**
 * A fetch function. `globalThis.fetch` is one; so is any function that sends the request as told,
 * follows no redirect, and leaves the body as it came (no decompression).
 */
export type FetchLike = (url: string, init: FetchInit) => Promise<ResponseLike>

/** A fetch function with connections that are kept for the next request. */
export interface PooledFetch {
  readonly fetch: FetchLike
  /** Closes idle connections. Idle ones never keep the process alive and close by themselves after 15 seconds. */
  close(): void
}

/** Milliseconds an idle connection is kept; servers that announce less are obeyed. */
const idleTimeout = 15_000

interface Client {
  readonly fetch: FetchLike
  readonly close: () => void
}

/** The default fetch function: node-fetch over keep-alive connections. Nothing is loaded before the first request. */
export function createPooledFetch(): PooledFetch {
  let client: Promise<Client> | undefined
  return {
    async fetch(url, init) {
      client ??= loadClient()
      return (await client).fetch(url, init)
    },
    close() {
      client?.then((loaded) => loaded.close()).catch(() => {})
      client = undefined
    },
  }
}

async function loadClient(): Promise<Client> {
  const [{ default: nodeFetch }, http, https] = await Promise.all([
    import('node-fetch'),
    import('node:http'),
    import('node:https'),
  ])
  const options = { keepAlive: true, timeout: idleTimeout }
  const agents: { http: HttpAgent; https: HttpsAgent } = {
    http: new http.Agent(options),
    https: new https.Agent(options),
  }
  return {
    async fetch(url, init) {
      try {
        const response = await nodeFetch(url, {
          method: init.method,
          headers: init.headers,
          body: (init.body ?? null) as BodyInit | null,
          redirect: init.redirect,
          signal: init.signal,
          compress: false,
          agent: (target) => (target.protocol === 'https:' ? agents.https : agents.http),
        })
        return response as typeof response & { readonly body: Readable | null }
      } catch (error) {
        throw withoutUrl(error)
      }
    },
    close() {
      agents.http.destroy()
      agents.https.destroy()
    },
  }
}

/** node-fetch puts the whole URL into its messages, secrets of its query included. */
function withoutUrl(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== 'FetchError') return error
  const message = redactText(error.message.replace(/^request to \S+ failed, reason: /, ''))
  return Object.assign(new Error(message), { code: Reflect.get(error, 'code') })
}
