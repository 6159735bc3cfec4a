import { unconditionalCalls } from './seccomp-calls.ts'
import type { LinuxSeccomp, LinuxSyscall, SeccompOperator } from './spec-seccomp.ts'

/** What the default profile depends on. */
export interface DefaultSeccompOptions {
  /** GOARCH name of the host's architecture, as image configs have it: `amd64`, `arm64`. */
  readonly architecture: string
  /** Capabilities of the bounding set. */
  readonly capabilities: readonly string[]
}

/**
 * Docker's default seccomp profile of 2026, resolved for an architecture and a set of capabilities: a
 * list of calls that are allowed; all others fail with EPERM. (Docker's rules that ask for kernel 4.8
 * are always on: Node needs a newer one.) The value is frozen, and the same for the same options, so
 * that what was compiled from it can be found again.
 */
export function defaultSeccomp({ architecture, capabilities }: DefaultSeccompOptions): LinuxSeccomp {
  const granted = conditions.filter((capability) => capabilities.includes(capability))
  const key = `${architecture} ${granted.join(' ')}`
  let profile = profiles.get(key)
  if (profile === undefined) {
    profile = Object.freeze({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: EPERM,
      ...(architectures[architecture] === undefined ? {} : { architectures: architectures[architecture] }),
      syscalls: Object.freeze([...syscalls(architecture, new Set(granted))]),
    })
    profiles.set(key, profile)
  }
  return profile
}

const profiles = new Map<string, LinuxSeccomp>()

const EPERM = 1
const ENOSYS = 38

/** The architecture and those that its kernel also runs. ppc64le and 32-bit hosts have the native one only. */
const architectures: Readonly<Record<string, readonly string[]>> = {
  amd64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
  loong64: ['SCMP_ARCH_LOONGARCH64'],
  mips64: ['SCMP_ARCH_MIPS64', 'SCMP_ARCH_MIPS', 'SCMP_ARCH_MIPS64N32'],
  mips64le: ['SCMP_ARCH_MIPSEL64', 'SCMP_ARCH_MIPSEL', 'SCMP_ARCH_MIPSEL64N32'],
  riscv64: ['SCMP_ARCH_RISCV64'],
  s390x: ['SCMP_ARCH_S390X', 'SCMP_ARCH_S390'],
}

/** Calls of one architecture. */
const byArchitecture: Readonly<Record<string, string>> = {
  '386': 'modify_ldt',
  amd64: 'arch_prctl modify_ldt',
  arm: 'arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2',
  arm64: 'arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2',
  ppc64le: 'swapcontext sync_file_range2',
  riscv64: 'riscv_flush_icache',
  s390x: 's390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr',
}

/** Calls that a capability opens. */
const byCapability: Readonly<Record<string, string>> = {
  CAP_BPF: 'bpf',
  CAP_DAC_READ_SEARCH: 'open_by_handle_at',
  CAP_PERFMON: 'perf_event_open',
  CAP_SYS_ADMIN: `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
    lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd
    setdomainname sethostname setns syslog umount umount2 unshare`,
  CAP_SYS_BOOT: 'reboot',
  CAP_SYS_CHROOT: 'chroot',
  CAP_SYS_MODULE: 'delete_module finit_module init_module',
  CAP_SYS_NICE: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node',
  CAP_SYS_PACCT: 'acct',
  CAP_SYS_PTRACE: 'kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace',
  CAP_SYS_RAWIO: 'ioperm iopl',
  CAP_SYS_TIME: 'clock_settime clock_settime64 settimeofday stime',
  CAP_SYS_TTY_CONFIG: 'vhangup',
  CAP_SYSLOG: 'syslog',
}

const conditions: readonly string[] = Object.keys(byCapability)

/** AF_ALG, whose bugs reach every container, and AF_VSOCK, which reaches the hypervisor. */
const blockedFamilies: readonly [number, number] = [38, 40]

/** Execution domains: Linux with or without UNAME26 (0x20000), PER_LINUX32 (8), and the query. */
const personalities: readonly number[] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff]

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const namespaceFlags = 0x7e02_0000

function* syscalls(architecture: string, capabilities: ReadonlySet<string>): Iterable<LinuxSyscall> {
  const names = new Set([...unconditionalCalls, 'process_vm_readv', 'process_vm_writev', 'ptrace'])
  for (const name of words(byArchitecture[architecture] ?? '')) names.add(name)
  for (const capability of capabilities) for (const name of words(byCapability[capability] ?? '')) names.add(name)
  yield allow([...names])

  const [low, high] = blockedFamilies
  yield allow(['socket'], 'SCMP_CMP_LT', low)
  for (let family = low + 1; family < high; family++) yield allow(['socket'], 'SCMP_CMP_EQ', family)
  yield allow(['socket'], 'SCMP_CMP_GT', high)
  for (const domain of personalities) yield allow(['personality'], 'SCMP_CMP_EQ', domain)

  if (!capabilities.has('CAP_SYS_ADMIN')) {
    // The flags are clone's first argument, but on s390 the second.
    const index = architecture === 's390x' ? 1 : 0
    const masked = { index, value: namespaceFlags, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' as const }
    yield rule({ names: ['clone'], action: 'SCMP_ACT_ALLOW', args: [masked] })
    // Its flags are in memory, where a filter can't look: libcs fall back to clone when it does not exist.
    yield rule({ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS })
  }
}

function allow(names: readonly string[], op?: SeccompOperator, value = 0): LinuxSyscall {
  const args = op === undefined ? {} : { args: [{ index: 0, value, op }] }
  return rule({ names, action: 'SCMP_ACT_ALLOW', ...args })
}

function rule(syscall: LinuxSyscall): LinuxSyscall {
  return Object.freeze(syscall)
}

function words(text: string): readonly string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}
