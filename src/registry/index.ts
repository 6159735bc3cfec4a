/** An embedded registry: a server by distribution-spec. */

export { diskStorage } from './disk-storage.ts'
export { createRegistryHandler, type RegistryHandler, type RegistryHandlerOptions } from './handler.ts'
export { type MemoryStorageOptions, memoryStorage } from './memory-storage.ts'
export { createRegistryServer, type RegistryServer, type RegistryServerOptions } from './server.ts'
export type {
  Referrer,
  RegistryStorage,
  StoredBlob,
  StoredManifest,
  StoredUpload,
} from './storage.ts'
