import type { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { BodyInit } from 'node-fetch'
import { redactText } from '../internal/redact.ts'
import { Agents, type NetworkOptions } from './network/agents.ts'

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
  /**
   * Set when it was not the user who chose this host but the registry whose host this is. A fetch
   * function should then not connect to this machine or to a link-local address, whatever the name
   * resolves to.
   */
  readonly home?: string
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
  /** Whether the pieces of the body are its reader's alone, to be freed once they are done with. Default false. */
  readonly ownPieces?: boolean
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

/** The default fetch function: node-fetch over keep-alive connections. Nothing is loaded before the first request. */
export function createPooledFetch(options: NetworkOptions): PooledFetch {
  const agents = new Agents(options)
  return {
    async fetch(url, init) {
      const { default: nodeFetch } = await import('node-fetch')
      const agent = await agents.find(new URL(url), init.home)
      try {
        const response = await nodeFetch(url, {
          method: init.method,
          headers: init.headers,
          body: (init.body ?? null) as BodyInit | null,
          redirect: init.redirect,
          signal: init.signal,
          compress: false,
          agent,
        })
        const { status, headers, body } = response as typeof response & { readonly body: Readable | null }
        return { status, headers, body, ownPieces: true }
      } catch (error) {
        throw withoutUrl(error)
      }
    },
    close: () => agents.close(),
  }
}

/** node-fetch puts the whole URL into its messages, secrets of its query included. */
function withoutUrl(error: unknown): unknown {
  if (!(error instanceof Error) || error.name !== 'FetchError') return error
  const message = redactText(error.message.replace(/^request to \S+ failed, reason: /, ''))
  return Object.assign(new Error(message), { code: Reflect.get(error, 'code') })
}
