import { seccompData } from './bpf.ts'

/** What a filter is asked about: struct seccomp_data without the instruction pointer. */
export interface SeccompData {
  readonly nr: number
  /** AUDIT_ARCH. */
  readonly arch: number
  readonly args?: readonly bigint[]
}

/** Where the arguments begin in it. */
const firstArgument = seccompData.low(0)

/** What it answered, and after how many instructions. */
export interface Answer {
  readonly answer: number
  readonly steps: number
}

/** Runs a seccomp filter as the kernel's checker and interpreter would. @throws Error for what the kernel refuses. */
export function runFilter(program: Uint8Array, { nr, arch, args = [] }: SeccompData): Answer {
  return run(program, { nr, arch, args: Array.from({ length: 6 }, (_, index) => args[index] ?? 0n) }) as Answer
}

/**
 * What a filter answers to a call some of whose arguments are not known; undefined when it looks at one of them.
 * @param args Undefined, or missing: not known. @throws as {@link runFilter} does.
 */
export function certainAnswer(
  program: Uint8Array,
  { nr, arch }: Pick<SeccompData, 'nr' | 'arch'>,
  args: readonly (bigint | undefined)[] = [],
): number | undefined {
  return run(program, { nr, arch, args })?.answer
}

interface PartlyKnown extends Pick<SeccompData, 'nr' | 'arch'> {
  readonly args: readonly (bigint | undefined)[]
}

/** @returns undefined when an argument is looked at that is not known. */
function run(program: Uint8Array, { nr, arch, args }: PartlyKnown): Answer | undefined {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength)
  const data = new DataView(new ArrayBuffer(64))
  data.setUint32(0, nr, true)
  data.setUint32(4, arch, true)
  for (let i = 0; i < 6; i++) data.setBigUint64(firstArgument + 8 * i, args[i] ?? 0n, true)
  let accumulator = 0
  let steps = 0
  for (let at = 0; at * 8 < program.length; at++) {
    steps++
    const code = view.getUint16(at * 8, true)
    const [jt, jf, k] = [view.getUint8(at * 8 + 2), view.getUint8(at * 8 + 3), view.getUint32(at * 8 + 4, true)]
    switch (code) {
      case 0x20:
        if (k % 4 !== 0 || k >= 64) throw new Error(`load from ${k}`)
        if (k >= firstArgument && args[(k - firstArgument) >> 3] === undefined) return undefined
        accumulator = data.getUint32(k, true)
        break
      case 0x54:
        accumulator = (accumulator & k) >>> 0
        break
      case 0x05:
        at += k
        break
      case 0x15:
        at += accumulator === k ? jt : jf
        break
      case 0x25:
        at += accumulator > k ? jt : jf
        break
      case 0x35:
        at += accumulator >= k ? jt : jf
        break
      case 0x45:
        at += (accumulator & k) !== 0 ? jt : jf
        break
      case 0x06:
        return { answer: k, steps }
      default:
        throw new Error(`unknown instruction 0x${code.toString(16)} at ${at}`)
    }
  }
  throw new Error('the program ran over its end')
}
