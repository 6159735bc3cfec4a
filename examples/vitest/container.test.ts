/**
 * A container for each test: `npx vitest run --root examples/vitest`. The image is pulled once, the containers
 * start in milliseconds, and they die with the test runner whatever happens to it.
 */
import { type Container, run, StartupError, wait } from 'oci-ts'
import { afterEach, beforeEach, expect, it } from 'vitest'

const image = process.env.TEST_IMAGE ?? 'docker.io/library/debian:12'

/** Stands for a server: it takes a moment to be ready, then answers what it is asked. */
const greeter = 'echo starting; sleep 0.1; echo ready; while read -r name; do echo "hello $name"; done'

let service: Container

beforeEach(async () => {
  service = await run(image, {
    command: ['sh', '-c', greeter],
    stdin: 'pipe',
    ready: wait.log('ready'),
    timeout: '2m', // for everything: pull, unpack, start, ready
  })
}, 120_000)

afterEach(() => service.remove())

it('answers', async () => {
  service.stdin?.end('world\n')
  const lines: string[] = []
  for await (const { text } of service.logs({ follow: true })) lines.push(text)
  expect(lines).toEqual(['starting', 'ready', 'hello world'])
  expect(await service.exited).toMatchObject({ code: 0 })
})

it('gets a container of its own', async () => {
  const { id } = service
  expect(await service.stop({ signal: 'SIGKILL' })).toMatchObject({ code: 137, signal: 'SIGKILL' })
  expect(service.id).toBe(id)
})

it('says why a service did not become ready', async () => {
  const broken = run(image, { command: ['sh', '-c', 'echo no such database >&2; exit 3'], ready: wait.log('ready') })
  const error = await broken.catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(StartupError)
  expect(error).toMatchObject({ code: 'ERR_OCI_STARTUP', exit: { code: 3 }, logs: ['no such database'] })
})
