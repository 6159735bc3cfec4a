import { existsSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { seccompNumbers, x32Bit } from '../../../src/linux/seccomp-numbers.ts'
import { number } from './support.ts'

describe('the tables of numbers', () => {
  it('have the numbers of the kernel on both machines', () => {
    const known: Readonly<Record<string, readonly [x64: number, arm64: number]>> = {
      read: [0, 63],
      mount: [165, 40],
      pivot_root: [155, 41],
      clone: [56, 220],
      execveat: [322, 281],
      seccomp: [317, 277],
      openat2: [437, 437],
      mount_setattr: [442, 442],
    }
    for (const [name, [x64, arm64]] of Object.entries(known)) {
      expect([number('x86_64', name), number('aarch64', name)], name).toEqual([x64, arm64])
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
