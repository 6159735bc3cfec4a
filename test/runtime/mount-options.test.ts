import { describe, expect, it } from 'vitest'
import { MOUNT_ATTR, MS } from '../../src/linux/calls/mounts.ts'
import { knownMountOptions, parseMountOptions } from '../../src/runtime/mount-options.ts'

const { NOATIME, STRICTATIME } = MOUNT_ATTR
const ATIME = 0x70

/** The table of config.md, "Linux mount options", in runtime-spec 1.3, without the file systems' own. */
const table = `
  async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec
  noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime
  remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime
  rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow
  sync tmpcopyup unbindable idmap ridmap`
/** Those of runc beyond it. */
const others = ['acl', 'noacl']

describe('mount options', () => {
  it('are all that the specification has', () => {
    expect(knownMountOptions).toEqual([...table.trim().split(/\s+/), ...others].sort())
    for (const name of knownMountOptions) expect(parseMountOptions([name]).data, name).toEqual([])
  })

  it.each([
    ['ro', { set: MOUNT_ATTR.RDONLY, clear: 0 }],
    ['rw', { set: 0, clear: MOUNT_ATTR.RDONLY }],
    ['nosymfollow', { set: MOUNT_ATTR.NOSYMFOLLOW, clear: 0 }],
    ['symfollow', { set: 0, clear: MOUNT_ATTR.NOSYMFOLLOW }],
    ['noatime', { set: NOATIME, clear: ATIME }],
    ['strictatime', { set: STRICTATIME, clear: ATIME }],
    ['relatime', { set: 0, clear: ATIME }],
    ['atime', { set: 0, clear: ATIME }],
    ['nodiratime', { set: MOUNT_ATTR.NODIRATIME, clear: 0 }],
  ])('%s changes the mount, and with an r before it all below', (name, change) => {
    const none = { set: 0, clear: 0 }
    expect(parseMountOptions([name])).toMatchObject({ own: change, recursive: none })
    expect(parseMountOptions([`r${name}`])).toMatchObject({ own: none, recursive: change })
  })

  it('contradict each other, and the last one counts', () => {
    expect(parseMountOptions(['ro', 'nodev', 'rw']).own).toEqual({ set: MOUNT_ATTR.NODEV, clear: MOUNT_ATTR.RDONLY })
    expect(parseMountOptions(['noatime', 'atime']).own).toEqual({ set: 0, clear: ATIME })
    // Flags of their own, for mount(2): not to have the one does not take the other.
    expect(parseMountOptions(['noatime', 'norelatime', 'nostrictatime']).own).toEqual({ set: NOATIME, clear: ATIME })
    expect(parseMountOptions(['strictatime', 'noatime']).own).toEqual({ set: STRICTATIME, clear: ATIME })
    expect(parseMountOptions(['sync', 'lazytime', 'async']).superBlock).toBe(MS.LAZYTIME)
    expect(parseMountOptions(['silent', 'iversion', 'loud', 'noiversion', 'defaults']).superBlock).toBe(0)
  })

  it('of propagation all count, in their order', () => {
    expect(parseMountOptions(['rslave', 'shared']).propagation).toEqual([
      { type: MS.SLAVE, recursive: true },
      { type: MS.SHARED, recursive: false },
    ])
  })

  it('that are unknown are for the file system', () => {
    expect(parseMountOptions(['size=1m', 'rdefaults', 'bind', 'rsync', 'constructor']).data).toEqual([
      'size=1m',
      'rdefaults',
      'rsync',
      'constructor',
    ])
  })
})
