import { createRegistryServer, diskStorage } from '../../src/registry/index.ts'

// A registry in a process of its own, to be killed. Usage: serve.ts <directory>. Prints its host.
const directory = process.argv[2]
if (directory === undefined) throw new Error('no directory')
const registry = await createRegistryServer({ storage: diskStorage(directory) })
process.stdout.write(`${registry.host}\n`)
