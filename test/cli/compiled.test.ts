import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CommandLine } from './support.ts'

describe.skipIf(process.platform !== 'linux')('what V8 has compiled of the command line', () => {
  let oci: CommandLine
  let directory: string
  beforeEach(() => {
    oci = new CommandLine()
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-compiled-'))
  })
  afterEach(() => {
    rmSync(directory, { recursive: true })
    oci.remove()
  })

  const kept = (): string => join(directory, 'compiled')
  /** Asks for a container that is not there. @returns the answer. */
  const ask = (
    env: NodeJS.ProcessEnv = { NODE_COMPILE_CACHE: kept(), NODE_DISABLE_COMPILE_CACHE: undefined },
  ): string => oci.run(['--root', directory, 'state', 'nobody'], { env: env as Record<string, string> }).stderr
  const answer = /container does not exist/
  const file = (): string => {
    const [name = '', ...others] = readdirSync(kept())
    expect(others).toEqual([])
    expect(name).toMatch(/^state-v\d+/)
    return join(kept(), name)
  }

  it('is kept for each command, and used', () => {
    expect(ask()).toMatch(answer)
    const before = readFileSync(file())
    expect(ask()).toMatch(answer)
    expect(readFileSync(file()).equals(before)).toBe(true)
  })

  it('is not used for another program', () => {
    expect(ask()).toMatch(answer)
    const program = join(dirname(oci.path), 'command-line.cjs')
    const text = readFileSync(program, 'utf8')
    const changed = text.replaceAll('does not exist', 'does not exits')
    expect(changed).not.toBe(text)
    writeFileSync(program, changed)
    expect(ask()).toMatch(/container does not exits/)
    expect(ask()).toMatch(/container does not exits/)
  })

  it.each([
    ['a part of it is left', (path: string) => truncateSync(path, readFileSync(path).length - 1000)],
    ['nothing is left', (path: string) => truncateSync(path, 0)],
    ['it is of another V8', (path: string) => overwrite(path, 8)],
  ])('is made again when %s', (_, damage) => {
    ask()
    const before = readFileSync(file()).length
    damage(file())
    expect(ask()).toMatch(answer)
    expect(Math.abs(readFileSync(file()).length - before)).toBeLessThan(before / 10)
    expect(ask()).toMatch(answer)
  })

  /** Changes the words in front of what V8 has compiled, behind the source. */
  function overwrite(path: string, bytes: number): void {
    const size = readFileSync(join(dirname(oci.path), 'command-line.cjs')).length
    const all = readFileSync(path)
    all.fill(7, size, size + bytes)
    writeFileSync(path, all)
  }

  it('is not kept where it is not wanted, or can not be', () => {
    expect(ask({ NODE_COMPILE_CACHE: kept(), NODE_DISABLE_COMPILE_CACHE: '1' })).toMatch(answer)
    expect(existsSync(kept())).toBe(false)
    mkdirSync(directory, { recursive: true })
    writeFileSync(kept(), 'a file')
    expect(ask()).toMatch(answer)
    expect(readFileSync(kept(), 'utf8')).toBe('a file')
  })
})
