/**
 * Runs in a process of its own: `crash-worker.ts <root> <source> <seed> <mode>` works at a store until it is killed, and
 * tells what it begins and what it has done, a line each. `source` is a layout with images `image-0` and so on.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { copy } from '../../../src/content/copy.ts'
import { LayoutStore } from '../../../src/content/layout.ts'
import { readAll } from '../../../src/content/verify.ts'
import { NotFoundError } from '../../../src/errors.ts'
import { chainIds } from '../../../src/image/chain-id.ts'
import { type ImageConfig, type ImageManifest, parseImageConfig, parseManifest } from '../../../src/image/index.ts'
import { openStore, type Store } from '../../../src/store/index.ts'
import { filesOfVolume, imageCount, randomNumbers, volumeCount } from './crash.ts'

const [root = '', source = '', seed = '1', mode = 'all'] = process.argv.slice(2)
const say = (line: string): unknown => process.stdout.write(`${line}\n`)
const random = randomNumbers(Number(seed))
const below = (limit: number): number => Math.floor(random() * limit)

/** Each kind of work once, in which order does not matter: kind, and number of the image or volume. */
const script: readonly (readonly [kind: number, number: number])[] = [
  [3, 0],
  [5, 0],
  [4, 1],
  [7, 1],
  [8, 0],
]

async function documents(
  store: Store,
  name: string,
): Promise<{ readonly manifest: ImageManifest; readonly config: ImageConfig }> {
  const manifest = parseManifest(await readAll(store, await store.resolve(name), 2 ** 20)).value
  return { manifest, config: parseImageConfig(await readAll(store, manifest.config, 2 ** 20)).value }
}

async function pull(store: Store, from: LayoutStore, name: string): Promise<void> {
  const lease = await store.lease()
  try {
    await copy(from, name, lease.content, { as: name })
    const { manifest, config } = await documents(store, name)
    await store.unpack(manifest, config)
  } finally {
    await lease.release()
  }
}

async function ignoringMissing(work: Promise<unknown>): Promise<void> {
  try {
    await work
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error
  }
}

async function container(store: Store, name: string, id: string): Promise<void> {
  const { config } = await documents(store, name)
  const top = chainIds(config.rootfs.diff_ids).at(-1)
  const volumes = [{ name: `${id}-anonymous`, anonymous: true }]
  const layer = await store.createWritable(top, { id, ephemeral: true, volumes })
  writeFileSync(join(layer.upper, 'file'), 'x')
  await layer.remove()
}

async function fillVolume(store: Store, name: string): Promise<void> {
  await store.volumes.create(name, { labels: { kept: 'yes' } })
  await store.volumes.fill(name, 'nobody', async (directory) => {
    for (const [file, content] of filesOfVolume(name)) writeFileSync(join(directory, file), content)
  })
}

try {
  const store = await openStore({ root, durability: 'none' })
  const from = await LayoutStore.open(source)
  say('ready')
  for (let turn = 0; ; turn += 1) {
    const scripted = mode === 'script' ? script[turn] : undefined
    if (mode === 'script' && scripted === undefined) break
    const name = `image-${scripted?.[1] ?? below(imageCount)}`
    const volume = `volume-${scripted?.[1] ?? below(volumeCount)}`
    const kind = scripted?.[0] ?? (mode === 'all' ? below(10) : mode === 'pull' ? 0 : 8)
    if (kind < 4) {
      say(`begin image ${name}`)
      await pull(store, from, name)
      say(`done image ${name}`)
      if (kind === 3) await ignoringMissing(container(store, name, `box-${process.pid}-${turn}`))
    } else if (kind === 4) {
      say(`begin no-image ${name}`)
      await ignoringMissing(store.removeImage(name, { force: true }))
      say(`done no-image ${name}`)
    } else if (kind < 7) {
      say(`begin volume ${volume}`)
      await fillVolume(store, volume)
      say(`done volume ${volume}`)
    } else if (kind === 7) {
      say(`begin no-volume ${volume}`)
      await store.volumes.remove(volume, { force: true })
      say(`done no-volume ${volume}`)
    } else {
      await store.prune({ grace: 0 })
      await store.volumes.prune()
      say('done prune .')
    }
    if (mode === 'pull' && turn === 2 * imageCount) break
  }
} catch (error) {
  say(`failed ${error instanceof Error ? (error.stack ?? error.message).replaceAll('\n', ' | ') : String(error)}`)
  process.exitCode = 1
}
