import { describe, expect, it } from 'vitest'
import { InvalidArgumentError, LimitError } from '../../src/errors.ts'
import { type Arg, blank, type Call, call, out, struct } from '../../src/linux/call.ts'
import { AT_FDCWD, close, O, openat, write } from '../../src/linux/calls/files.ts'
import { clone, stringTable } from '../../src/linux/calls/processes.ts'
import { encode, encodeWithGaps, fillGaps } from '../../src/linux/encode.ts'

const address = 0x100000
const memory = Buffer.alloc(1 << 16)
const header = 32
const callSize = 56

function encoded(calls: readonly Call[], room: Buffer = memory) {
  const layout = encode(calls, room, { architecture: 'x64', address })
  const at = (index: number): number => layout.replySize + index * callSize
  return {
    layout,
    message: room.subarray(0, layout.size),
    number: (index: number) => room.readUInt32LE(at(index)),
    flags: (index: number) => room.readUInt32LE(at(index) + 4),
    arg: (index: number, argument: number) => room.readBigUInt64LE(at(index) + 8 + argument * 8),
    text: (pointer: bigint) => {
      const start = Number(pointer) - address
      return room.toString('utf8', start, room.indexOf(0, start))
    },
  }
}

const withArg = (arg: unknown): readonly Call[] => [call('getpid', [arg as Arg])]

describe('encode', () => {
  it('lays out header, results, memory for the kernel, calls and data', () => {
    const to = out(12)
    const first = call('readlinkat', [AT_FDCWD, '/a', to, 12])
    const { layout, message, number } = encoded([first, call('getpid', [])])
    expect(layout.outs.get(to)).toBe(header + 2 * 8)
    expect(layout.replySize).toBe(header + 2 * 8 + 16)
    expect(message.readUInt32LE(0)).toBe(layout.size - header)
    expect(message.readUInt32LE(4)).toBe(2)
    expect(message.readUInt32LE(8)).toBe(layout.replySize)
    expect(message.readUInt32LE(20)).toBe(address + layout.replySize)
    expect([number(0), number(1)]).toEqual([267, 39])
  })

  it('numbers calls by the architecture of the process', () => {
    const { replySize } = encode([call('getpid', [])], memory, { architecture: 'arm64', address })
    expect(memory.readUInt32LE(replySize)).toBe(172)
  })

  it('stores strings with a NUL behind them, equal ones in a row once', () => {
    const calls = [call('symlinkat', ['ünï/€', AT_FDCWD, 'same']), call('chdir', ['same']), call('rmdir', ['other'])]
    const { arg, text } = encoded(calls)
    expect(text(arg(0, 0))).toBe('ünï/€')
    expect(text(arg(0, 2))).toBe('same')
    expect(arg(1, 0)).toBe(arg(0, 2))
    expect(text(arg(2, 0))).toBe('other')
  })

  it('leaves nothing of an earlier batch in what the kernel sees', () => {
    memory.fill(0xff)
    const to = out(5)
    const { message, layout, text, arg } = encoded([call('chdir', ['/x']), call('getcwd', [to, 5])])
    expect(message.subarray(header, layout.replySize).every((byte) => byte === 0)).toBe(true)
    expect(text(arg(0, 0))).toBe('/x')
  })

  it('stores numbers of every size in two’s complement', () => {
    const values = [0, -1, -100, 2 ** 31, 2 ** 32, -(2 ** 32) - 1, 2 ** 53 - 1, -(2 ** 53) + 1]
    const extremes = [-(2n ** 63n), 2n ** 64n - 1n, -1n, 2n ** 63n]
    for (const value of [...values, ...extremes]) {
      expect(encoded(withArg(value)).arg(0, 0)).toBe(BigInt.asUintN(64, BigInt(value)))
    }
  })

  it('points an argument at the result of an earlier call', () => {
    const open = openat(AT_FDCWD, '/x', O.RDONLY)
    const { arg, flags } = encoded([open, write(open, 'text'), close(open)])
    expect(arg(1, 0)).toBe(BigInt(address + header))
    expect(flags(0)).toBe(0)
    expect(flags(1)).toBe(2)
    expect(flags(2)).toBe(2)
  })

  it('stores a table of strings with a NULL behind it', () => {
    const { arg, text, message } = encoded([call('execve', ['/bin/sh', stringTable(['sh', '-c']), stringTable([])])])
    const table = Number(arg(0, 1)) - address
    expect(text(message.readBigUInt64LE(table))).toBe('sh')
    expect(text(message.readBigUInt64LE(table + 8))).toBe('-c')
    expect(message.readBigUInt64LE(table + 16)).toBe(0n)
    expect(message.readBigUInt64LE(Number(arg(0, 2)) - address)).toBe(0n)
  })

  it('gives memory that is used twice one place, also inside a struct', () => {
    const shared = out(8)
    const calls = [
      call('readlinkat', [0, 'x', shared, 8]),
      call('write', [1, shared, 8]),
      call('ioctl', [1, 2, struct([shared])]),
    ]
    const { arg, message } = encoded(calls)
    expect(arg(1, 1)).toBe(arg(0, 2))
    expect(message.readBigUInt64LE(Number(arg(2, 2)) - address)).toBe(arg(0, 2))
  })

  it('marks tolerated errors and the socket of a child', () => {
    const { flags } = encoded([
      call('getpid', [], { tolerate: 'EEXIST' }),
      call('getpid', [], { tolerate: 'any' }),
      call('getpid', [], { tolerate: 'EUCLEAN' }),
      clone({ flags: 0, childSocket: 255 }),
    ])
    expect(flags(0)).toBe(17 << 16)
    expect(flags(1) >>> 16).toBe(0xffff)
    expect(flags(2)).toBe(117 << 16)
    expect(flags(3)).toBe(255 << 8)
  })
})

describe('encode refuses', () => {
  it.each([
    ['a NUL byte in a string', ['a\0b'], /NUL byte in "a\\u0000b"/],
    ['a fraction', [1.5], /1.5 is no integer/],
    ['NaN', [Number.NaN], /NaN is no integer/],
    ['a number beyond 53 bits', [2 ** 53], /no integer/],
    ['a bigint beyond 64 bits', [2n ** 64n], /no integer/],
    ['a bigint below 64 bits', [-(2n ** 63n) - 1n], /no integer/],
    ['undefined inside of a struct', [struct([undefined as never])], /an argument is undefined/],
    ['null', [null], /an argument is null/],
    ['undefined', [undefined], /an argument is undefined/],
    ['a boolean', [true], /of type boolean/],
    ['an object of another kind', [{}], /of type object/],
    ['a result in a struct', [struct([call('getpid', []) as never])], /a struct can't hold the result/],
    ['memory of a negative size', [out(-8)], /-8 is no size/],
    ['memory of no size', [out(Number.NaN)], /NaN is no size/],
    ['seven arguments', [1, 2, 3, 4, 5, 6, 7], /has 7 arguments; a system call has at most six/],
  ])('%s', (_, args, message) => {
    const calls = [call('getpid', args as readonly Arg[])]
    expect(() => encoded(calls)).toThrow(InvalidArgumentError)
    expect(() => encoded(calls)).toThrow(message)
  })

  it('a system call that is not in the table', () => {
    expect(() => encoded([call('reboot_to_moon', [])])).toThrow(/no system call is named reboot_to_moon/)
    expect(() => encoded([call('constructor', [])])).toThrow(InvalidArgumentError)
  })

  it('an errno that nobody has heard of', () => {
    expect(() => encoded([call('getpid', [], { tolerate: 'EWHATEVER' })])).toThrow(/no errno is named EWHATEVER/)
    expect(() => encoded([call('getpid', [], { tolerate: 'constructor' })])).toThrow(InvalidArgumentError)
  })

  it('the result of a call that is made later, is not made, or is the call itself', () => {
    const open = openat(AT_FDCWD, '/x', O.RDONLY)
    expect(() => encoded([close(open), open])).toThrow(/close uses the result of openat, which is not made before/)
    expect(() => encoded([close(open)])).toThrow(InvalidArgumentError)
  })

  it.each([0, -1, 256, 1.5, Number.NaN])('%s as the socket of a child', (childSocket) => {
    expect(() => encoded([clone({ flags: 0, childSocket })])).toThrow(/a number from 1 to 255/)
  })

  it.each([
    ['bytes', () => new Uint8Array(70_000)],
    ['a string', () => 'x'.repeat(70_000)],
    ['memory to write to', () => out(70_000)],
    ['memory whose size overflows 32 bits', () => out(2 ** 32)],
    ['memory whose size overflows after rounding', () => out(2 ** 31 - 4)],
  ])('%s beyond the memory there is', (_, make) => {
    expect(() => encoded([call('write', [1, make(), 1])])).toThrow(LimitError)
  })

  it('more calls than there is memory for', () => {
    const calls = Array.from({ length: 2000 }, () => call('getpid', []))
    expect(() => encoded(calls)).toThrow(/a batch of system calls exceeds the limit of 65536 bytes/)
  })
})

describe('a batch with blanks', () => {
  const calls = [call('chdir', [`/x/${blank}`]), call('symlinkat', [`${blank}/${blank}`, AT_FDCWD, 'plain'])]
  const target = { architecture: 'x64', address } as const

  it('is encoded with what stands for them', () => {
    const layout = encode(calls, memory, { ...target, text: 'ünï' })
    const at = memory.readUInt32LE(layout.replySize + 8) - address
    expect(memory.toString('utf8', at, memory.indexOf(0, at))).toBe('/x/ünï')
  })

  it('can be encoded once and filled each time', () => {
    const { layout, gaps } = encodeWithGaps(calls, memory, target)
    const kept = Buffer.from(memory.subarray(0, layout.size))
    for (const text of ['a', 'a longer one']) {
      memory.set(kept)
      const size = fillGaps(memory, layout.size, gaps, { ...target, text })
      expect(memory.readUInt32LE(0)).toBe(size - header)
      const strings = [0, callSize, callSize + 16].map((offset) => {
        const at = memory.readUInt32LE(layout.replySize + 8 + offset) - address
        return memory.toString('utf8', at, memory.indexOf(0, at))
      })
      expect(strings).toEqual([`/x/${text}`, `${text}/${text}`, 'plain'])
    }
    expect(() => fillGaps(memory, layout.size, gaps, { ...target, text: 'a\0b' })).toThrow(InvalidArgumentError)
  })
})
