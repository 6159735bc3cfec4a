import { appendFileSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createLogFiles, LogFiles } from '../../src/engine/log-files.ts'
import { InvalidArgumentError, NotFoundError } from '../../src/errors.ts'

describe('the log in files', () => {
  let directory: string
  let running: boolean
  let log: LogFiles
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-log-'))
    running = true
    log = new LogFiles(directory, 'box', async () => running)
    createLogFiles(directory, process.geteuid?.() ?? 0).close()
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  const write = (text: string | Buffer, name = 'stdout'): void => appendFileSync(join(directory, `${name}.log`), text)
  async function lines(options?: Parameters<LogFiles['lines']>[0]): Promise<readonly string[]> {
    const found: string[] = []
    for await (const { text } of log.lines(options)) found.push(text)
    return found
  }

  it('is made anew, for its owner only, and appended to', () => {
    rmSync(join(directory, 'stdout.log'))
    rmSync(join(directory, 'stderr.log'))
    const { stdout, close } = createLogFiles(directory, process.geteuid?.() ?? 0)
    write('first ')
    writeSync(stdout, 'second', 0)
    close()
    close()
    expect(statSync(join(directory, 'stdout.log'))).toMatchObject({ size: 12 })
    expect(statSync(join(directory, 'stderr.log')).mode & 0o777).toBe(0o600)
    expect(() => createLogFiles(directory, 0)).toThrow('EEXIST')
  })

  it('is read in lines over the edges of what is read at once', async () => {
    const text = `${'é'.repeat(20_000)}\n`.repeat(10)
    write(text)
    write('last')
    expect(await lines()).toEqual([...text.trim().split('\n'), 'last'])
    expect(await lines({ tail: 1 })).toEqual(['last'])
    running = false
    const chunks: Buffer[] = []
    for await (const chunk of log.stream('stdout')) chunks.push(chunk as Buffer)
    expect(Buffer.concat(chunks).toString()).toBe(`${text}last`)
    expect(log.stream('stdout')).toBe(log.stream('stdout'))
  })

  it('is followed until the end, also where the file was cut', async () => {
    write('one\ntwo\nthr')
    const seen: string[] = []
    for await (const { text } of log.lines({ follow: true, tail: 1 })) {
      seen.push(text)
      if (text === 'two') write('ee\n')
      if (text === 'three') {
        truncateSync(join(directory, 'stdout.log'))
        writeFileSync(join(directory, 'stdout.log'), 'new\n')
      }
      if (text === 'new') {
        write('rest', 'stderr')
        running = false
      }
    }
    expect(seen).toEqual(['two', 'three', 'new', 'rest'])
  })

  it('refuses a tail that is none, and is missed when it was removed', async () => {
    expect(() => log.lines({ tail: -1 })).toThrow(InvalidArgumentError)
    rmSync(join(directory, 'stderr.log'))
    await expect(lines()).rejects.toThrow(NotFoundError)
    expect(await log.tail(1).catch((error: unknown) => error)).toMatchObject({ subject: 'box' })
  })
})
