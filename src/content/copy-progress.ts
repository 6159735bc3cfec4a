import type { Descriptor } from '../image/descriptor.ts'

/** A step of a copy, and how far all of it is. */
export interface CopyProgress {
  /**
   * What happened to the content of `descriptor`. `found`: it has come up; `skipped`: the target has
   * it, or it is a foreign layer; `mounted`: the target took it over from the source by itself;
   * `started`, `resumed` (the target has a part of it from before), `transferred` (once for each piece
   * that passes), `done`: of a transfer; `retry`: a request is made again, or what is missing of it requested.
   */
  readonly kind: 'found' | 'skipped' | 'mounted' | 'started' | 'resumed' | 'transferred' | 'retry' | 'done'
  /** `content` is what was asked for; `referrers` is what refers to it, and comes after. */
  readonly phase: 'content' | 'referrers'
  readonly descriptor: Descriptor
  /** Bytes of this descriptor that the target has so far. */
  readonly bytes: number
  /** Times that something about this descriptor was tried again. */
  readonly retries: number
  /** Bytes of all content that have passed, or were skipped, mounted or there before. */
  readonly transferred: number
  /** Bytes of all content found so far; grows until every manifest has been read. */
  readonly total: number
  /** Bytes a second that passed during the last five seconds. */
  readonly rate: number
  /** Sums over all content so far. */
  readonly totals: CopyTotals
}

/** Sums over the content of a copy. */
export interface CopyTotals {
  /** Contents, each counted once: `found` is the sum of the others and of what is under way. */
  readonly found: number
  readonly skipped: number
  readonly mounted: number
  readonly done: number
  readonly skippedBytes: number
  readonly mountedBytes: number
  /** Bytes of content that was not complete at the target, and need not pass again. */
  readonly resumedBytes: number
  readonly retries: number
}

/** Counts what happens to one content. */
export interface TransferMeter {
  /** `bytes` need not pass; instead of what has been counted so far. */
  resume(bytes: number): void
  add(bytes: number): void
  retry(): void
  done(): void
}

/** Time over which the rate is measured, and between two looks at it, in milliseconds. */
const window = 5000
const interval = 100

/** Is told of every step; unless it does not want to know at the moment. */
export interface ProgressListener {
  (progress: CopyProgress): void
  readonly wanted?: () => boolean
}

/** Keeps the sums and tells the listener. */
export class ProgressMeter {
  phase: CopyProgress['phase'] = 'content'
  readonly #listener: ProgressListener | undefined
  readonly #totals = {
    found: 0,
    skipped: 0,
    mounted: 0,
    done: 0,
    skippedBytes: 0,
    mountedBytes: 0,
    resumedBytes: 0,
    retries: 0,
  }
  /** When how many bytes had passed, oldest first. */
  readonly #marks: { readonly time: number; readonly passed: number }[] = []
  #passed = 0
  #transferred = 0
  #total = 0

  constructor(listener: ProgressListener | undefined) {
    this.#listener = listener
  }

  found(descriptor: Descriptor): void {
    this.#total += descriptor.size
    this.#totals.found++
    this.#tell('found', descriptor, 0, 0)
  }

  skipped(descriptor: Descriptor): void {
    this.#transferred += descriptor.size
    this.#totals.skipped++
    this.#totals.skippedBytes += descriptor.size
    this.#tell('skipped', descriptor, 0, 0)
  }

  mounted(descriptor: Descriptor): void {
    this.#transferred += descriptor.size
    this.#totals.mounted++
    this.#totals.mountedBytes += descriptor.size
    this.#tell('mounted', descriptor, 0, 0)
  }

  /** Begins a transfer. */
  started(descriptor: Descriptor): TransferMeter {
    let bytes = 0
    let resumed = 0
    let retries = 0
    this.#tell('started', descriptor, bytes, retries)
    return {
      resume: (there) => {
        this.#transferred += there - bytes
        this.#totals.resumedBytes += there - resumed
        bytes = there
        resumed = there
        this.#tell('resumed', descriptor, bytes, retries)
      },
      add: (more) => {
        bytes += more
        this.#transferred += more
        this.#passed += more
        this.#tell('transferred', descriptor, bytes, retries)
      },
      retry: () => {
        retries++
        this.#totals.retries++
        this.#tell('retry', descriptor, bytes, retries)
      },
      done: () => {
        // Content in memory passes at once; content that another had brought meanwhile, not at all.
        this.#transferred += descriptor.size - bytes
        this.#totals.done++
        this.#tell('done', descriptor, descriptor.size, retries)
      },
    }
  }

  #tell(kind: CopyProgress['kind'], descriptor: Descriptor, bytes: number, retries: number): void {
    if (this.#listener === undefined || this.#listener.wanted?.() === false) return
    this.#listener({
      kind,
      phase: this.phase,
      descriptor,
      bytes,
      retries,
      transferred: this.#transferred,
      total: this.#total,
      rate: this.#rate(),
      totals: { ...this.#totals },
    })
  }

  #rate(): number {
    const now = performance.now()
    const last = this.#marks.at(-1)
    if (last === undefined || now - last.time >= interval) this.#marks.push({ time: now, passed: this.#passed })
    while (this.#marks.length > 1 && now - (this.#marks[0]?.time ?? now) > window) this.#marks.shift()
    const first = this.#marks[0]
    if (first === undefined || now <= first.time) return 0
    return ((this.#passed - first.passed) / (now - first.time)) * 1000
  }
}
