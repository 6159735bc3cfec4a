import { describe, expect, it } from 'vitest'
import { call, out } from '../../src/linux/call.ts'
import * as files from '../../src/linux/calls/files.ts'
import * as mounts from '../../src/linux/calls/mounts.ts'
import * as processes from '../../src/linux/calls/processes.ts'
import { formatCall, formatCalls } from '../../src/linux/format.ts'

const { AT_FDCWD, O } = files
const { MS } = mounts
const { CLONE } = processes

describe('formatCall', () => {
  it.each([
    [
      'mount("proc", "/proc", "proc", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)',
      mounts.mount('proc', '/proc', 'proc', MS.NOSUID | MS.NODEV | MS.NOEXEC),
    ],
    ['mount(NULL, "/", NULL, MS_REC|MS_PRIVATE, NULL)', mounts.mount(0, '/', 0, MS.REC | MS.PRIVATE)],
    ['umount2(".", MNT_DETACH)', mounts.umount2('.', mounts.MNT_DETACH)],
    ['openat(AT_FDCWD, "/x", O_RDONLY|O_CLOEXEC, 0)', files.openat(AT_FDCWD, '/x', O.RDONLY)],
    [
      'openat(5, "x", O_WRONLY|O_CREAT|O_CLOEXEC|O_DIRECTORY, 0644)',
      files.openat(5, 'x', O.WRONLY | O.CREAT | files.O_DIRECTORY, 0o644),
    ],
    ['mkdirat(AT_FDCWD, "/d", 0755)', files.mkdirat(AT_FDCWD, '/d', 0o755)],
    ['mknodat(3, "null", 020666, 259)', files.mknodat(3, 'null', files.S_IFCHR | 0o666, files.makeDevice(1, 3))],
    ['unlinkat(3, "d", AT_REMOVEDIR)', files.unlinkat(3, 'd', files.AT_REMOVEDIR)],
    [
      'fchownat(3, "f", 1000, 1000, AT_SYMLINK_NOFOLLOW)',
      files.fchownat(3, 'f', 1000, 1000, files.AT_SYMLINK_NOFOLLOW),
    ],
    [
      'clone(CLONE_NEWNS|CLONE_NEWPID|SIGCHLD, NULL, NULL, NULL, 0) /* child listens on 4 */',
      processes.clone({ flags: CLONE.NEWPID | CLONE.NEWNS, childSocket: 4 }),
    ],
    ['unshare(CLONE_NEWUTS|CLONE_NEWTIME)', processes.unshare(CLONE.NEWUTS | CLONE.NEWTIME)],
    ['setns(7, CLONE_NEWNET)', processes.setns(7, CLONE.NEWNET)],
    ['prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)', processes.prctl(processes.PR.SET_NO_NEW_PRIVS, 1)],
    ['kill(12, SIGKILL)', processes.kill(12, 9)],
    [
      'execve("/bin/sh", ["sh", "-c", "a b"], ["A=\\"1\\""])',
      processes.execve('/bin/sh', processes.stringTable(['sh', '-c', 'a b']), processes.stringTable(['A="1"'])),
    ],
    ['getcwd(&[64], 64)', files.getcwd(out(64))],
    ['setgroups(2, [8 bytes])', processes.setgroups([1, 2])],
    ['fsconfig(4, FSCONFIG_SET_STRING, "size", "1m", 0)', mounts.fsconfigString(4, 'size', '1m')],
    ['fsmount(4, 1, MOUNT_ATTR_NODEV)', mounts.fsmount(4, mounts.MOUNT_ATTR.NODEV)],
    ['close_range(3, 0xffffffff, CLOSE_RANGE_CLOEXEC)', files.closeRange(3, 0xffffffff, files.CLOSE_RANGE_CLOEXEC)],
    ['unshare(0x1)', processes.unshare(1)],
    ['something_new(1, 0x100000, -1)', call('something_new', [1, 0x100000n, -1])],
  ])('%s', (text, made) => {
    expect(formatCall(made)).toBe(text)
  })

  it('cuts long strings, but no paths, and escapes what a terminal would obey', () => {
    const long = `/${'x'.repeat(100)}`
    expect(formatCall(files.write(1, 'y'.repeat(40)))).toBe(`write(1, "${'y'.repeat(32)}"..., 40)`)
    expect(formatCall(files.mkdirat(3, long, 0o700))).toBe(`mkdirat(3, "${long}", 0700)`)
    expect(formatCall(files.write(1, '\u001b[2J\n'))).toBe('write(1, "\\u001b[2J\\n", 5)')
  })

  it('says what a call is for and what it tolerates', () => {
    const options = { step: 'make the mount point */', tolerate: 'EEXIST' }
    expect(formatCall(files.mkdirat(3, 'a', 0o700, options))).toBe(
      'mkdirat(3, "a", 0700) /* make the mount point * /; EEXIST is no failure */',
    )
    expect(formatCall(files.close(3, { tolerate: 'any' }))).toBe('close(3) /* may fail */')
  })

  it('names the call whose result it uses', () => {
    expect(formatCall(files.close(files.openat(3, 'x', 0)))).toBe('close($openat)')
  })
})

describe('formatCalls', () => {
  it('numbers the results that later calls use', () => {
    const directory = files.openat(AT_FDCWD, '/d', O.PATH)
    const file = files.openat(directory, 'f', O.RDWR)
    const calls = [files.umask(0), directory, file, files.write(file, 'x'), files.close(directory)]
    expect(formatCalls(calls)).toEqual([
      'umask(0)',
      'openat(AT_FDCWD, "/d", O_RDONLY|O_CLOEXEC|O_PATH, 0) = $2',
      'openat($2, "f", O_RDWR|O_CLOEXEC, 0) = $3',
      'write($3, "x", 1)',
      'close($2)',
    ])
  })
})
