import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { dockerMounts, type Sandbox, type SpecChanges, specOf } from '../runtime/support.ts'
import { bind, contentsOf, hostSettings, powerful, Racer, spoiledRootfs } from './support.ts'

/** What of the host a container that is made must not change. */
function hostState(outside: string): unknown {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return {
    outside: contentsOf(outside),
    settings: hostSettings(),
    score: readFileSync('/proc/self/oom_score_adj', 'utf8'),
    devices: readdirSync('/dev').sort(),
    mounts: mounts.filter((line) => line.includes(outside)),
  }
}

/**
 * Makes containers while one process exchanges directories of their root and of a volume for symlinks that lead out, and
 * another one mounts and unmounts below the volume, where containers see it. Whether a container comes of it or an
 * error: the host is as it was.
 */
export async function raceRounds(sandbox: Sandbox, rounds: number): Promise<void> {
  const rootfs = spoiledRootfs(sandbox)
  const [volume, outside] = ['race-volume', 'race-outside'].map((name) => join(sandbox.directory, name)) as [
    string,
    string,
  ]
  for (const path of [volume, outside]) mkdirSync(path)
  execFileSync('mount', ['-t', 'tmpfs', 'race', volume])
  try {
    execFileSync('mount', ['--make-shared', volume])
    mkdirSync(join(outside, 'kept'))
    writeFileSync(join(outside, 'kept/file'), 'kept')
    const climbing = `../../../../../../../../..${outside}`
    const pairs: (readonly [string, string])[] = []
    for (const [directory, target] of [
      [join(volume, 'target'), climbing],
      [join(volume, 'deep'), outside],
      [join(rootfs, 'proc'), '/tmp'],
      [join(rootfs, 'dev'), outside],
      [join(rootfs, 'etc'), climbing],
    ] as const) {
      mkdirSync(directory, { recursive: true })
      symlinkSync(target, `${directory}-link`)
      pairs.push([directory, `${directory}-link`])
    }
    mkdirSync(join(volume, 'mounted'))
    const before = hostState(outside)
    await using _ = Racer.exchanges(pairs)
    await using __ = Racer.mounts(join(volume, 'mounted'))
    for (let round = 0; round < rounds; round++) {
      // Each round asks for less: the one that asks for all hardly ever succeeds.
      const outcome = await sandbox
        .run(specOf(['true'], changesOf(round, rootfs, volume)))
        .catch((error: unknown) => error)
      if (outcome instanceof Error) expect(outcome).toMatchObject({ code: 'ERR_OCI_RUNTIME' })
      expect(hostState(outside), `round ${round}`).toEqual(before)
    }
  } finally {
    execFileSync('umount', ['--recursive', '--lazy', volume])
  }
}

function changesOf(round: number, rootfs: string, volume: string): SpecChanges {
  const optional = [
    { destination: `/volume/target/tmpfs-${round}/deeper`, type: 'tmpfs', source: 'tmpfs' },
    bind(`/volume/deep/directory-${round}/deeper`, '/usr'),
    bind(`/volume/deep/file-${round}`, '/etc/hostname'),
    bind(`/etc/file-${round}`, '/etc/hostname'),
    { destination: `/volume/mounted/tmpfs-${round}`, type: 'tmpfs', source: 'tmpfs' },
  ]
  const mounts =
    (round & 1) === 0 ? dockerMounts : dockerMounts.filter(({ destination }) => !destination.startsWith('/dev'))
  return {
    root: { path: rootfs },
    mounts: [
      ...mounts,
      bind('/volume', volume, 'rslave'),
      ...optional.filter((_, index) => (round & (2 << index)) !== 0),
    ],
    process: {
      capabilities: powerful,
      oomScoreAdj: 500,
      cwd: (round & 64) === 0 ? '/' : `/volume/target/cwd-${round}`,
    },
    linux: {
      ...specOf([]).linux,
      sysctl: { 'net.ipv4.ip_forward': '1' },
      devices: [{ path: '/dev/deep/mine', type: 'c', major: 1, minor: 5 }],
      maskedPaths: ['/proc/keys', '/volume/target', '/etc/passwd'],
      readonlyPaths: ['/proc/sys', '/volume/deep'],
    },
  }
}
