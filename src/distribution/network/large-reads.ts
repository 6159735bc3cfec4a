import type { ClientRequestArgs } from 'node:http'
import type { createConnection as connectTo, NetConnectOpts, Socket } from 'node:net'

/** Bytes of one read. Node's own 64 KiB, each in new memory, cost a third more CPU for a gigabyte. */
const largeRead = 1024 * 1024
/** Bytes of the reads of a connection that has not brought much: most carry a few small answers. */
const smallRead = 16 * 1024

/**
 * What an agent calls to make its plain connections: they read in large pieces, into memory that is used again. The
 * parser of HTTP copies what it keeps of a piece, so that this is seen by nobody.
 */
export function largeReadConnector(createConnection: typeof connectTo): (options: ClientRequestArgs) => Socket {
  return (options) => {
    const memory = new ReadMemory()
    const socket: Socket = createConnection({
      ...options,
      onread: {
        buffer: () => memory.next(),
        callback: (bytes, buffer) => deliver(socket, memory.filled(bytes, buffer)),
      },
    } as NetConnectOpts)
    return socket
  }
}

/** The memory of one connection: two pieces in turns, because node-fetch looks back at the end of the last one. */
class ReadMemory {
  #next = Buffer.allocUnsafeSlow(smallRead)
  #last = Buffer.allocUnsafeSlow(smallRead)
  #isLarge = false

  /** The memory for the next read. */
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
