import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { NetworkError } from '../errors.ts'
import { Pace, type PaceLimits } from './pace.ts'

/** How much of a body nobody wants is read, in bytes, so that the client gets to see the answer. */
const maxDiscarded = 16 * 1024 * 1024

/** The requests that a server is answering. */
export interface Exchanges {
  /** Resolves when those that have begun are over, whatever came of them. */
  settled(): Promise<void>
}

/** How requests are served. */
export interface ServeOptions {
  readonly handler: (request: Request) => Promise<Response>
  readonly pace: PaceLimits
  /** Whether the server speaks TLS. */
  readonly secure: boolean
}

/** Answers the requests of a Node HTTP server by a fetch-style handler. */
export function serve(server: Server, options: ServeOptions): Exchanges {
  const running = new Set<Promise<void>>()
  const answer = (incoming: IncomingMessage, outgoing: ServerResponse, expectsContinue: boolean): void => {
    const exchange = respond(incoming, outgoing, options, expectsContinue)
      .catch(() => {
        // The client is gone, or did not get all of the response: it must not take it for complete.
        outgoing.destroy()
        incoming.destroy()
      })
      .finally(() => running.delete(exchange))
    running.add(exchange)
  }
  server.on('request', (incoming, outgoing) => answer(incoming, outgoing, false))
  // `Expect: 100-continue`: the client sends its body only when the handler wants to read it.
  server.on('checkContinue', (incoming, outgoing) => answer(incoming, outgoing, true))
  return {
    async settled() {
      await Promise.all(running)
    },
  }
}

async function respond(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { handler, pace, secure }: ServeOptions,
  expectsContinue: boolean,
): Promise<void> {
  // An error that comes when nobody listens any more would end the process.
  incoming.on('error', () => {})
  outgoing.on('error', () => {})
  const body = new IncomingBody(incoming, pace, () => {
    if (expectsContinue) outgoing.writeContinue()
  })
  const request = toRequest(incoming, body.stream, secure)
  if (request === undefined) {
    outgoing.writeHead(400, { Connection: 'close' }).end()
    return
  }
  const response = await handler(request)
  // The client may or may not send the body it was not asked for: nobody knows where its next request begins.
  if (expectsContinue && !body.wanted) outgoing.setHeader('Connection', 'close')
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  if (response.body !== null) await send(response.body, outgoing, new Pace(pace))
  outgoing.end()
  if (!expectsContinue || body.wanted) await body.discard(maxDiscarded)
}

/** Undefined for what is no HTTP request that fetch knows: a strange method or target. */
function toRequest(incoming: IncomingMessage, body: ReadableStream<Uint8Array>, secure: boolean): Request | undefined {
  const { method = 'GET', url = '' } = incoming
  // Host is the client's to choose: what the URL says does not depend on it.
  if (!url.startsWith('/')) return undefined
  try {
    const headers = new Headers()
    for (const [name, value] of Object.entries(incoming.headers)) {
      if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(', ') : value)
    }
    const init = { method, headers }
    const bare = method === 'GET' || method === 'HEAD' || !hasBody(incoming)
    return new Request(
      `${secure ? 'https' : 'http'}://registry.invalid${url}`,
      bare ? init : { ...init, body, duplex: 'half' },
    )
  } catch {
    return undefined
  }
}

function hasBody(incoming: IncomingMessage): boolean {
  const length = incoming.headers['content-length']
  return incoming.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
}

/** The body of a request, read when it is asked for. */
class IncomingBody {
  readonly stream: ReadableStream<Uint8Array>
  /** Whether the handler asked for any of it. */
  wanted = false
  readonly #incoming: IncomingMessage
  readonly #chunks: AsyncIterator<Buffer>
  readonly #pace: Pace

  constructor(incoming: IncomingMessage, pace: PaceLimits, onWanted: () => void) {
    this.#incoming = incoming
    this.#pace = new Pace(pace)
    this.#chunks = incoming.iterator({ destroyOnReturn: false })
    this.stream = new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          if (!this.wanted) {
            this.wanted = true
            onWanted()
          }
          const next = await this.#next()
          if (next.done) controller.close()
          else controller.enqueue(next.value)
        },
      },
      { highWaterMark: 0 },
    )
  }

  /** Reads what the handler left, so that the next request can come; ends the connection when that is too much. */
  async discard(limit: number): Promise<void> {
    let rest = limit
    while (hasBody(this.#incoming) && (!this.#incoming.complete || this.#incoming.readableLength > 0)) {
      const next = await this.#next()
      if (next.done) return
      rest -= next.value.byteLength
      if (rest < 0) this.#incoming.destroy()
    }
  }

  /** The next chunk; the connection ends when it does not come in time, or too little comes at a time. */
  async #next(): Promise<IteratorResult<Buffer, unknown>> {
    const tooSlow = (): void => {
      this.#incoming.destroy()
    }
    const next = await this.#pace.wait(() => this.#chunks.next(), tooSlow)
    if (!next.done && !this.#pace.keeps(next.value.byteLength)) tooSlow()
    return next
  }
}

/** Sends a body no faster than the client takes it. Rejects when the client went away or is too slow. */
async function send(body: ReadableStream<Uint8Array>, outgoing: ServerResponse, pace: Pace): Promise<void> {
  const reader = body.getReader()
  try {
    for (;;) {
      const next = await reader.read()
      if (next.done) return
      if (outgoing.write(next.value)) continue
      await drained(outgoing, pace)
      if (!pace.keeps(next.value.byteLength)) throw new NetworkError('client', 'reads too slowly')
    }
  } catch (error) {
    await reader.cancel(error).catch(() => {})
    throw error
  }
}

async function drained(outgoing: ServerResponse, pace: Pace): Promise<void> {
  let slow = false
  const tooSlow = (): void => {
    slow = true
    outgoing.destroy()
  }
  await pace.wait(() => drainOrClose(outgoing), tooSlow)
  if (slow) throw new NetworkError('client', 'does not read')
  if (outgoing.destroyed) throw new NetworkError('client', 'went away')
}

function drainOrClose(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const settle = (): void => {
      outgoing.off('drain', settle)
      outgoing.off('close', settle)
      resolve()
    }
    outgoing.once('drain', settle)
    outgoing.once('close', settle)
    if (outgoing.destroyed) settle()
  })
}
