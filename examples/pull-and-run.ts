/**
 * Pulls an image and runs a command in it, as `docker run` does:
 *
 *     npx tsx examples/pull-and-run.ts docker.io/library/debian:12 sh -c 'id; hostname'
 */
import { pull, run } from 'oci-ts'

const [reference = 'docker.io/library/debian:12', ...command] = process.argv.slice(2)

// Awaiting a pull is enough; iterating it tells how far it is.
const pulling = pull(reference)
for await (const { phase, transferred, total } of pulling) {
  if (process.stderr.isTTY) process.stderr.write(`\r${phase} ${Math.floor((100 * transferred) / total)} % `)
}
const image = await pulling
console.error(`pulled ${image.reference}, ${image.digest}`)

// Limits take a cgroup, and cgroups are root's.
const limits = process.getuid?.() === 0 ? ({ memory: '64m', cpus: 0.5, pids: 64 } as const) : {}
await using box = await run(image, { ...limits, ...(command.length > 0 && { command }) })

for await (const line of box.logs({ follow: true })) {
  if (line.stream === 'stdout') console.log(line.text)
  else console.error(line.text)
}
const { code, oomKilled } = await box.exited
if (oomKilled) console.error('it ran out of memory')
process.exitCode = code
