import type { Readable } from 'node:stream'
import type { ReceiveOptions } from '../content/interfaces.ts'
import { verified } from '../content/verify.ts'
import type { Descriptor } from '../image/descriptor.ts'
import type { Endpoint } from './endpoint.ts'
import { type Attempt, failedAttempt, retrying } from './retry.ts'

/**
 * Sends content by `push` until it is stored: when the registry or the connection to it fails in a way that may
 * pass, the content is opened again and sent from its beginning. What `open` or its stream throws ends it.
 */
export function resending(
  { connection }: Endpoint,
  descriptor: Descriptor,
  open: (offset: number) => Promise<Readable>,
  push: (content: Readable) => Promise<void>,
  options: ReceiveOptions,
): Promise<void> {
  const { signal, onBytes, onResume, onRetry } = options
  let passed = 0
  const attempt = async (): Promise<Attempt<void>> => {
    const source = await open(0)
    let isSourceAtFault = false
    source.once('error', () => {
      isSourceAtFault = true
    })
    const content = verified(descriptor, source, {
      signal,
      onBytes(bytes) {
        passed += bytes
        onBytes?.(bytes)
      },
    })
    try {
      return { value: await push(content) }
    } catch (error) {
      if (isSourceAtFault || signal?.aborted === true) throw error
      return failedAttempt(error)
    } finally {
      source.destroy()
    }
  }
  return retrying(connection.retry, signal, attempt, (delay, error) => {
    connection.notifyRetry(descriptor.digest, delay, error)
    onRetry?.(error)
    if (passed > 0) onResume?.(0)
    passed = 0
  })
}
