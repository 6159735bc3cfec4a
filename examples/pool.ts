/**
 * Runs many short commands, each in a fresh container of a pool that is always ready, and tells what a run takes:
 *
 *     npx tsx examples/pool.ts docker.io/library/debian:12 20
 */
import { createPool } from 'oci-ts'

const [image = 'docker.io/library/debian:12', count = '20'] = process.argv.slice(2)

await using pool = await createPool(image, { size: 4, memory: '64m', pids: 20 })
await pool.full()

const times: number[] = []
for (let n = 1; n <= Number(count); n++) {
  const began = performance.now()
  const container = await pool.run({ command: ['sh', '-c', 'echo "$0 squared is $(($0 * $0))"', String(n)] })
  const { code } = await container.exited
  times.push(performance.now() - began)
  for await (const { text } of container.logs()) console.log(text)
  if (code !== 0) throw new Error(`run ${n} ended with ${code}`)
  await container.remove()
}
times.sort((a, b) => a - b)
console.log(`median of ${times.length} runs: ${times[times.length >> 1]?.toFixed(1)} ms`)
