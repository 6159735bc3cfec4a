import { describe, expect, it } from 'vitest'
import { close, O, openat2, RESOLVE } from '../../src/linux/calls/files.ts'
import { FakeRunner } from '../../src/linux/fake.ts'
import { runWalk } from '../../src/linux/walk.ts'

describe('a walk inside a directory', () => {
  const opened = openat2(3, 'a/../b', { flags: O.PATH, resolve: RESOLVE.IN_ROOT })
  const calls = [opened, close(opened)]

  it('is tried again when something else on the host disturbed it', async () => {
    const fake = new FakeRunner()
    fake.fail('openat2', 'EAGAIN', 5)
    const results = await runWalk(fake, calls)
    expect(results.value(opened)).toBeGreaterThan(0)
  })

  it('goes on where it was, in the middle of a batch', async () => {
    const fake = new FakeRunner()
    fake.fail('openat2', 'EAGAIN', 3)
    const first = openat2(3, 'a', { flags: O.PATH, resolve: RESOLVE.IN_ROOT })
    const before = close(9)
    const results = await runWalk(fake, [before, first, close(first), opened, close(opened)])
    expect(results.value(opened)).toBeGreaterThan(results.value(first))
    expect(fake.calls.map(({ name }) => name)).toEqual([
      ...['close', 'openat2', 'openat2', 'openat2', 'openat2', 'close', 'openat2', 'close'],
    ])
  })

  it('is not tried for ever, and not for any other cause', async () => {
    const disturbed = new FakeRunner()
    disturbed.fail('openat2', 'EAGAIN', 1000)
    await expect(runWalk(disturbed, calls)).rejects.toMatchObject({ errnoName: 'EAGAIN' })
    const missing = new FakeRunner()
    missing.fail('openat2', 'ENOENT')
    await expect(runWalk(missing, calls)).rejects.toMatchObject({ errnoName: 'ENOENT' })
  })
})
