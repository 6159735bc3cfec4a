import type { Agent, ClientRequest, ClientRequestArgs, IncomingMessage } from 'node:http'
import type { createConnection as connectTo, NetConnectOpts, Socket } from 'node:net'
import { DirectBody } from './direct-body.ts'

/** Bytes of one read. Node's own 64 KiB, each in new memory, cost a third more CPU for a gigabyte. */
const largeRead = 1024 * 1024
/** Bytes of the reads of a connection that has not brought much: most carry a few small answers. */
const smallRead = 16 * 1024

/** What `http.request` calls of its agent; Node's type declarations leave it out. */
interface RequestingAgent extends Agent {
  addRequest(request: ClientRequest, options: unknown): void
}

/**
 * Has the connections of an agent for plain http read in large pieces, into memory that is used again. The parser of HTTP
 * copies what it keeps of a piece, so that this is seen by nobody; a large body goes past the parser. Returns the agent.
 */
export function withLargeReads(agent: Agent, createConnection: typeof connectTo): Agent {
  const connections = new WeakMap<Socket, Connection>()
  const addRequest = (agent as RequestingAgent).addRequest.bind(agent)
  return Object.assign(agent, {
    createConnection(options: ClientRequestArgs): Socket {
      const connection = new Connection()
      const socket: Socket = createConnection({
        ...options,
        onread: {
          buffer: () => connection.next(),
          callback: (bytes, buffer) => connection.take(socket, bytes, buffer),
        },
      } as NetConnectOpts)
      connections.set(socket, connection)
      return socket
    },
    addRequest(request: ClientRequest, options: unknown): void {
      request.once('response', (response) => connections.get(response.socket)?.answered(request, response))
      addRequest(request, options)
    },
  })
}

/** Where the bytes of one connection go: to the parser of HTTP, or, of a large body, past it. */
class Connection {
  readonly #memory = new ReadMemory()
  #answer: { readonly request: ClientRequest; readonly response: IncomingMessage } | undefined
  #body: DirectBody | undefined

  /** The memory for the next read. */
  next(): Buffer {
    return this.#body?.next() ?? this.#memory.next()
  }

  /** Takes what a read has brought. Returns whether to go on reading. */
  take(socket: Socket, bytes: number, buffer: Uint8Array): boolean {
    if (this.#body !== undefined) return this.#body.take(socket, bytes)
    const more = deliver(socket, this.#memory.filled(bytes, buffer))
    this.#body = this.#answer && DirectBody.takeOver(socket, this.#answer.request, this.#answer.response)
    this.#answer = undefined
    return more
  }

  /** The parser has found the head of an answer in what it was given. */
  answered(request: ClientRequest, response: IncomingMessage): void {
    this.#answer = { request, response }
  }
}

/** The memory of one connection: two pieces in turns, because node-fetch looks back at the end of the last one. */
class ReadMemory {
  #next = Buffer.allocUnsafeSlow(smallRead)
  #last = Buffer.allocUnsafeSlow(smallRead)
  #isLarge = false

  next(): Buffer {
    const next = this.#next
    this.#next = this.#last
    this.#last = next
    return next
  }

  /** What a read has brought; one that fills its memory makes the following ones large. */
  filled(bytes: number, buffer: Uint8Array): Buffer {
    if (!this.#isLarge && bytes === buffer.byteLength) {
      this.#isLarge = true
      this.#next = Buffer.allocUnsafeSlow(largeRead)
      this.#last = Buffer.allocUnsafeSlow(largeRead)
    }
    return Buffer.from(buffer.buffer, buffer.byteOffset, bytes)
  }
}

/**
 * Gives a piece to whoever listens; copied where it has to wait, because its memory will be used again.
 * @returns whether to go on reading.
 */
function deliver(socket: Socket, piece: Buffer): boolean {
  const isTakenNow = socket.readableFlowing === true && socket.readableLength === 0
  return socket.push(isTakenNow ? piece : Buffer.from(piece)) && !socket.isPaused()
}
