import { hostArchitecture } from '../../linux/architecture.ts'
import { seccompMachines } from '../../linux/seccomp.ts'
import { type SeccompArchitecture, seccompNumbers } from '../../linux/seccomp-numbers.ts'

/** A system call, and what kind of program makes it. */
export interface NamedSyscall {
  readonly name: string
  readonly architecture: SeccompArchitecture
}

/** Tells which of `names` a number stands for, under an AUDIT_ARCH of this machine; undefined for none of them. */
export function syscallNames(names: Iterable<string>): (audit: number, number: number) => NamedSyscall | undefined {
  const all = [...names]
  const tables = new Map<string, NamedSyscall>()
  for (const { audit, listed } of seccompMachines[hostArchitecture()]) {
    for (const { architecture } of listed) {
      const numberOf = seccompNumbers(architecture)
      for (const name of all) {
        const number = numberOf(name)
        if (number !== undefined) tables.set(`${audit} ${number}`, { name, architecture })
      }
    }
  }
  return (audit, number) => tables.get(`${audit} ${number}`)
}
