import { type ClientHttp2Session, connect } from 'node:http2'
import { connect as connectSocket } from 'node:net'

/** Value of a field of a message (Protocol Buffers, "Encoding"): a number, a text, or a message in it. */
type FieldValue = number | string | Buffer

/** A message: fields by their numbers; what is a list is there several times. */
export function message(...fields: readonly (readonly [number: number, value: FieldValue])[]): Buffer {
  return Buffer.concat(fields.map(([number, value]) => field(number, value)))
}

function field(number: number, value: FieldValue): Buffer {
  if (typeof value === 'number') return Buffer.concat([varint(number << 3), varint(value)])
  const bytes = Buffer.from(value)
  return Buffer.concat([varint((number << 3) | 2), varint(bytes.length), bytes])
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Buffer.from([...bytes, rest])
}

/** Fields of a message by number, the last of each; texts and messages are bytes. */
export function fieldsOf(bytes: Buffer): ReadonlyMap<number, number | Buffer> {
  const fields = new Map<number, number | Buffer>()
  let at = 0
  const next = (): number => {
    for (let value = 0, factor = 1; ; factor *= 128) {
      const byte = bytes[at++] ?? 0
      value += (byte & 127) * factor
      if (byte < 128) return value
    }
  }
  while (at < bytes.length) {
    const key = next()
    const kind = key & 7
    if (kind === 0) fields.set(key >> 3, next())
    else {
      const size = kind === 2 ? next() : kind === 1 ? 8 : 4
      fields.set(key >> 3, bytes.subarray(at, at + size))
      at += size
    }
  }
  return fields
}

/** What kubelet does, to an engine: calls of the Container Runtime Interface (cri-api, runtime/v1/api.proto). */
export class Cri implements AsyncDisposable {
  private readonly session: ClientHttp2Session

  constructor(socket: string) {
    this.session = connect('http://localhost', { createConnection: () => connectSocket(socket) })
  }

  /** @returns the fields of the answer. @throws an Error with what the engine says. */
  call(method: string, request: Buffer): Promise<ReadonlyMap<number, number | Buffer>> {
    const stream = this.session.request({
      ':method': 'POST',
      ':path': `/runtime.v1.RuntimeService/${method}`,
      'content-type': 'application/grpc',
      te: 'trailers',
    })
    const head = Buffer.alloc(5)
    head.writeUInt32BE(request.length, 1)
    stream.end(Buffer.concat([head, request]))
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = []
      let status = '0'
      let told = ''
      const onHeaders = (headers: Readonly<Record<string, unknown>>): void => {
        status = String(headers['grpc-status'] ?? status)
        told = decodeURIComponent(String(headers['grpc-message'] ?? told))
      }
      stream
        .on('response', onHeaders)
        .on('trailers', onHeaders)
        .on('data', (chunk) => chunks.push(chunk))
      stream.on('error', reject).on('end', () => {
        if (status === '0') resolve(fieldsOf(Buffer.concat(chunks).subarray(head.length)))
        else reject(new Error(`${method}: ${told}`))
      })
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.session.close(resolve))
  }
}
