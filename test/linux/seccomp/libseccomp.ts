import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DataType, load, open } from 'ffi-rs'
import type { SeccompProfile } from '../../../src/linux/seccomp.ts'

/** Filters compiled by libseccomp, in the way that runc calls it: the measure of ours. */

const library = 'libseccomp'

/** Whether the library is installed. */
export const hasLibseccomp: boolean = (() => {
  try {
    open({ library, path: 'libseccomp.so.2' })
    return true
  } catch {
    return false
  }
})()

/** Tokens of architectures (seccomp.h). */
export const tokens = {
  SCMP_ARCH_X86_64: 0xc000_003e,
  SCMP_ARCH_X86: 0x4000_0003,
  SCMP_ARCH_X32: 0x4000_003e,
  SCMP_ARCH_AARCH64: 0xc000_00b7,
  SCMP_ARCH_ARM: 0x4000_0028,
} as const

const actions: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: 0,
  SCMP_ACT_KILL_PROCESS: 0x8000_0000,
  SCMP_ACT_TRAP: 0x3_0000,
  SCMP_ACT_ERRNO: 0x5_0000,
  SCMP_ACT_TRACE: 0x7ff0_0000,
  SCMP_ACT_LOG: 0x7ffc_0000,
  SCMP_ACT_ALLOW: 0x7fff_0000,
}

const operators = ['', 'NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ']

/** The number that libseccomp has for a call; negative for those that it has none or a pseudo number for. */
export function resolve(name: string, token: number): number {
  return call('seccomp_syscall_resolve_name_arch', DataType.I32, [
    [DataType.I32, token | 0],
    [DataType.String, name],
  ]) as number
}

/** Compiles a profile for its architectures only, whatever machine this is. */
export function compileWithLibseccomp(profile: SeccompProfile): Uint8Array {
  const fallback = action(profile.defaultAction, profile.defaultErrnoRet)
  const context = call('seccomp_init', DataType.External, [[DataType.I32, fallback | 0]])
  const native = call('seccomp_arch_native', DataType.I32, []) as number
  const wanted = (profile.architectures ?? []).map((name) => tokens[name as keyof typeof tokens])
  for (const token of wanted) {
    if ((token | 0) !== native) status('seccomp_arch_add', context, [[DataType.I32, token | 0]])
  }
  if (!wanted.some((token) => (token | 0) === native)) {
    status('seccomp_arch_remove', context, [[DataType.I32, native]])
  }
  for (const { names, action: name, errnoRet, args = [] } of profile.syscalls ?? []) {
    const answer = action(name, errnoRet)
    if (answer === fallback) continue
    for (const syscall of names) {
      const number = call('seccomp_syscall_resolve_name', DataType.I32, [[DataType.String, syscall]]) as number
      if (number === -1) continue
      const conditions = Buffer.alloc(24 * Math.max(args.length, 1))
      for (const [i, { index, op, value, valueTwo = 0 }] of args.entries()) {
        conditions.writeUInt32LE(index, 24 * i)
        conditions.writeInt32LE(operators.indexOf(op.slice('SCMP_CMP_'.length)), 24 * i + 4)
        conditions.writeBigUInt64LE(BigInt(value), 24 * i + 8)
        conditions.writeBigUInt64LE(BigInt(valueTwo), 24 * i + 16)
      }
      status('seccomp_rule_add_array', context, [
        [DataType.I32, answer | 0],
        [DataType.I32, number],
        [DataType.I32, args.length],
        [DataType.U8Array, conditions],
      ])
    }
  }
  const directory = mkdtempSync(join(tmpdir(), 'oci-ts-seccomp-'))
  try {
    const file = join(directory, 'filter')
    const fd = openSync(file, 'w')
    status('seccomp_export_bpf', context, [[DataType.I32, fd]])
    closeSync(fd)
    return new Uint8Array(readFileSync(file))
  } finally {
    rmSync(directory, { recursive: true })
    call('seccomp_release', DataType.Void, [[DataType.External, context]])
  }
}

function action(name: string, errno = 1): number {
  const value = actions[name] ?? 0
  return name === 'SCMP_ACT_ERRNO' || name === 'SCMP_ACT_TRACE' ? value | errno : value
}

function status(name: string, context: unknown, args: readonly (readonly [DataType, unknown])[]): void {
  const result = call(name, DataType.I32, [[DataType.External, context], ...args]) as number
  if (result < 0) throw new Error(`${name}: errno ${-result}`)
}

function call(name: string, retType: DataType, args: readonly (readonly [DataType, unknown])[]): unknown {
  const request = {
    library,
    funcName: name,
    retType,
    paramsType: args.map(([type]) => type),
    paramsValue: args.map(([, value]) => value),
    freeResultMemory: false,
  }
  return (load as (request: unknown) => unknown)(request)
}
