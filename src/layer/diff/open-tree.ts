import { enterRoot, spawnOwner } from '../apply/target.ts'
import { TreeReader } from './tree-reader.ts'

const step = 'enter the tree'

/**
 * Opens the tree in `directory` for reading, by a process that has it as its root: whatever is in it, nothing else can be
 * read. An ordinary user reads it as root in a user namespace, to which its own id is 0. To be closed.
 * @throws SyscallError when there is no such directory, or the kernel refuses.
 */
export async function openTree(directory: string): Promise<TreeReader> {
  const remote = await spawnOwner(step)
  try {
    await remote.run(enterRoot(directory, step))
  } catch (error) {
    await remote.close()
    throw error
  }
  return TreeReader.open(remote)
}
