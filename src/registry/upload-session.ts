import { createDigester, type Digest, type Digester } from '../image/digest.ts'
import { Fault } from './fault.ts'
import type { StoredUpload } from './storage.ts'

/** A blob on its way in. */
export interface UploadSession {
  readonly id: string
  readonly repository: string
  /** Bytes that arrived so far. */
  readonly size: number
}

/** What is kept of it. */
export interface Session extends UploadSession {
  readonly upload: StoredUpload
  /** Follows the bytes as they arrive; undefined for a session whose beginning another process received. */
  readonly digester: Digester | undefined
  readonly algorithm: string
  /** Bytes of its quota. */
  held: number
  busy: boolean
  /** Requests that wait for the one that is writing. */
  readonly waiting: (() => void)[]
  /** Milliseconds since the epoch. */
  touched: number
}

export function newSession(
  id: string,
  repository: string,
  upload: StoredUpload,
  digester: Digester | undefined,
  algorithm: string,
): Session {
  return {
    id,
    repository,
    upload,
    digester,
    algorithm,
    held: 0,
    busy: false,
    waiting: [],
    touched: Date.now(),
    get size() {
      return upload.size
    },
  }
}

/** @throws Fault */
export function digesterFor(algorithm: string): Digester {
  try {
    return createDigester(algorithm)
  } catch (error) {
    throw new Fault('DIGEST_INVALID', 'only sha256 and sha512 are supported', { cause: error })
  }
}

/** The digest of all that arrived; read again when it was not followed, or by another algorithm. */
export async function digestOfSession(session: Session, algorithm: string): Promise<Digest> {
  if (session.digester !== undefined && session.algorithm === algorithm) return session.digester.digest()
  const digester = createDigester(algorithm)
  for await (const chunk of session.upload.read()) digester.update(chunk)
  return digester.digest()
}

export function outOfOrder(session: UploadSession): Fault {
  return new Fault('BLOB_UPLOAD_INVALID', `the next chunk must begin at ${session.size}`, {
    status: 416,
    headers: { Range: uploadRange(session) },
  })
}

export function wrongLength(): Fault {
  return new Fault('SIZE_INVALID', 'the body has not the announced length')
}

/** The Range header of an upload. An empty one says `0-0` too: the specification has no form for it. */
export function uploadRange(session: UploadSession): string {
  return `0-${Math.max(0, session.size - 1)}`
}
