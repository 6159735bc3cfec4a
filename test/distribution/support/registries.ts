import { createRegistryServer } from '../../../src/registry/index.ts'
import { hasProgram, startDockerRegistry } from './docker-registry.ts'

/** A registry to test against. */
export interface TestRegistry extends AsyncDisposable {
  readonly host: string
}

/** The registries that the client must get on with: name, why it can't run here, and how to start it. */
export const registries: readonly {
  readonly name: string
  readonly missing: boolean
  readonly start: () => Promise<TestRegistry>
}[] = [
  { name: 'the embedded registry', missing: false, start: () => createRegistryServer() },
  {
    name: 'docker-registry (needs docker-registry)',
    missing: !hasProgram('docker-registry'),
    start: () => startDockerRegistry(),
  },
]
