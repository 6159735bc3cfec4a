import type { Fetcher } from '../content/interfaces.ts'
import { createRegistryClient, type RegistryClientOptions } from '../distribution/registry-client.ts'
import { InvalidReferenceError } from '../errors.ts'
import { parseReference } from '../image/reference.ts'
import type { RepairReport, RepairOptions as RepairStoreOptions, Store } from '../store/index.ts'

/** How images and layers are repaired. */
export interface RepairOptions extends Omit<RepairStoreOptions, 'from'> {
  /** How registries are spoken to: credentials, plain http, retries. */
  readonly registry?: RegistryClientOptions | undefined
  /** Whether blobs are fetched again from the registries that their images are named after. Default true. */
  readonly fetch?: boolean | undefined
}

/** Repairs a store with the help of the registries that its images come from. */
export async function repairStore(store: Store, options: RepairOptions): Promise<RepairReport> {
  const { registry, fetch = true, ...rest } = options
  if (!fetch) return store.repair(rest)
  const client = createRegistryClient(registry)
  try {
    return await store.repair({
      ...rest,
      from(image): Fetcher | undefined {
        try {
          return client.repository(parseReference(image))
        } catch (error) {
          // A name that another tool has given, or the digest of an image without one.
          if (error instanceof InvalidReferenceError) return undefined
          throw error
        }
      },
    })
  } finally {
    client.close()
  }
}
