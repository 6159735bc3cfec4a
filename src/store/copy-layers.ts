import { spawnOwner } from '../layer/apply/target.ts'
import { LayeredTree } from '../layer/diff/layered-tree.ts'
import { AT_FDCWD, O, O_DIRECTORY, openat } from '../linux/calls/files.ts'
import { type CopyTreeOptions, copyTree } from './copy-tree.ts'

const step = 'copy the layers of an image'

/**
 * Makes what overlayfs would show of `layers` (directories, the highest one first; at least one) in an empty directory. Blocks
 * of files are shared where the file system can do that.
 */
export async function copyLayers(
  layers: readonly string[],
  directory: string,
  options: Pick<CopyTreeOptions, 'owners' | 'signal'>,
): Promise<void> {
  const process = await spawnOwner(step)
  const tree = await LayeredTree.open(process, layers)
  try {
    const opened = openat(AT_FDCWD, directory, O.RDONLY | O_DIRECTORY, 0, { step })
    const target = (await process.run([opened])).value(opened)
    await copyTree(tree, target, { ...options, keepOverlay: true })
  } finally {
    await tree.close()
  }
}
