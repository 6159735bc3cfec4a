import { libc } from '../linux/libc.ts'

/**
 * Opens the kernel interface. A program that makes containers in worker threads calls this in its main thread
 * before they start: what opens it can be used by one thread only, and what is open by all. Anybody
 * else need not call it: the first use opens it. Idempotent.
 * @throws UnsupportedError where there is none, and in a worker thread before the main thread has called it.
 */
export function prepare(): void {
  libc()
}
