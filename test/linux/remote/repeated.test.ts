import { describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../../src/errors.ts'
import { type Call, call, shortBlank, wideBlank } from '../../../src/linux/call.ts'
import { RepeatedBatch } from '../../../src/linux/remote/repeated.ts'

const address = 0x100000
const memory = Buffer.alloc(1 << 16)
const target = { architecture: 'x64', address, outlive: false } as const

/** The strings that the first arguments of a batch point at, after it was written with `text`. */
function strings(batch: RepeatedBatch, text: string | undefined): readonly string[] {
  memory.fill(0xff)
  const size = batch.write(memory, text)
  expect(memory.readUInt32LE(0)).toBe(size - 32)
  return batch.calls.map((_, index) => {
    const at = memory.readUInt32LE(batch.layout.replySize + index * 56 + 8) - address
    return memory.toString('utf8', at, memory.indexOf(0, at))
  })
}

function batchOf(...paths: readonly string[]): RepeatedBatch {
  const calls: readonly Call[] = paths.map((path) => call('chdir', [path]))
  return RepeatedBatch.of(calls, [], memory, target)
}

describe('a batch that is made again', () => {
  const expected = (text: string): readonly string[] => [`/x/${text}/y`, text.slice(0, 12), 'plain', `${text}${text}`]

  it.each([
    ['of the same length', 'first-container-1', 'first-container-2'],
    ['of another length', 'container-9', 'container-10', 'container-9'],
    ['shorter than its short form', 'a', 'b', 'abcdefghijklm', 'c'],
    ['that are not of ASCII', 'ünï', 'abc', 'ïnü', 'abc'],
  ])('has each of the texts %s', (_, ...texts) => {
    const batch = batchOf(`/x/${wideBlank}/y`, shortBlank, 'plain', `${wideBlank}${wideBlank}`)
    for (const text of texts) expect(strings(batch, text)).toEqual(expected(text))
  })

  it('has them in strings that are not of ASCII', () => {
    const batch = batchOf(`/ünï/${wideBlank}`)
    for (const text of ['a', 'b']) expect(strings(batch, text)).toEqual([`/ünï/${text}`])
  })

  it('has its blanks when no text is given', () => {
    const batch = batchOf(`/x/${wideBlank}`)
    expect(strings(batch, 'a')).toEqual(['/x/a'])
    expect(strings(batch, undefined)).toEqual([`/x/${wideBlank}`])
    expect(strings(batch, 'b')).toEqual(['/x/b'])
  })

  it('takes no text with a NUL', () => {
    const batch = batchOf(`/x/${wideBlank}`)
    expect(strings(batch, 'abc')).toEqual(['/x/abc'])
    expect(() => batch.write(memory, 'a\0c')).toThrow(InvalidArgumentError)
    expect(strings(batch, 'abd')).toEqual(['/x/abd'])
  })
})
