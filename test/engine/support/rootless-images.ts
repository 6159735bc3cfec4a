/**
 * Runs in a process of its own, as an ordinary user: `rootless-images.ts <root> <state> <archive> <directory> [copy]` makes an
 * image, changes it in a container and takes it apart; writes what came of it as JSON.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { collect } from '../../../src/content/verify.ts'
import { type Container, createEngine } from '../../../src/index.ts'
import { read } from '../../layer/support/read.ts'

const [root = '', state = '', archive = '', directory = '', rootfs] = process.argv.slice(2)
const store = { durability: 'none', rootfs: rootfs === 'copy' ? rootfs : 'overlay' } as const
const engine = createEngine({ root, state, store })

async function output(box: Container): Promise<string> {
  const lines: string[] = []
  for await (const { text } of box.logs({ follow: true })) lines.push(text)
  return lines.join('\n')
}

const base = await engine.importRootfs(archive, { name: 'base', changes: ['ENV PATH=/bin', 'CMD ["sh"]'] })
const script =
  'echo new > /added; rm /etc/group; rm -r /home; mkdir /home; touch /home/x; chown 5:7 /added 2>/dev/null; true'
const box = await engine.run(base, { command: ['sh', '-c', script] })
await box.exited
writeFileSync(join(directory, 'file'), 'from the host')
await box.copyIn(join(directory, 'file'), '/copied')
await box.copyOut('/added', join(directory, 'added'))
const changes: string[] = []
for await (const { kind, path } of box.diff()) changes.push(`${kind} ${path}`)
const image = await engine.commit(box, { name: 'changed' })
await box.remove()
const layer = image.manifest.layers.at(-1)
if (layer === undefined) throw new Error('the container made no layer')
const blob = Buffer.from(await collect(await (await engine.store()).fetch(layer)))
const entry = read(gunzipSync(blob)).find(({ name }) => name.toString() === 'added')
const squashed = await engine.squash(image, { name: 'squashed' })
await engine.save(squashed, join(directory, 'image.tar'))
const other = createEngine({ root: join(directory, 'other'), state, store })
await other.load(join(directory, 'image.tar'))
const again = await other.run('squashed', {
  command: ['sh', '-c', 'cat /added /copied; echo; ls /home /etc'],
  pull: 'never',
})
const running = await other.run('squashed', { command: ['sleep', '1000'], pull: 'never' })
await running.copyIn(join(directory, 'file'), '/tmp')
await running.copyOut('/tmp/file', join(directory, 'back'))
let exported = 0
for await (const chunk of await running.exportRootfs()) exported += (chunk as Buffer).length
const result = {
  changes,
  owner: `${entry?.uid}:${entry?.gid}`,
  added: readFileSync(join(directory, 'added'), 'utf8'),
  back: readFileSync(join(directory, 'back'), 'utf8'),
  layers: squashed.manifest.layers.length,
  output: await output(again),
  exported,
}
await Promise.all([again.remove(), running.remove()])
process.stdout.write(`${JSON.stringify(result)}\n`)
