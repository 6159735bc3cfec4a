import { describe, expect, it } from 'vitest'
import { type Screen, type Step, watch } from '../../../src/cli/images/progress.ts'
import { Operation } from '../../../src/content/operation.ts'

const digest = `sha256:${'0123456789abcdef'.repeat(4)}`

function step(kind: string, bytes: number, more: Partial<Step> = {}): Step {
  const descriptor = { digest, size: 2_000_000 }
  return { kind, phase: 'content', descriptor, bytes, transferred: bytes, total: 2_000_000, rate: 500_000, ...more }
}

function screenOf(terminal: Partial<Screen> = {}): Screen & { text: string } {
  return {
    text: '',
    write(text) {
      this.text += text
    },
    ...terminal,
  }
}

/** An operation that takes these steps, with the time of a picture between them. */
function operation(...steps: readonly Step[]): Operation<string, Step> {
  return new Operation(async (report) => {
    for (const each of steps) {
      await new Promise((resolve) => setTimeout(resolve, 120))
      report(each)
    }
    return 'result'
  })
}

const steps = [step('found', 0), step('started', 0), step('transferred', 1_000_000), step('retry', 1_000_000)]

describe('watch', () => {
  it('writes plain lines to a log: one for each event that matters, and what it was in the end', async () => {
    const screen = screenOf()
    expect(await watch(operation(...steps, step('done', 2_000_000)), screen)).toBe('result')
    expect(screen.text).toBe(
      'sha256:0123456789ab    2.0 MB  tries again\n' +
        'sha256:0123456789ab    2.0 MB  done\n' +
        '2.0 MB of 2.0 MB, 500.0 kB/s\n',
    )
  })

  it('draws bars on a terminal, no wider than it is, and takes them away again', async () => {
    const screen = screenOf({ isTTY: true, columns: 60, rows: 10 })
    await watch(operation(...steps, step('transferred', 1_500_000), step('done', 2_000_000)), screen)
    expect(screen.text).toMatch(/sha256:0123456789ab \[=+> +\] {2}50%\n/)
    expect(screen.text).toMatch(/\[=+> +\] {2}75%\n/)
    expect(screen.text).toContain('\x1b[2A\x1b[J')
    expect(screen.text.endsWith('\x1b[1A\x1b[J2.0 MB of 2.0 MB, 500.0 kB/s\n')).toBe(true)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what moves the cursor takes no place
    for (const line of screen.text.replace(/\x1b\[\d*[AJ]/g, '').split('\n')) expect(line.length).toBeLessThan(60)
  })

  it('throws what the operation fails with, and shows nothing where there is no screen', async () => {
    const failure = new Error('lost')
    const failing = (): Operation<string, Step> =>
      new Operation(async (report) => {
        report(step('started', 0))
        throw failure
      })
    const screen = screenOf({ isTTY: true })
    await expect(watch(failing(), screen)).rejects.toBe(failure)
    await expect(watch(failing(), undefined)).rejects.toBe(failure)
    expect(await watch(operation(), undefined)).toBe('result')
  })
})
