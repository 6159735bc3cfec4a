import { cannotBoot, findProgram } from './machine.ts'

/** What checkpoint and restore take: CRIU, and the programs that it runs for network and file systems. */
const programs = ['criu', 'ip', 'tar', 'gzip'].map((name) => findProgram(name))
const tracking = ['libcrc32c', 'nf_defrag_ipv4', 'nf_defrag_ipv6', 'nfnetlink', 'nf_conntrack', 'nf_conntrack_netlink']
const diagnoses = ['unix_diag', 'inet_diag', 'tcp_diag', 'udp_diag', 'netlink_diag', 'af_packet_diag']

/** Why CRIU can't be tried in a machine, if so. */
export const cannotRunCriu: string | undefined =
  cannotBoot ?? (programs.includes(undefined) ? 'needs criu, iproute2 and tar' : undefined)

/** What a machine has to have for CRIU; nothing where this one does not have it. */
export function criuNeeds(): { readonly hostPrograms: readonly string[]; readonly modules: readonly string[] } {
  if (cannotRunCriu !== undefined) return { hostPrograms: [], modules: [] }
  return {
    hostPrograms: programs.flatMap((path) => path ?? []),
    modules: [...tracking, 'nf_tables', 'tun', ...diagnoses],
  }
}
