/** A process of its own: `puller-runner.ts <root> <state> <reference> <script> <options>` pulls and runs, and writes what it saw as JSON. Option `after`: what a squashed commit of it runs; `learn`: whether it learns. */

import { anonymous } from '../../../src/distribution/index.ts'
import {
  createEngine,
  Learning,
  type LearnReport,
  OciError,
  type SyscallAnswer,
  type WaitingSyscall,
} from '../../../src/index.ts'

const [root = '', state = '', reference = '', script = 'id -u', options = '{}'] = process.argv.slice(2)
const result: {
  lines: string[]
  after?: string[]
  code?: number
  warnings?: readonly string[]
  error?: unknown
  learned?: LearnReport
} = { lines: [] }
try {
  const engine = createEngine({ root, state, store: { durability: 'none' } })
  const image = await engine.pull(reference, { registry: { credentials: anonymous } })
  const { exec, denied, after, learn, ...others } = JSON.parse(options)
  const learning = learn === true ? new Learning() : undefined
  if (denied !== undefined) others.onSyscall = Object.fromEntries(['mkdir', 'mkdirat'].map((name) => [name, denyMkdir]))
  await using box = await engine.run(image, { command: ['sh', '-c', script], ...others, learn: learning })
  if (exec === undefined) {
    result.code = (await box.exited).code
    for await (const { text } of box.logs()) result.lines.push(text)
  } else {
    const { stdout, exitCode } = await box.exec(exec, { check: true })
    result.code = exitCode
    result.lines.push(...stdout.trimEnd().split('\n'))
  }
  result.warnings = box.warnings
  if (learning !== undefined) result.learned = learning.report()
  if (after !== undefined) {
    const squashed = await engine.squash(await engine.commit(box))
    await using next = await engine.run(squashed, { command: ['sh', '-c', after] })
    await next.exited
    result.after = []
    for await (const { text } of next.logs()) result.after.push(text)
  }
} catch (error) {
  if (!(error instanceof OciError)) throw error
  result.error = { code: error.code, message: error.message }
}
process.stdout.write(JSON.stringify(result))

/** Refuses to make the one directory whose path is `denied`. */
async function denyMkdir({ name, args, readString }: WaitingSyscall): Promise<SyscallAnswer> {
  const path = await readString(args[name === 'mkdirat' ? 1 : 0] as bigint)
  return path === JSON.parse(options).denied ? { errno: 'EDQUOT' } : 'continue'
}
