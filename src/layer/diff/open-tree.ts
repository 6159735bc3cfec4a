import { Remote } from '../../linux/remote/remote.ts'
import { enterRoot, ownership } from '../apply/target.ts'
import { TreeReader } from './tree-reader.ts'

/**
 * Opens the tree in `directory` for reading, by a process that has it as its root: whatever is in it, nothing else can be
 * read. An ordinary user reads it as root in a user namespace, to which its own id is 0. To be closed.
 * @throws SyscallError when there is no such directory, or the kernel refuses.
 */
export async function openTree(directory: string): Promise<TreeReader> {
  const { singleOwner } = await ownership()
  const remote = Remote.spawn({ dumpable: singleOwner })
  try {
    await remote.run(enterRoot(directory, singleOwner, 'enter the tree'))
  } catch (error) {
    await remote.close()
    throw error
  }
  return TreeReader.open(remote)
}
