/**
 * One of a chain of processes: `kill-worker.ts <directory> <mark> <repository> <round>`. It proves that what its
 * predecessor, which was killed, has left is no hindrance and goes away; then it pulls, unpacks and runs
 * an image of its own until it is killed.
 */
import { join } from 'node:path'
import { anonymous } from '../../../src/distribution/index.ts'
import { createEngine } from '../../../src/index.ts'
import { settledLeftovers } from './leftovers.ts'

const [directory = '', mark = '', repository = '', number = '0'] = process.argv.slice(2)
const round = Number(number)
const say = (...words: readonly string[]): boolean => process.stdout.write(`${words.join(' ')}\n`)

const engine = createEngine({
  root: join(directory, 'store'),
  state: join(directory, 'state'),
  store: { durability: 'none' },
})
const pullOptions = { registry: { credentials: anonymous } }

const before = await engine.run(`${repository}:${round - 1}`, {
  pullOptions,
  command: ['sh', '-c', 'cat /number; ls /files | wc -l'],
  cgroupsPath: `/oci-ts-${mark}-${round}-before`,
  memory: '64m',
})
const status = await before.exited
const lines: string[] = []
for await (const { text } of before.logs()) lines.push(text)
await before.remove()
say('saw', JSON.stringify({ code: status.code, lines, leftovers: await settledLeftovers({ directory, mark }) }))

say('at', 'fetch')
const operation = engine.pull(`${repository}:${round}`, pullOptions)
let phase = 'fetch'
for await (const progress of operation) {
  if (progress.phase !== phase) say('at', progress.phase)
  phase = progress.phase
}
say('at', 'run')
const box = await engine.run(await operation, {
  command: ['sh', '-c', 'echo up; while :; do date > /tmp/date; done'],
  cgroupsPath: `/oci-ts-${mark}-${round}`,
  memory: '64m',
  pids: 20,
})
say('at', 'running')
await box.exited
