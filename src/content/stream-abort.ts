import type { Stream } from 'node:stream'
import { onAbort } from '../internal/abort.ts'

/** A stream of Node: what can be destroyed and says so. */
interface Destroyable extends Stream {
  destroy(error?: Error): unknown
}

/**
 * Destroys a stream with `signal.reason` when the signal aborts; Node's own `addAbortSignal` would
 * put an AbortError in its place. The listener goes with the stream. Returns the stream.
 */
export function destroyOnAbort<S extends Destroyable>(stream: S, signal: AbortSignal | undefined): S {
  if (signal === undefined) return stream
  stream.once(
    'close',
    onAbort(signal, () => void stream.destroy(signal.reason)),
  )
  return stream
}
