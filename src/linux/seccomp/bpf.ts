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

/** Farthest that a comparison can skip. */
const farthest = 255

/**
 * A program that is written from its end to its start, since jumps lead forward only. A place is how many instructions
 * stand behind and at it.
 */
export class BpfWriter {
  private readonly instructions: (readonly [word: number, k: number])[]

  /** @param program that stands behind all that is put in front: an array of struct sock_filter. Default none. */
  constructor(program: Uint8Array = new Uint8Array()) {
    const words = new Uint32Array(program.slice().buffer)
    this.instructions = Array.from({ length: words.length / 2 }, (_, index): readonly [number, number] => [
      words[2 * index] as number,
      words[2 * index + 1] as number,
    ]).reverse()
  }

  /** Instructions so far; the place of the one that was put in front last. */
  get length(): number {
    return this.instructions.length
  }

  /** Puts an instruction in front. `jt` and `jf` are 0 to 255. @returns its place. */
  prepend(code: number, k: number, jt = 0, jf = 0): number {
    return this.instructions.push([code | (jt << 16) | (jf << 24), k])
  }

  /** Puts in front what goes on at `place`. */
  jump(place: number): number {
    return this.prepend(bpfJump, this.length - place)
  }

  /** Puts a comparison in front that goes on at `holds` or at `fails`. */
  branch(code: number, k: number, holds: number, fails: number): number {
    // What is too far for 8 bits is reached by a jump that has 32.
    const onHold = this.isNear(holds) ? holds : this.jump(holds)
    const onFail = this.isNear(fails) ? fails : this.jump(fails)
    return this.prepend(code, k, this.length - onHold, this.length - onFail)
  }

  /** Whether a comparison in front can skip to `place`, also when a jump is put between. */
  isNear(place: number): boolean {
    return this.length - place < farthest
  }

  /** The program as an array of struct sock_filter. */
  toBytes(): Uint8Array {
    return new Uint8Array(Uint32Array.from(this.instructions.toReversed().flat()).buffer)
  }
}
