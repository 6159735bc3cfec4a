import { AT_FDCWD, close, dup3, O, O_DIRECTORY, openat, umask } from '../../linux/calls/files.ts'
import { Batches, type BatchRunner } from '../apply/batches.ts'
import { rootDescriptor } from '../diff/tree-calls.ts'
import { completeLimits, type LayerLimits } from '../limits.ts'
import { TarReader } from '../tar/reader.ts'
import { type ExtractOptions, Extractor } from './extractor.ts'

/**
 * Puts the content of a tar archive into a tree that is in use: see {@link Extractor}. `process` has the tree as its root, and
 * stays open. What a failure leaves is there.
 * @throws LayerError for what is no archive, or leads out. @throws LimitError. @throws SyscallError when the kernel refuses.
 */
export async function extractArchive(
  archive: AsyncIterable<Buffer>,
  process: BatchRunner,
  options: ExtractOptions & { readonly limits?: LayerLimits; readonly signal?: AbortSignal | undefined },
): Promise<void> {
  const { limits, signal, ...how } = options
  const root = openat(AT_FDCWD, '/', O.PATH | O_DIRECTORY)
  await process.run([root, dup3(root, rootDescriptor, O.CLOEXEC), close(root), umask(0)])
  const batches = new Batches(process, { walks: true })
  const extractor = new Extractor(batches, how)
  const reader = new TarReader(extractor, completeLimits(limits))
  for await (const chunk of archive) {
    signal?.throwIfAborted()
    reader.write(chunk)
    if (batches.isFull) await batches.room()
  }
  reader.end()
  for (const _ of extractor.finish()) if (batches.isFull) await batches.room()
  await batches.finish()
}
