/**
 * An image without Docker and without a Dockerfile: made of a directory, changed in a container, written to an
 * archive, and pushed where one is given:
 *
 *     npx tsx examples/image-from-directory.ts ./rootfs example:1 example.tar registry.example.org/team/example:1
 */
import { commit, history, importRootfs, push, run, save, squash } from 'oci-ts'

const [directory, name = 'example:1', archive = 'example.tar', to] = process.argv.slice(2)
if (directory === undefined) throw new Error('Which directory has the root file system?')

// The directory, as one layer. Instructions are those of a Dockerfile.
const base = await importRootfs(directory, {
  changes: ['ENV PATH=/bin:/usr/bin GREETING=hello', 'CMD ["sh"]'],
  message: `from ${directory}`,
})

// A change, made by a program in a container or by copying files into it.
await using box = await run(base, { command: ['sh', '-c', 'echo "$GREETING from the image" > /greeting'] })
await box.exited
await box.copyIn(import.meta.filename, '/example.ts')
for await (const { kind, path } of box.diff()) console.log(kind, path)
const changed = await commit(box, { changes: ['CMD ["cat", "/greeting"]'], message: 'a greeting' })

// One layer is smaller than two that hide parts of each other.
const image = await squash(changed, { name })
for (const step of await history(image)) console.log(step.createdBy, step.layer?.descriptor.digest ?? '(no layer)')

await save(image, archive)
console.log(`saved ${image.reference} to ${archive}`)
if (to !== undefined) console.log('pushed', (await push(image, { to })).reference)

await using again = await run(image)
for await (const line of again.logs({ follow: true })) console.log(line.text)
