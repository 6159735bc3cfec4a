/**
 * Extended BPF, as far as programs of cgroups need it (Documentation/bpf/standardization/instruction-set.rst):
 * an instruction is 8 bytes: opcode, registers (destination in the low half), jump offset, immediate.
 */

/** Opcodes. Arithmetic and comparisons work on 32 bits; jumps of that width are there since Linux 5.1. */
export const ebpf = {
  /** dst = *(u32 *)(src + offset) */
  load32: 0x61,
  /** dst = immediate */
  move: 0xb4,
  and: 0x54,
  shiftRight: 0x74,
  jumpUnlessEqual: 0x56,
  /** Jump when dst and the immediate have a bit in common. */
  jumpIfSet: 0x46,
  jump: 0x05,
  exit: 0x95,
} as const

/** Bytes of an instruction. */
export const ebpfInstructionSize = 8

/** One instruction; what is not set is 0. */
export interface EbpfInstruction {
  readonly code: number
  readonly to?: number
  readonly from?: number
  /** Instructions to skip, or bytes from the address of a load. */
  readonly offset?: number
  readonly immediate?: number
}

/** The instructions as the kernel takes them. Both architectures are little-endian. */
export function encodeEbpf(instructions: readonly EbpfInstruction[]): Buffer {
  const bytes = Buffer.alloc(instructions.length * ebpfInstructionSize)
  instructions.forEach(({ code, to = 0, from = 0, offset = 0, immediate = 0 }, index) => {
    const at = index * ebpfInstructionSize
    bytes.writeUInt8(code, at)
    bytes.writeUInt8(to | (from << 4), at + 1)
    bytes.writeInt16LE(offset, at + 2)
    bytes.writeInt32LE(immediate | 0, at + 4)
  })
  return bytes
}
