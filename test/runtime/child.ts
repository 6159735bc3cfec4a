import { readFileSync } from 'node:fs'
import type { Spec } from '../../src/bundle/index.ts'
import { type CreateOptions, createContainer } from '../../src/runtime/index.ts'

// A process of its own that makes a container, to be killed. Usage: child.ts <file with the options>.
interface Request extends Omit<CreateOptions, 'spec'> {
  readonly spec: Spec
  /** Containers to make one after the other, for as long as it lives. */
  readonly repeat?: boolean
  /** Whether it lives on when the container has ended. */
  readonly hold?: boolean
  /** Whether to end after the start, letting go of the container. */
  readonly release?: boolean
}
const request = JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as Request
if (request.hold === true) setInterval(() => {}, 1000)
for (let n = 0; ; n++) {
  const id = request.repeat === true ? `${request.id}-${process.pid}-${n}` : request.id
  const container = await createContainer({ ...request, id })
  await container.start()
  process.stdout.write(`${container.pid}\n`)
  if (request.release === true) await container.release()
  if (request.repeat !== true) break
  await container.exited
  await container.delete()
}
