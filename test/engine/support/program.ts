/**
 * A program of a user, in a process of its own: `program.ts <directory> <mode>`. It does one thing and then
 * comes to its end; that it does is what is tested. An unhandled rejection would make it fail.
 */
import { join } from 'node:path'
import { createEngine, wait } from '../../../src/index.ts'

const [directory = '', mode] = process.argv.slice(2)
const engine = createEngine({
  root: join(directory, 'store'),
  state: join(directory, 'state'),
  store: { durability: 'none' },
})
const run = (
  command: readonly string[],
  options: Parameters<typeof engine.run>[1] = {},
): ReturnType<typeof engine.run> => engine.run('busybox', { command, pull: 'never', ...options })

switch (mode) {
  case 'ended': {
    const box = await run(['sh', '-c', 'echo hello'])
    await box.exited
    break
  }
  case 'removed': {
    const box = await run(['sleep', '1000'], { stdin: 'pipe' })
    await box.remove()
    break
  }
  case 'running': {
    const box = await run(['sh', '-c', 'sleep 0.2; exit 7'])
    void box.exited.then(({ code }) => {
      process.exitCode = code
    })
    break
  }
  case 'failed': {
    await run(['nonsense']).catch(() => {})
    await run(['false'], { ready: wait.log('never') }).catch(() => {})
    break
  }
  case 'ready': {
    const box = await run(['sh', '-c', 'trap "exit 0" TERM; echo up; while :; do sleep 0.01; done'], {
      ready: wait.log('up'),
    })
    await box.stop()
    await box.remove()
    break
  }
  default:
    throw new Error(`no mode ${mode}`)
}
