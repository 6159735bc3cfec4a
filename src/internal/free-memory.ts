import { MessageChannel, type MessagePort } from 'node:worker_threads'

let nowhere: MessagePort | undefined

/**
 * Frees the memory of a buffer now. Left to the garbage collector, buffers that pass by the hundred have it run again
 * and again, and each time through all that stays. The buffer is empty then, and so is every other one on the same memory.
 */
export function freeMemory({ buffer }: Uint8Array): void {
  if (nowhere === undefined) {
    nowhere = new MessageChannel().port1
    nowhere.close()
  }
  // What is transferred to a port that is closed belongs to nobody.
  nowhere.postMessage(undefined, [buffer as ArrayBuffer])
}
