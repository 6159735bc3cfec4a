import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type CreateOptions, createContainer, createPool } from '../../src/runtime/index.ts'

// Runs one container as whoever it is started by. Usage: outcome.ts <options as JSON> <directory to write to> [pool].
// Prints what came of it, as JSON.
const [, , text = '', directory = '', how = ''] = process.argv
const path = join(directory, 'output')
const output = openSync(path, 'w')
try {
  const options = JSON.parse(text) as CreateOptions
  const stdio = [undefined, output, output] as const
  await using pool = how === 'pool' ? createPool({ ...options, size: 1 }) : undefined
  const container = await (pool?.run({}, { stdio }) ?? createContainer({ ...options, stdio }))
  if (pool === undefined) await container.start()
  const status = await container.exited
  await container.delete()
  await pool?.close()
  process.stdout.write(JSON.stringify({ status, output: readFileSync(path, 'utf8') }))
} catch (error) {
  process.stdout.write(JSON.stringify({ error, message: (error as Error).message }))
} finally {
  closeSync(output)
}
