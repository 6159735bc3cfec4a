import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const PT_LOAD = 1
const PT_DYNAMIC = 2
const PT_INTERP = 3
const DT_NEEDED = 1
const DT_STRTAB = 5

const triple = `${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`

/** Where dynamic linkers look when nothing tells them otherwise. */
const directories = [`/lib/${triple}`, `/usr/lib/${triple}`, '/lib64', '/usr/lib64', '/lib', '/usr/lib']

/**
 * Paths of all that a program needs to start: its dynamic linker, and its libraries with theirs. Read from its
 * ELF headers (elf(5), 64 bit, little-endian); nothing is run. Empty for a static program.
 */
export function sharedLibraries(program: string): ReadonlySet<string> {
  const found = new Set<string>()
  const visit = (path: string): void => {
    const { interpreter, needed } = readElf(readFileSync(path), path)
    if (interpreter !== undefined) found.add(interpreter)
    for (const name of needed) {
      const library = directories.map((directory) => join(directory, name)).find((candidate) => existsSync(candidate))
      if (library === undefined) throw new Error(`${path} needs ${name}, which is in none of ${directories.join(', ')}`)
      if (found.has(library)) continue
      found.add(library)
      visit(library)
    }
  }
  visit(program)
  return found
}

interface Elf {
  readonly interpreter: string | undefined
  readonly needed: readonly string[]
}

function readElf(file: Buffer, path: string): Elf {
  if (file.toString('latin1', 0, 6) !== '\x7fELF\x02\x01') throw new Error(`${path} is no 64-bit ELF file`)
  const u64 = (offset: number): number => Number(file.readBigUInt64LE(offset))
  const text = (offset: number): string => file.toString('utf8', offset, file.indexOf(0, offset))

  const size = file.readUInt16LE(54)
  const segments = Array.from({ length: file.readUInt16LE(56) }, (_, index) => {
    const at = u64(32) + index * size
    return { type: file.readUInt32LE(at), offset: u64(at + 8), address: u64(at + 16), bytes: u64(at + 32) }
  })
  const interpreter = segments.find(({ type }) => type === PT_INTERP)
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC)
  const tags = Array.from({ length: (dynamic?.bytes ?? 0) / 16 }, (_, index) => {
    const at = (dynamic?.offset ?? 0) + index * 16
    return { tag: u64(at), value: u64(at + 8) }
  })

  // The string table is given by its address in memory.
  const strings = tags.find(({ tag }) => tag === DT_STRTAB)?.value ?? 0
  const loaded = segments.find(
    ({ type, address, bytes }) => type === PT_LOAD && strings >= address && strings < address + bytes,
  )
  const base = loaded === undefined ? strings : strings - loaded.address + loaded.offset
  return {
    interpreter: interpreter === undefined ? undefined : text(interpreter.offset),
    needed: tags.filter(({ tag }) => tag === DT_NEEDED).map(({ value }) => text(base + value)),
  }
}
