import { afterAll, describe, expect, it } from 'vitest'
import { hostArchitecture } from '../../../src/linux/architecture.ts'
import { type Call, call } from '../../../src/linux/call.ts'
import { AT_FDCWD, close, O, openat, write } from '../../../src/linux/calls/files.ts'
import { encode } from '../../../src/linux/encode.ts'
import { messageAddress } from '../../../src/linux/remote/memory.ts'
import { Remote } from '../../../src/linux/remote/remote.ts'
import { statusOf } from '../support.ts'

const remote = Remote.spawn()
afterAll(() => remote.close())

/** Median of `times` runs, in milliseconds. */
async function median(times: number, run: () => unknown): Promise<number> {
  const samples: number[] = []
  for (let i = 0; i < times; i++) {
    const start = performance.now()
    await run()
    samples.push(performance.now() - start)
  }
  return samples.sort((a, b) => a - b)[times >> 1] as number
}

const switches = (): number => Number(statusOf(remote.pid)?.get('voluntary_ctxt_switches'))

describe('a batch of 200 calls', () => {
  const calls = Array.from({ length: 200 }, () => call('getpid', []))

  it('costs one round trip: the process waits as often as for a single call', async () => {
    const waits = async (batch: readonly Call[]): Promise<number> => {
      const before = switches()
      for (let i = 0; i < 50; i++) await remote.run(batch)
      return switches() - before
    }
    await waits(calls)
    const [single, many] = [await waits(calls.slice(0, 1)), await waits(calls)]
    // Each round trip is a wait or two: for the header, and for what follows when it has not come yet.
    expect(many).toBeLessThanOrEqual(2 * single + 10)
    expect(many).toBeLessThan(50 * 4)
  })

  it('takes less than ten times as long as a single one', async () => {
    const one = calls.slice(0, 1)
    await median(50, () => remote.run(calls))
    const single = await median(101, () => remote.run(one))
    const many = await median(101, () => remote.run(calls))
    expect(many / single).toBeLessThan(10)
  })

  it('is encoded in less than half a millisecond, also with strings and chained results', async () => {
    const memory = Buffer.alloc(1 << 17)
    const mixed = Array.from({ length: 50 }, (_, i) => {
      const file = openat(AT_FDCWD, `/var/lib/some/path/${i}`, O.WRONLY | O.CREAT, 0o644)
      return [file, write(file, 'some content'), close(file), call('getpid', [])]
    }).flat()
    const target = { architecture: hostArchitecture(), address: messageAddress }
    await median(200, () => encode(mixed, memory, target))
    expect(await median(101, () => encode(mixed, memory, target))).toBeLessThan(0.5)
  })
})
