import { describe, expect, it } from 'vitest'
import { decimal, type Options, parseArguments } from '../../src/cli/arguments.ts'
import { InvalidArgumentError } from '../../src/errors.ts'

const options: Options = {
  bundle: { kind: 'text', short: 'b', value: 'DIR' },
  env: { kind: 'texts', short: 'e' },
  force: { kind: 'flag', short: 'f' },
}

describe('a command line', () => {
  it.each([
    ['--bundle DIR id'],
    ['--bundle=DIR id'],
    ['-b DIR id'],
    ['-b=DIR id'],
    ['-bundle DIR id'],
    ['id --bundle DIR'],
    ['--bundle other id -b DIR'],
  ])('has options in every form and place: %s', (line) => {
    const args = parseArguments(line.split(' '), options)
    expect([args.text('bundle'), args.positionals]).toEqual(['DIR', ['id']])
  })

  it('collects texts, and lets a flag be told to be off', () => {
    const args = parseArguments(['-e', 'A=1', '--env', 'B=2=3', '--force=false', '-f'], options)
    expect([args.texts('env'), args.flag('force')]).toEqual([['A=1', 'B=2=3'], true])
    expect(parseArguments(['--force=false'], options).flag('force')).toBe(false)
  })

  it('ends options where they are somebody else’s, and behind two dashes', () => {
    expect(parseArguments(['-f', 'id', 'ls', '-f', '--nonsense'], options, { positionals: 1 }).positionals).toEqual([
      'id',
      'ls',
      '-f',
      '--nonsense',
    ])
    expect(parseArguments(['id', '--', '-f'], options).positionals).toEqual(['id', '-f'])
  })

  it('takes a single dash as a value, and as a positional', () => {
    const args = parseArguments(['--bundle=-', '-'], options)
    expect([args.text('bundle'), args.positionals]).toEqual(['-', ['-']])
  })

  it.each([[['--nonsense']], [['-x']], [['--bundle']], [['-b']], [['-f', '--force=maybe']]])(
    'is refused when it is %j',
    (line) => {
      expect(() => parseArguments(line, options).flag('force')).toThrow(InvalidArgumentError)
    },
  )
})

// The number of a user that is read up to the first character that is none becomes another user's (CVE-2026-30892).
describe('a number (CVE-2026-30892)', () => {
  it.each(['0', '1', '10', '4294967294'])('%j is one', (text) => {
    expect(decimal(text, 'it', 2 ** 32 - 2)).toBe(Number(text))
  })

  it.each([
    '',
    ' 1',
    '1 ',
    '01',
    '1:',
    '1:2',
    '-1',
    '+1',
    '1x',
    '0x1',
    '1e3',
    '1.0',
    '4294967295',
    '99999999999999999999',
  ])('%j is none', (text) => {
    expect(() => decimal(text, 'it', 2 ** 32 - 2)).toThrow(InvalidArgumentError)
  })
})
