import { readFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { Learning, type RunOptions } from '../../src/index.ts'
import { cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

const [major = 0, minor = 0] = readFileSync('/proc/sys/kernel/osrelease', 'utf8').split('.').map(Number)
const tracesCapabilities = major > 6 || (major === 6 && minor >= 13)

describe.skipIf(cannotRunAsRoot)(`learn of an image's container (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  /** @returns what the container wrote and how it ended. */
  const run = async (script: string, options: RunOptions = {}) => {
    await using box = await sandbox.run(['sh', '-c', script], options)
    const { code } = await box.exited
    const lines: string[] = []
    for await (const { text } of box.logs()) lines.push(text)
    return { code, lines }
  }

  it("makes less of Docker's profile and capabilities, which is enough", async () => {
    // One pipe for all that is compared: between two there is no order.
    const script = 'echo a > /tmp/a; chown 5:6 /tmp/a; stat -c %u:%g /tmp/a; unshare -U true 2>&1 || echo kept'
    const learning = new Learning()
    const first = await run(script, { learn: learning })
    expect(first).toMatchObject({ code: 0, lines: expect.arrayContaining(['5:6', 'kept']) })
    const { seccomp, capabilities, calls } = learning.report()
    expect(calls.find(({ name }) => name === 'unshare')).toMatchObject({ count: 1, refused: 1 })
    if (tracesCapabilities) expect(capabilities).toEqual(['CAP_CHOWN'])
    const smaller: RunOptions = { seccomp, capabilities: { drop: ['ALL'], add: capabilities ?? ['CHOWN'] } }
    expect(await run(script, smaller)).toEqual(first)
    expect((await run('mkdir /tmp/b 2>&1', smaller)).lines).toEqual([expect.stringContaining('not permitted')])
  })

  it('is not for containers that go on without this process', async () => {
    const refused = { code: 'ERR_OCI_INVALID_ARGUMENT', subject: 'detach' }
    await expect(sandbox.run(['true'], { learn: new Learning(), detach: true })).rejects.toMatchObject(refused)
  })
})
