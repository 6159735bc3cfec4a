/** Pulls in a process of its own, `puller.ts <root> <reference>`, and writes as JSON how that failed and what is there. */
import { readdirSync } from 'node:fs'
import { createEngine, OciError } from '../../../src/index.ts'

const [root = '', reference = ''] = process.argv.slice(2)
const outcome: { error?: Record<string, unknown>; files: readonly string[] } = { files: [] }
try {
  await createEngine({ root }).pull(reference)
} catch (error) {
  outcome.error = { ...(error as object), message: (error as Error).message, isOciError: error instanceof OciError }
}
outcome.files = readdirSync(root, { recursive: true, encoding: 'utf8' })
process.stdout.write(JSON.stringify(outcome))
