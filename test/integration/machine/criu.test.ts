import { describe, expect, it } from 'vitest'
import { cannotBoot, findProgram, runInMachine } from './machine.ts'

/** What checkpoint and restore take: CRIU, and the programs that it runs for network and file systems. */
const programs = ['criu', 'ip', 'tar', 'gzip'].map((name) => findProgram(name))
const modules = ['libcrc32c', 'nf_defrag_ipv4', 'nf_defrag_ipv6', 'nfnetlink', 'nf_conntrack', 'nf_conntrack_netlink']
const diagnoses = ['unix_diag', 'inet_diag', 'tcp_diag', 'udp_diag', 'netlink_diag', 'af_packet_diag']
const cannot = cannotBoot ?? (programs.includes(undefined) ? 'needs criu, iproute2 and tar' : undefined)

const { results } =
  cannot === undefined
    ? await runInMachine({
        tests: ['runtime/criu.test.ts'],
        hostPrograms: programs.flatMap((path) => path ?? []),
        modules: [...modules, 'nf_tables', 'tun', ...diagnoses],
        timeout: 240_000,
      })
    : { results: [] }

describe.skipIf(cannot)(`CRIU in a machine with a kernel that it knows (${cannot ?? 'booted'})`, () => {
  it('saves and restores containers there', () => {
    const passed = results.filter(({ state }) => state === 'passed').map(({ name }) => name)
    expect(passed.filter((name) => name.includes('which works'))).toHaveLength(3)
  })

  for (const { name, state, error } of results) {
    if (state !== 'skipped') it(name, () => expect([state, error]).toEqual(['passed', undefined]))
  }
})
