import { type FileHandle, open, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileError } from '../../internal/file-error.ts'
import { ownedName, ownOwner } from '../owner.ts'

/** An open file without a name, that is gone with its handle. In the system's directory unless told otherwise. */
export async function temporaryFile(directory: string | undefined): Promise<FileHandle> {
  const path = join(directory ?? tmpdir(), `oci-ts-${ownedName(await ownOwner())}`)
  try {
    const file = await open(path, 'wx+', 0o600)
    await unlink(path)
    return file
  } catch (error) {
    throw fileError(error, 'making a temporary file', path)
  }
}
