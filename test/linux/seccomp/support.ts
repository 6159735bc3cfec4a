import { defaultCapabilities, defaultSeccomp, type LinuxSeccomp } from '../../../src/bundle/index.ts'
import type { SeccompArgument } from '../../../src/linux/seccomp.ts'
import { type SeccompArchitecture, seccompNumbers } from '../../../src/linux/seccomp-numbers.ts'
import { tokens } from './libseccomp.ts'

export const x64: number = tokens.SCMP_ARCH_X86_64
export const x86: number = tokens.SCMP_ARCH_X86
export const arm64: number = tokens.SCMP_ARCH_AARCH64
export const arm: number = tokens.SCMP_ARCH_ARM

export const allow: number = 0x7fff_0000
export const killProcess: number = 0x8000_0000
export const errno = (number: number): number => 0x5_0000 | number
export const EPERM: number = errno(1)
export const ENOSYS: number = errno(38)

export const dockerX64: LinuxSeccomp = defaultSeccomp({ architecture: 'amd64', capabilities: defaultCapabilities })
export const dockerArm64: LinuxSeccomp = defaultSeccomp({ architecture: 'arm64', capabilities: defaultCapabilities })

export function number(architecture: SeccompArchitecture, name: string): number {
  const found = seccompNumbers(architecture)(name)
  if (found === undefined) throw new Error(`${architecture} has no ${name}`)
  return found
}

/** A small generator, so that a failure can be repeated. */
export function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const operators = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map((op) => `SCMP_CMP_${op}`)
const values = [0n, 1n, 2n, 8n, 38n, 0x20000n, 0x1200011n, 0xffff_ffffn, 0x1_0000_0000n, 0x1_0000_0001n, 2n ** 63n]

export function interesting(next: (below: number) => number): bigint {
  return values[next(values.length)] ?? 0n
}

export function randomConditions(next: (below: number) => number): readonly SeccompArgument[] {
  return [0, 1, 2, 3, 4, 5]
    .filter(() => next(5) === 0)
    .map((index) => {
      const op = operators[next(operators.length)] ?? 'SCMP_CMP_EQ'
      const [a, b] = [interesting(next), interesting(next)]
      return op === 'SCMP_CMP_MASKED_EQ' ? { index, op, value: a, valueTwo: a & b } : { index, op, value: a }
    })
}
