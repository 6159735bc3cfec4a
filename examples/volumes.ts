/**
 * Keeps data in a volume from one container to the next, and takes a copy of it as a tar archive:
 *
 *     npx tsx examples/volumes.ts docker.io/library/debian:12 backup.tar
 */
import { createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { diskUsage, run, volumes } from 'oci-ts'

const [image = 'docker.io/library/debian:12', backup = 'backup.tar'] = process.argv.slice(2)
const mounts = [{ type: 'volume', source: 'example-data', target: '/data' }] as const

for (const text of ['first', 'second']) {
  const box = await run(image, { mounts, command: ['sh', '-c', `echo ${text} >>/data/log; cat /data/log`] })
  for await (const line of box.logs({ follow: true })) console.log(line.text)
  await box.remove()
}

const volume = await volumes.inspect('example-data')
console.log(`${volume.name} is used by ${volume.usedBy.length} containers`)
await pipeline(await volumes.export('example-data'), createWriteStream(backup))

const usage = await diskUsage()
const size = usage.volumes.find(({ name }) => name === volume.name)?.size ?? 0
console.log(`${size > 0 ? 'it takes some space' : 'it is empty'}; a copy of it is in ${backup}`)
await volumes.remove('example-data')
