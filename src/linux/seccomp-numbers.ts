import { arm64Numbers, armNumbers } from './seccomp-numbers-arm.ts'
import { missingInX32, x32Numbers, x64Numbers, x86Numbers } from './seccomp-numbers-x86.ts'

/** An architecture whose system calls a filter can see on a machine that oci-ts runs on. */
export type SeccompArchitecture = 'x86_64' | 'x86' | 'x32' | 'aarch64' | 'arm'

/** The bit that marks the calls of x32 in the number. */
export const x32Bit = 0x4000_0000

/** Tells the number of a system call by its name; undefined for one that the architecture does not have. */
export type SeccompNumbers = (name: string) => number | undefined

/** The system calls of an architecture: all that the kernel 7.1 has. Numbers of x32 have its bit set. */
export function seccompNumbers(architecture: SeccompArchitecture): SeccompNumbers {
  if (architecture !== 'x32') {
    const numbers = table(architecture)
    return (name) => numbers.get(name)
  }
  const [same, own] = [table('x86_64'), table('x32')]
  return (name) => {
    const number = own.get(name) ?? same.get(name)
    return number === undefined || missingInX32.has(name) ? undefined : number + x32Bit
  }
}

/** All names of system calls that an architecture has. */
export function seccompNames(architecture: SeccompArchitecture): readonly string[] {
  if (architecture !== 'x32') return [...table(architecture).keys()]
  const names = new Set([...table('x86_64').keys(), ...table('x32').keys()])
  return [...names].filter((name) => !missingInX32.has(name))
}

const texts: Readonly<Record<SeccompArchitecture, string>> = {
  x86_64: x64Numbers,
  x86: x86Numbers,
  x32: x32Numbers,
  aarch64: arm64Numbers,
  arm: armNumbers,
}

const tables = new Map<SeccompArchitecture, ReadonlyMap<string, number>>()

function table(architecture: SeccompArchitecture): ReadonlyMap<string, number> {
  let numbers = tables.get(architecture)
  if (numbers === undefined) {
    numbers = parse(texts[architecture], architecture === 'x32' ? new Map() : parse(sharedNumbers))
    tables.set(architecture, numbers)
  }
  return numbers
}

function parse(text: string, into = new Map<string, number>()): Map<string, number> {
  let next = 0
  for (const word of words(text)) {
    const digit = word.charCodeAt(0) - 0x30
    if (digit >= 0 && digit <= 9) next = Number(word)
    else into.set(word, next++)
  }
  return into
}

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/)
}

/** Since Linux 5.1 all architectures number new calls alike. */
const sharedNumbers = `
  424 pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount
  fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr
  quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self 448 process_mrelease futex_waitv
  set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount
  lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat
  open_tree_attr file_getattr file_setattr listns rseq_slice_yield
`
