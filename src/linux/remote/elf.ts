import type { Architecture } from '../architecture.ts'
import { codeAddress, headerSize, messageAddress, messageCapacity } from './memory.ts'

const elfHeaderSize = 64
const programHeaderSize = 56
const machine: Readonly<Record<Architecture, number>> = { x64: 62, arm64: 183 }

// Kernels on arm64 may use pages of up to 64 KiB; segments aligned to that load everywhere.
const alignment = 0x10000

const segment = { load: 1, gnuStack: 0x6474e551 } as const
const permission = { execute: 1, write: 2, read: 4 } as const

/** Wraps machine code in the smallest static ELF executable that has message memory beside it. */
export function elfExecutable(code: Uint8Array, architecture: Architecture): Uint8Array {
  const headers = elfHeaderSize + 3 * programHeaderSize
  const file = Buffer.alloc(headers + code.length)
  file.write('\x7fELF', 'latin1')
  file.set([2, 1, 1], 4) // 64 bits, little endian, version 1
  file.writeUInt16LE(2, 16) // ET_EXEC
  file.writeUInt16LE(machine[architecture], 18)
  file.writeUInt32LE(1, 20)
  file.writeBigUInt64LE(BigInt(codeAddress + headers), 24) // entry point
  file.writeBigUInt64LE(BigInt(elfHeaderSize), 32) // offset of the program headers
  file.writeUInt16LE(elfHeaderSize, 52)
  file.writeUInt16LE(programHeaderSize, 54)
  file.writeUInt16LE(3, 56)

  const size = file.length
  programHeader(file, 0, segment.load, permission.read | permission.execute, codeAddress, size, size)
  programHeader(
    file,
    1,
    segment.load,
    permission.read | permission.write,
    messageAddress,
    0,
    headerSize + messageCapacity,
  )
  programHeader(file, 2, segment.gnuStack, permission.read | permission.write, 0, 0, 0)
  file.set(code, headers)
  return file
}

function programHeader(
  file: Buffer,
  index: number,
  type: number,
  flags: number,
  address: number,
  fileSize: number,
  memorySize: number,
): void {
  const at = elfHeaderSize + index * programHeaderSize
  file.writeUInt32LE(type, at)
  file.writeUInt32LE(flags, at + 4)
  file.writeBigUInt64LE(0n, at + 8) // offset in the file
  file.writeBigUInt64LE(BigInt(address), at + 16)
  file.writeBigUInt64LE(BigInt(address), at + 24)
  file.writeBigUInt64LE(BigInt(fileSize), at + 32)
  file.writeBigUInt64LE(BigInt(memorySize), at + 40)
  file.writeBigUInt64LE(BigInt(alignment), at + 48)
}
