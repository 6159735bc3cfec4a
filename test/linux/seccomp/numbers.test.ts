import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { seccompNumbers, x32Bit } from '../../../src/linux/seccomp-numbers.ts'
import { syscallNumber } from '../../../src/linux/syscall-numbers.ts'
import { number } from './support.ts'

describe('the tables of numbers', () => {
  it('agree with the calls that oci-ts makes itself', () => {
    for (const name of ['openat2', 'mount', 'clone3', 'execveat', 'seccomp', 'pivot_root', 'mount_setattr']) {
      expect(number('x86_64', name)).toBe(syscallNumber(name, 'x64'))
      expect(number('aarch64', name)).toBe(syscallNumber(name, 'arm64'))
    }
  })

  const headers = '/usr/include/x86_64-linux-gnu/asm'
  it.skipIf(!existsSync(`${headers}/unistd_64.h`))(
    "agree with the kernel's headers (needs linux-libc-dev, x64)",
    () => {
      for (const [file, architecture] of [
        ['unistd_64.h', 'x86_64'],
        ['unistd_32.h', 'x86'],
        ['unistd_x32.h', 'x32'],
      ] as const) {
        const numberOf = seccompNumbers(architecture)
        const text = readFileSync(`${headers}/${file}`, 'utf8')
        for (const [, name = '', x32 = '', value = ''] of text.matchAll(
          /#define __NR_(\w+) (\(__X32_SYSCALL_BIT \+ )?(\d+)/g,
        )) {
          expect(numberOf(name), `${architecture} ${name}`).toBe(Number(value) + (x32 === '' ? 0 : x32Bit))
        }
      }
    },
  )
})
