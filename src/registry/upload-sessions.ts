import { randomUUID } from 'node:crypto'
import { type Digest, digestAlgorithm } from '../image/digest.ts'
import { batches } from './body.ts'
import { Fault } from './fault.ts'
import type { Quota } from './quota.ts'
import type { RegistryStorage } from './storage.ts'
import {
  digesterFor,
  digestOfSession,
  newSession,
  outOfOrder,
  type Session,
  type UploadSession,
  wrongLength,
} from './upload-session.ts'

export interface UploadLimits {
  /** Sessions at a time. */
  readonly sessions: number
  /** Milliseconds after which a session that nobody writes to is removed. */
  readonly idle: number
  /** Bytes of one blob. */
  readonly blob: number
}

/** What a request says of the body it brings. */
export interface Chunk {
  /** Where in the blob it belongs; undefined for right after what arrived so far. */
  readonly start?: number
  /** Its bytes; undefined when that is not known. */
  readonly length: number | undefined
}

/**
 * Milliseconds that a request waits for the one that is writing to the same upload. A client whose connection broke may
 * be back before that has been noticed here.
 */
const patience = 2_000

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** The uploads that are under way: bounded in number, each used by one request at a time, gone when abandoned. */
export class UploadSessions {
  readonly #storage: RegistryStorage
  readonly #limits: UploadLimits
  readonly #quota: Quota
  readonly #sessions = new Map<string, Session>()
  readonly #recovering = new Map<string, Promise<Session | undefined>>()
  /** Sessions that have a place but are not in the map yet. */
  #pending = 0
  #timer: NodeJS.Timeout | undefined
  #swept = Number.NEGATIVE_INFINITY

  constructor(storage: RegistryStorage, limits: UploadLimits, quota: Quota) {
    this.#storage = storage
    this.#quota = quota
    this.#limits = limits
  }

  /** Begins a session. @throws Fault when there are too many, or the algorithm can't be computed. */
  async create(repository: string, algorithm: string): Promise<UploadSession> {
    const digester = digesterFor(algorithm)
    const id = randomUUID()
    return this.#admit(async () => {
      const upload = await this.#storage.createUpload(repository, id)
      return newSession(id, repository, upload, digester, algorithm)
    })
  }

  /** The session of that id, for a look at its size. @throws Fault when there is none. */
  async find(repository: string, id: string): Promise<UploadSession> {
    return this.#find(repository, id)
  }

  /**
   * Appends a body. When it breaks off, what arrived is kept, so that a client can go on from there.
   * @throws Fault
   */
  async append(
    repository: string,
    id: string,
    body: ReadableStream<Uint8Array> | null,
    chunk: Chunk,
  ): Promise<UploadSession> {
    return this.#use(repository, id, async (session) => {
      await this.#append(session, body, chunk)
      return session
    })
  }

  /** Appends a body and makes the content a blob. The session is over, also when the digest does not fit. @throws Fault */
  async finish(
    repository: string,
    id: string,
    body: ReadableStream<Uint8Array> | null,
    chunk: Chunk,
    digest: Digest,
  ): Promise<void> {
    await this.#use(repository, id, async (session) => {
      await this.#append(session, body, chunk)
      try {
        const actual = await digestOfSession(session, digestAlgorithm(digest))
        if (actual !== digest) {
          throw new Fault('DIGEST_INVALID', `the content has the digest ${actual}, not ${digest}`, { subject: digest })
        }
        await session.upload.commit(digest)
      } finally {
        await this.#discard(session)
      }
    })
  }

  /** Ends a session and throws away what arrived. @throws Fault when there is none. */
  async cancel(repository: string, id: string): Promise<void> {
    await this.#use(repository, id, (session) => this.#discard(session))
  }

  async #append(session: Session, body: ReadableStream<Uint8Array> | null, chunk: Chunk): Promise<void> {
    const begin = session.size
    if (chunk.start !== undefined && chunk.start !== begin) throw outOfOrder(session)
    const tooLarge = (): Fault =>
      new Fault('SIZE_INVALID', `a blob can have at most ${this.#limits.blob} bytes`, { status: 413 })
    if (begin + (chunk.length ?? 0) > this.#limits.blob) throw tooLarge()
    for await (const batch of batches(body)) {
      const size = batch.reduce((sum, bytes) => sum + bytes.byteLength, 0)
      const arrived = session.size + size
      if (arrived > this.#limits.blob || (chunk.length !== undefined && arrived > begin + chunk.length)) {
        await this.#discard(session)
        throw arrived > this.#limits.blob ? tooLarge() : wrongLength()
      }
      await this.#write(session, batch)
    }
    if (chunk.length !== undefined && session.size !== begin + chunk.length) throw wrongLength()
  }

  /** Hashes while the storage writes. */
  async #write(session: Session, batch: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#hold(
        session,
        batch.reduce((sum, bytes) => sum + bytes.byteLength, 0),
      )
      const written = session.upload.write(batch)
      // The digest may throw first; an unhandled rejection would end the process.
      written.catch(() => {})
      for (const bytes of batch) session.digester?.update(bytes)
      await written
      session.touched = Date.now()
    } catch (error) {
      await this.#discard(session)
      throw error
    }
  }

  async #hold(session: Session, bytes: number): Promise<void> {
    await this.#quota.hold(session.repository, bytes)
    session.held += bytes
  }

  /** The session is known until its content is gone: nobody may take up what is being removed. */
  async #discard(session: Session): Promise<void> {
    session.busy = true
    try {
      await session.upload.abort()
    } finally {
      this.#quota.release(session.repository, session.held)
      session.held = 0
      this.#sessions.delete(session.id)
    }
  }

  async #use<T>(repository: string, id: string, work: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.#find(repository, id)
    if (session.busy) await turn(session)
    if (!this.#sessions.has(id)) throw unknownUpload(repository)
    if (session.busy) {
      throw new Fault('BLOB_UPLOAD_INVALID', 'another request is writing to this upload', { status: 409, subject: id })
    }
    session.busy = true
    try {
      return await work(session)
    } finally {
      session.busy = false
      session.touched = Date.now()
      for (const wake of session.waiting.splice(0)) wake()
      await session.upload.pause()
    }
  }

  async #find(repository: string, id: string): Promise<Session> {
    const session = this.#sessions.get(id) ?? (await this.#recover(repository, id))
    if (session?.repository === repository) return session
    throw unknownUpload(repository)
  }

  /** Looks for what a server that is gone received of an upload. */
  async #recover(repository: string, id: string): Promise<Session | undefined> {
    if (!uuid.test(id)) return undefined
    const key = `${repository}/${id}`
    let recovering = this.#recovering.get(key)
    if (recovering === undefined) {
      recovering = this.#admit(async () => {
        const upload = await this.#storage.recoverUpload(repository, id)
        if (upload === undefined) return undefined
        const session = newSession(id, repository, upload, undefined, '')
        await this.#hold(session, upload.size)
        return session
      }).finally(() => this.#recovering.delete(key))
      this.#recovering.set(key, recovering)
    }
    return recovering
  }

  async #admit<T extends Session | undefined>(open: () => Promise<T>): Promise<T> {
    if (this.#sessions.size + this.#pending >= this.#limits.sessions) {
      throw new Fault('TOOMANYREQUESTS', 'too many uploads are under way', { headers: { 'Retry-After': '10' } })
    }
    this.#pending += 1
    try {
      if (Date.now() - this.#swept > this.#limits.idle) {
        this.#swept = Date.now()
        await this.#storage.removeStaleUploads(this.#limits.idle, new Set(this.#sessions.keys()))
      }
      const session = await open()
      if (session !== undefined) {
        this.#sessions.set(session.id, session)
        this.#schedule()
      }
      return session
    } finally {
      this.#pending -= 1
    }
  }

  /** One timer for all sessions; it does not keep the process alive. */
  #schedule(): void {
    if (this.#timer !== undefined || this.#sessions.size === 0) return
    const oldest = Math.min(...[...this.#sessions.values()].map((session) => session.touched))
    const wait = Math.min(Math.max(oldest + this.#limits.idle - Date.now(), 100), 2 ** 31 - 1)
    this.#timer = setTimeout(() => this.#expire(), wait)
    this.#timer.unref()
  }

  #expire(): void {
    this.#timer = undefined
    const before = Date.now() - this.#limits.idle
    for (const session of this.#sessions.values()) {
      // Nobody waits for this: what can't be removed now is removed as stale by the next server.
      if (!session.busy && session.touched <= before) this.#discard(session).catch(() => {})
    }
    this.#schedule()
  }
}

/** Waits for the request that is writing, though not for long. */
function turn(session: Session): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, patience)
    session.waiting.push(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}

function unknownUpload(repository: string): Fault {
  return new Fault('BLOB_UPLOAD_UNKNOWN', 'there is no such upload', { subject: repository })
}
