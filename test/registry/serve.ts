import { createRegistryServer, diskStorage } from '../../src/registry/index.ts'

// A registry in a process of its own, to be killed, with everything on that does something by itself.
// Usage: serve.ts <directory>. Prints its host.
const directory = process.argv[2]
if (directory === undefined) throw new Error('no directory')
const registry = await createRegistryServer({
  storage: diskStorage(directory),
  quota: { repository: '10g', total: '10g' },
  warnings: () => 'a test',
  authorize: async () => true,
})
process.stdout.write(`${registry.host}\n`)
for (;;) {
  await registry.collectGarbage({ untagged: true, verify: true })
  await new Promise((resolve) => setTimeout(resolve, 50))
}
