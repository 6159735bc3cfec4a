import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type CreateOptions, createContainer } from '../../src/runtime/index.ts'

// Runs one container as whoever it is started by. Usage: outcome.ts <options as JSON> <directory to write to>.
// Prints what came of it, as JSON.
const [, , text = '', directory = ''] = process.argv
const path = join(directory, 'output')
const output = openSync(path, 'w')
try {
  const container = await createContainer({
    ...(JSON.parse(text) as CreateOptions),
    stdio: [undefined, output, output],
  })
  await container.start()
  const status = await container.exited
  await container.delete()
  process.stdout.write(JSON.stringify({ status, output: readFileSync(path, 'utf8') }))
} catch (error) {
  process.stdout.write(JSON.stringify({ error, message: (error as Error).message }))
} finally {
  closeSync(output)
}
