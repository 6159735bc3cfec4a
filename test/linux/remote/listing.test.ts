import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { remoteExecutable } from '../../../src/linux/remote/executable.ts'
import { type Listing, machineCode } from '../../../src/linux/remote/listing.ts'
import { programArm64 } from '../../../src/linux/remote/program-arm64.ts'
import { programX64 } from '../../../src/linux/remote/program-x64.ts'
import { hasTool } from '../support.ts'

const directory = mkdtempSync(join(tmpdir(), 'oci-ts-listing-'))
afterAll(() => rmSync(directory, { recursive: true }))

const programs = [
  { name: 'x64', listing: programX64, tool: 'objdump', options: ['-m', 'i386:x86-64', '-M', 'intel'] },
  { name: 'arm64', listing: programArm64, tool: 'aarch64-linux-gnu-objdump', options: ['-m', 'aarch64'] },
] as const

describe.each(programs)('the listing for $name', ({ name, listing, tool, options }) => {
  it.skipIf(!hasTool(tool))(`prints what ${tool} says of its bytes (skipped without binutils)`, () => {
    expect(texts(listing)).toEqual(disassembled(listing, tool, options))
  })

  it('is an executable of less than a kilobyte', () => {
    const program = remoteExecutable(name)
    expect(program.length).toBeLessThan(1024)
    expect(Buffer.from(program.subarray(0, 4)).toString('latin1')).toBe('\x7fELF')
  })

  it('says what each step is for', () => {
    const explained = listing.filter(([, , purpose]) => purpose !== undefined)
    expect(explained.length).toBeGreaterThan(listing.length / 3)
  })
})

it.skipIf(!hasTool('readelf'))('the executables are well-formed ELF files (skipped without binutils)', () => {
  for (const architecture of ['x64', 'arm64'] as const) {
    const path = join(directory, architecture)
    writeFileSync(path, remoteExecutable(architecture))
    const text = execFileSync('readelf', ['-hlW', path], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
    expect(text).toMatch(/EXEC \(Executable file\)/)
    expect(text).toMatch(architecture === 'x64' ? /X86-64/ : /AArch64/)
    // Nothing is writable and executable, the stack neither.
    expect(text).not.toMatch(/RWE/)
    expect(text).toMatch(/GNU_STACK .* RW /)
  }
})

/** Bytes and text of every instruction, one line each. */
function texts(listing: Listing): readonly string[] {
  return listing.map(([bytes, text]) => `${bytes.replaceAll(' ', '')} ${normal(text)}`)
}

function disassembled(listing: Listing, tool: string, options: readonly string[]): readonly string[] {
  const path = join(directory, tool)
  writeFileSync(path, machineCode(listing))
  const args = ['-D', '-b', 'binary', '-z', '-w', ...options, path]
  const lines = execFileSync(tool, args, { encoding: 'utf8' }).split('\n')
  return lines.flatMap((line) => {
    const match = /^\s*[0-9a-f]+:\t([0-9a-f ]+?)\s*\t(.*)$/.exec(line)
    if (match === null) return []
    const bytes = (match[1] as string).split(' ')
    // One word of arm64 is printed as a number; it lies in memory the other way around.
    const raw = bytes.length === 1 && bytes[0]?.length === 8 ? (bytes[0].match(/../g) ?? []).reverse() : bytes
    return [`${raw.join('')} ${normal(match[2] as string)}`]
  })
}

/** Without what a disassembler adds: comments, symbols, the 0x of branch targets, white space in other amounts. */
function normal(text: string): string {
  return text
    .replace(/\s*(\/\/|#\s)\s.*$/, '')
    .replace(/\s*<[^>]*>/, '')
    .replace(/^(\S+)\s+/, '$1 ')
    .replace(/^((?:b|bl|b\.\w+|cbn?z|tbn?z|call|j\w+)\b.*?)0x([0-9a-f]+)$/, '$1$2')
    .replace(/,\s+/g, ',')
    .trim()
}
