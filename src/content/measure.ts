import { createDigester, type Digest } from '../image/digest.ts'

/** Content on its way, and what it has been so far. */
export interface Measured {
  readonly content: AsyncIterable<Uint8Array>
  /** Of all that has passed; to be asked for once, at the end. */
  digest(): Digest
  /** Bytes that have passed. */
  size(): number
}

/** Hashes and counts content while it passes. */
export function measure(source: AsyncIterable<Uint8Array>): Measured {
  const digester = createDigester()
  let size = 0
  const content = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const chunk of source) {
      digester.update(chunk)
      size += chunk.byteLength
      yield chunk
    }
  }
  return { content: content(), digest: () => digester.digest(), size: () => size }
}
