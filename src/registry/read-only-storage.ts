import { Fault } from './fault.ts'
import type { StoredUpload } from './storage.ts'

/** The part of a storage that writes, for those that do not. */
export abstract class ReadOnlyStorage {
  readonly readOnly = true

  async createUpload(): Promise<StoredUpload> {
    throw refused()
  }

  async recoverUpload(): Promise<undefined> {
    return undefined
  }

  async removeStaleUploads(_idleMs: number, _live: ReadonlySet<string>): Promise<void> {}

  async mountBlob(): Promise<boolean> {
    return false
  }

  async deleteBlob(_repository: string, _digest: string): Promise<boolean> {
    throw refused()
  }

  async putManifest(): Promise<void> {
    throw refused()
  }

  async deleteManifest(_repository: string, _digest: string): Promise<boolean> {
    throw refused()
  }

  async putTag(): Promise<void> {
    throw refused()
  }

  async deleteTag(_repository: string, _tag: string): Promise<boolean> {
    throw refused()
  }
}

/** The server has refused before: who gets here did not ask it. */
function refused(): Fault {
  return new Fault('UNSUPPORTED', 'this storage is read-only')
}
