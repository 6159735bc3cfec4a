import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../src/errors.ts'
import { syscallNumber } from '../../src/linux/syscall-numbers.ts'

const header = '/usr/include/x86_64-linux-gnu/asm/unistd_64.h'
const generic = '/usr/include/asm-generic/unistd.h'

describe('system-call numbers', () => {
  it('are those of the architecture', () => {
    expect(syscallNumber('mount', 'x64')).toBe(165)
    expect(syscallNumber('mount', 'arm64')).toBe(40)
    expect(syscallNumber('openat2', 'x64')).toBe(437)
    expect(syscallNumber('openat2', 'arm64')).toBe(437)
  })

  it('are none for what is no call there', () => {
    expect(() => syscallNumber('open', 'arm64')).toThrow(InvalidArgumentError)
    for (const name of ['', 'toString', '__proto__', 'mount ']) {
      expect(() => syscallNumber(name, 'x64')).toThrow(InvalidArgumentError)
    }
  })

  it.skipIf(!existsSync(header))('are those of the kernel’s header for x64 (skipped without linux-libc-dev)', () => {
    const found = [...readFileSync(header, 'utf8').matchAll(/^#define __NR_(\w+) (\d+)$/gm)]
    expect(found.length).toBeGreaterThan(300)
    for (const [, name = '', number] of found)
      expect([name, syscallNumber(name, 'x64')]).toEqual([name, Number(number)])
  })

  it.skipIf(!existsSync(generic))('are those of the kernel’s header for arm64 (skipped without linux-libc-dev)', () => {
    const found = [...readFileSync(generic, 'utf8').matchAll(/^#define __NR_(\w+) (\d+)$/gm)]
    expect(found.length).toBeGreaterThan(250)
    // Calls that arm64 leaves to the architecture, or does not have.
    const not = new Set(['arch_specific_syscall', 'syscalls'])
    for (const [, name = '', number] of found) {
      if (not.has(name)) continue
      const ours = ((): number | undefined => {
        try {
          return syscallNumber(name, 'arm64')
        } catch {
          return undefined
        }
      })()
      if (ours !== undefined) expect([name, ours]).toEqual([name, Number(number)])
    }
  })
})
