import { ebpf } from '../../../src/linux/ebpf.ts'

/** Runs a program of the instructions that {@link ebpf} has on a context of 32-bit words. @returns r0. */
export function interpret(program: Buffer, context: readonly number[]): number {
  const registers = new Array<number>(11).fill(0)
  for (let at = 0, steps = 0; steps < 100_000; steps++) {
    const instruction = program.subarray(at * 8, at * 8 + 8)
    if (instruction.length < 8) throw new Error(`jumped out of the program to ${at}`)
    const to = (instruction[1] as number) & 15
    const from = (instruction[1] as number) >> 4
    const offset = instruction.readInt16LE(2)
    const immediate = instruction.readInt32LE(4)
    const value = registers[to] as number
    at++
    switch (instruction[0]) {
      case ebpf.load32:
        if (from !== 1) throw new Error('loads from something that is not the context')
        registers[to] = context[offset / 4] as number
        break
      case ebpf.move:
        registers[to] = immediate >>> 0
        break
      case ebpf.and:
        registers[to] = (value & immediate) >>> 0
        break
      case ebpf.shiftRight:
        registers[to] = value >>> immediate
        break
      case ebpf.jumpUnlessEqual:
        if (value !== immediate >>> 0) at += offset
        break
      case ebpf.jumpIfSet:
        if ((value & immediate) !== 0) at += offset
        break
      case ebpf.jump:
        at += offset
        break
      case ebpf.exit:
        return registers[0] as number
      default:
        throw new Error(`unknown opcode ${instruction[0]}`)
    }
  }
  throw new Error('does not end')
}
