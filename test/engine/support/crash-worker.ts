/**
 * Runs in a process of its own: `crash-worker.ts <root> <host> <seed> <state>` does each thing once that changes a store, with
 * images of the registry at `host` and the container `boxed`, and tells what it begins and what it has done, a line each.
 */
import { createEngine } from '../../../src/index.ts'
import { archiveOfVolume } from './crash.ts'

const [root = '', host = '', , state = ''] = process.argv.slice(2)
const engine = createEngine({ root, state, store: { durability: 'none' } })

async function step(name: string, work: () => Promise<unknown>): Promise<void> {
  process.stdout.write(`begin ${name}\n`)
  await work()
  process.stdout.write(`done ${name}\n`)
}

try {
  const store = await engine.store()
  await step('pulled', () => engine.pull(`${host}/app:1`))
  await step('imported', () => engine.volumes.import('imported', archiveOfVolume))
  await step('exported', async () => {
    for await (const _ of await engine.volumes.export('kept'));
  })
  await step('committed', async () => engine.commit(await engine.attach('boxed'), { name: 'committed' }))
  await step('copied', async () => {
    const { image } = await engine.attach('boxed')
    const { chainId } = await store.unpack(image.manifest, image.config)
    await store.createWritable(chainId, { id: 'copied', rootfs: 'copy' })
  })
  await step('no-copied', () => store.removeWritable('copied'))
  await step('no-imported', () => engine.volumes.remove('imported'))
  await step('no-pulled', () => engine.removeImage(`${host}/app:1`))
  await step('pruned', () => engine.prune({ containers: false, volumes: 'anonymous' }))
} catch (error) {
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.stdout.write(`failed ${text.replaceAll('\n', ' | ')}\n`)
  process.exitCode = 1
}
