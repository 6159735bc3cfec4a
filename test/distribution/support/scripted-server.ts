import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  anonymous,
  openRepository,
  type RegistryClientOptions,
  type Repository,
} from '../../../src/distribution/index.ts'

/** A request as it arrived. */
export interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
}

/** A server that answers as a test says. */
export interface ScriptedServer extends AsyncDisposable {
  /** `127.0.0.1:<port>`. */
  readonly host: string
  readonly seen: readonly Seen[]
}

/** Answers one request; `count` is its number among those with the same method, from 1. */
export type Handler = (request: IncomingMessage, response: ServerResponse, count: number) => void

/** Starts a server on a free loopback port. */
export async function startServer(handler: Handler): Promise<ScriptedServer> {
  const seen: Seen[] = []
  const server = createServer((request, response) => {
    const { method = '', url = '', headers } = request
    seen.push({ method, url, headers })
    request.on('error', () => {})
    response.on('error', () => {})
    handler(request, response, seen.filter((other) => other.method === method).length)
  })
  server.keepAliveTimeout = 60_000
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** First byte that a request's `Range` asks for; 0 without one. */
export function rangeStart(request: IncomingMessage): number {
  return Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
}

/** Serves `bytes` as a well-behaved server does, ranges included. */
export function serve(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array): void {
  const start = rangeStart(request)
  const range = request.headers.range === undefined ? {} : { 'content-range': contentRange(start, bytes) }
  response.writeHead('content-range' in range ? 206 : 200, { 'content-length': bytes.byteLength - start, ...range })
  response.end(request.method === 'HEAD' ? undefined : bytes.subarray(start))
}

/** Value of `Content-Range` for the rest of `bytes` from `start`. */
export function contentRange(start: number, bytes: Uint8Array): string {
  return `bytes ${start}-${bytes.byteLength - 1}/${bytes.byteLength}`
}

/** Announces all that is left of `bytes`, sends `count` of it, and cuts the connection. */
export function drop(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array, count: number): void {
  const start = rangeStart(request)
  const headers = { 'content-length': bytes.byteLength - start }
  if (start > 0) response.writeHead(206, { ...headers, 'content-range': contentRange(start, bytes) })
  else response.writeHead(200, headers)
  response.write(bytes.subarray(start, start + count), () => response.socket?.end())
}

/** Opens the repository `app` of a server that answers with `handler`, without credentials and with short waits. */
export async function against(
  handler: Handler,
  use: (repository: Repository, server: ScriptedServer) => Promise<void>,
  options: RegistryClientOptions = {},
): Promise<void> {
  await using server = await startServer(handler)
  const retry = { minDelay: 1, maxDelay: 2 }
  await use(openRepository(`${server.host}/app`, { credentials: anonymous, retry, ...options }), server)
}
