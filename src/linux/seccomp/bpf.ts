/**
 * Classic BPF, as seccomp filters are written in it (include/uapi/linux/filter.h, seccomp.h).
 * A program is an array of words, two an instruction: code | jt << 16 | jf << 24, and k.
 */

/** Load a word of struct seccomp_data, at offset k. */
export const bpfLoad = 0x20
/** Keep the bits of k. */
export const bpfAnd = 0x54
/** Skip k instructions. */
export const bpfJump = 0x05
/** Compare with k, unsigned; skip jt instructions when it holds, else jf. */
export const bpfEqual = 0x15
export const bpfGreater = 0x25
export const bpfGreaterOrEqual = 0x35
/** Answer k. */
export const bpfReturn = 0x06

/** Instructions that the kernel takes at most (BPF_MAXINSNS). */
export const bpfMaxInstructions = 4096

/** Offsets in struct seccomp_data. Both architectures are little-endian. */
export const seccompData = {
  number: 0,
  architecture: 4,
  low: (argument: number): number => 16 + 8 * argument,
  high: (argument: number): number => 20 + 8 * argument,
} as const

/** A program that is being written. */
export class BpfWriter {
  private readonly words: number[] = []

  /** Instructions so far. */
  get length(): number {
    return this.words.length / 2
  }

  /** Appends an instruction. `jt` and `jf` are 0 to 255. */
  emit(code: number, k: number, jt = 0, jf = 0): void {
    this.words.push(code | (jt << 16) | (jf << 24), k)
  }

  /** Sets the jump of an instruction that was emitted before; for code that did not know yet how far. */
  patch(at: number, jt: number, jf: number): void {
    this.words[2 * at] = ((this.words[2 * at] ?? 0) & 0xffff) | (jt << 16) | (jf << 24)
  }

  /**
   * Makes room for one instruction. What follows moves; jumps inside of it hold, being relative, so it
   * must be code that is entered at its start only and jumps nowhere else.
   */
  insert(at: number, code: number, k: number): void {
    this.words.splice(2 * at, 0, code, k)
  }

  /** The program as an array of struct sock_filter. */
  toBytes(): Uint8Array {
    return new Uint8Array(Uint32Array.from(this.words).buffer)
  }
}
