/** What a filter is asked about: struct seccomp_data without the instruction pointer. */
export interface SeccompData {
  readonly nr: number
  /** AUDIT_ARCH. */
  readonly arch: number
  readonly args?: readonly bigint[]
}

/** What it answered, and after how many instructions. */
export interface Answer {
  readonly answer: number
  readonly steps: number
}

/** Runs a seccomp filter as the kernel's checker and interpreter would. @throws Error for what the kernel refuses. */
export function runFilter(program: Uint8Array, { nr, arch, args = [] }: SeccompData): Answer {
  const view = new DataView(program.buffer, program.byteOffset, program.byteLength)
  const data = new DataView(new ArrayBuffer(64))
  data.setUint32(0, nr, true)
  data.setUint32(4, arch, true)
  for (let i = 0; i < 6; i++) data.setBigUint64(16 + 8 * i, args[i] ?? 0n, true)
  let accumulator = 0
  let steps = 0
  for (let at = 0; at * 8 < program.length; at++) {
    steps++
    const code = view.getUint16(at * 8, true)
    const [jt, jf, k] = [view.getUint8(at * 8 + 2), view.getUint8(at * 8 + 3), view.getUint32(at * 8 + 4, true)]
    switch (code) {
      case 0x20:
        if (k % 4 !== 0 || k >= 64) throw new Error(`load from ${k}`)
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
