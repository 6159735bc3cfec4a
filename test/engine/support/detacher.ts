/**
 * A program of a user that runs a detached container and ends: `detacher.ts <directory> <cgroup> <name> <script>
 * <end>`. It prints the id; by `end` it then comes to its end by itself (`exit`) or waits to be killed (`hold`).
 */
import { join } from 'node:path'
import { createEngine, wait } from '../../../src/index.ts'

const [directory = '', cgroupsPath = '', name = '', script = '', end] = process.argv.slice(2)
const engine = createEngine({
  root: join(directory, 'store'),
  state: join(directory, 'state'),
  store: { durability: 'none' },
})
const box = await engine.run('busybox', {
  name,
  cgroupsPath,
  command: ['sh', '-c', script],
  pull: 'never',
  detach: true,
  stopSignal: 'USR1',
  ready: wait.log('up'),
})
process.stdout.write(`${box.id}\n`)
if (end === 'hold') setInterval(() => {}, 1000)
