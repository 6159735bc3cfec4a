import { InvalidArgumentError } from '../errors.ts'
import { type Bytes, toBytes } from '../internal/units.ts'
import { Fault } from './fault.ts'
import type { RegistryStorage, StorageMaintenance } from './storage.ts'

/** How much content is taken. What is being uploaded counts as it arrives. */
export interface RegistryQuota {
  /** Bytes of the blobs and manifests of one repository; a function may give each its own. Default unlimited. */
  readonly repository?: Bytes | ((repository: string) => Bytes | undefined) | undefined
  /** Bytes of everything together; a blob counts once however many repositories have it. Default unlimited. */
  readonly total?: Bytes | undefined
}

/** Refuses what would be more than there is room for. */
export class Quota {
  readonly #usage: StorageMaintenance['usage'] | undefined
  readonly #total: number
  readonly #limitOf: (repository: string) => number
  /** Bytes that are arriving, by repository. */
  readonly #held = new Map<string, number>()
  #heldTotal = 0

  /** @throws InvalidArgumentError */
  constructor(storage: RegistryStorage, quota: RegistryQuota | undefined) {
    const { repository, total } = quota ?? {}
    this.#total = limit(total, 'quota.total')
    const fixed = typeof repository === 'function' ? undefined : limit(repository, 'quota.repository')
    this.#limitOf = (name) =>
      fixed ?? limit(typeof repository === 'function' ? repository(name) : undefined, 'quota.repository')
    if (repository === undefined && total === undefined) return
    const { maintenance } = storage
    if (maintenance === undefined) {
      throw new InvalidArgumentError('this storage can not be measured, so it can have no quota', { subject: 'quota' })
    }
    this.#usage = (name) => maintenance.usage(name)
  }

  /** Whether there is any. */
  get limited(): boolean {
    return this.#usage !== undefined
  }

  /** Sets room aside for bytes that are to be written, until `release`. @throws Fault when there is none. */
  async hold(repository: string, bytes: number): Promise<void> {
    if (this.#usage === undefined) return
    const [inRepository, everywhere] = [await this.#usage(repository), await this.#usage()]
    const held = this.#held.get(repository) ?? 0
    check(`repository ${repository}`, inRepository + held, bytes, this.#limitOf(repository))
    check('registry', everywhere + this.#heldTotal, bytes, this.#total)
    this.#held.set(repository, held + bytes)
    this.#heldTotal += bytes
  }

  /** The bytes are stored, or will not be. */
  release(repository: string, bytes: number): void {
    if (this.#usage === undefined) return
    const held = (this.#held.get(repository) ?? 0) - bytes
    this.#heldTotal -= bytes
    if (held > 0) this.#held.set(repository, held)
    else this.#held.delete(repository)
  }
}

function limit(value: Bytes | undefined, option: string): number {
  return value === undefined ? Number.POSITIVE_INFINITY : toBytes(value, option)
}

function check(subject: string, used: number, more: number, most: number): void {
  if (used + more <= most) return
  // 403, not 507: clients repeat what is answered with 5xx.
  throw new Fault('DENIED', `quota exceeded: the ${subject} can have at most ${most} bytes`, {
    detail: { quota: most, used },
  })
}
