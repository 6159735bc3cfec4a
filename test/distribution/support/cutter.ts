import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** What {@link startCutter} cuts: bytes of a connection, either way; of the connections in turn. */
export interface Cuts {
  /** From the client to the server. Connections beyond the end of the list are left alone. */
  readonly up?: readonly number[]
  /** From the server to the client; of every connection. */
  readonly down?: number
}

/** A proxy that breaks connections. */
export interface Cutter extends AsyncDisposable {
  /** `127.0.0.1:<port>`. */
  readonly host: string
  /** Bytes that have passed to the client. */
  readonly down: number
  /** Bytes that have passed to the server. */
  readonly up: number
  readonly cuts: number
}

/** Passes connections on to `port`, and cuts each one when so many bytes have gone by. */
export async function startCutter(port: number, cuts: Cuts): Promise<Cutter> {
  const sockets = new Set<Socket>()
  const state = { up: 0, down: 0, cuts: 0 }
  const limits = [...(cuts.up ?? [])]
  const server = createServer((client) => {
    const target = connect(port, '127.0.0.1')
    for (const socket of [client, target]) {
      sockets.add(socket)
      socket.on('error', () => {})
    }
    const pass = (from: Socket, to: Socket, limit: number, way: 'up' | 'down', cut: () => void): void => {
      let seen = 0
      from.on('data', (chunk: Buffer) => {
        const rest = chunk.subarray(0, limit - seen)
        seen += rest.byteLength
        state[way] += rest.byteLength
        if (to.destroyed) return
        if (!to.write(rest)) {
          from.pause()
          to.once('drain', () => from.resume())
        }
        if (seen < limit) return
        state.cuts++
        cut()
      })
      from.once('end', () => to.end())
      from.once('close', () => to.destroy())
    }
    pass(client, target, limits.shift() ?? Number.POSITIVE_INFINITY, 'up', () => {
      client.resetAndDestroy()
      target.destroy()
    })
    pass(target, client, cuts.down ?? Number.POSITIVE_INFINITY, 'down', () => {
      client.end()
      target.destroy()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    host,
    get up() {
      return state.up
    },
    get down() {
      return state.down
    },
    get cuts() {
      return state.cuts
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
