import { readFileSync } from 'node:fs'
import { RemoteExitError, RuntimeError, SyscallError, UnsupportedError } from '../errors.ts'

/** What most often is behind an errno at a step, as a hint. */
const hints: readonly (readonly [step: RegExp, errno: string, hint: string])[] = [
  [/^execute /, 'EACCES', 'The file has no execute permission for the user of the container, or is on a noexec mount.'],
  [
    /^execute /,
    'ENOENT',
    'The file exists, but the interpreter that it names (a dynamic loader, or behind #!) does not.',
  ],
  [/^execute /, 'ENOEXEC', 'The file is no program for this machine: look at the platform of the image.'],
  [/^set RLIMIT/, 'EPERM', 'A hard limit above the one of this process needs CAP_SYS_RESOURCE.'],
  [/^make the namespaces/, 'EPERM', 'User namespaces may be off: see sysctl kernel.unprivileged_userns_clone.'],
  [/^make the namespaces/, 'ENOSPC', 'The limit of namespaces is reached: see sysctl user.max_*_namespaces.'],
  [/^join the /, 'EINVAL', 'The path is no namespace of that type, or this process is in it already.'],
  [/^set the clocks/, 'ERANGE', 'No clock can be set to a time before its start, nor beyond 146 years.'],
  [
    /^(?:mount \/|fill \/dev)/,
    'ELOOP',
    'It must be mounted on an ordinary directory; the root filesystem has a symlink there.',
  ],
  [
    /^hand down the cgroup/,
    'EBUSY',
    'A cgroup above has processes of its own, and can hand no controllers down: choose another cgroupsPath.',
  ],
  [
    /^(?:make the namespaces|join the .*cgroup|hand down the cgroup)/,
    'EOPNOTSUPP',
    'A cgroup above is threaded (cgroup.type) and can hold no containers: choose another cgroupsPath.',
  ],
  [/^mount /, 'ENOENT', 'The source of a bind mount must exist.'],
  // Docker looks for the last words.
  [
    /^mount /,
    'EINVAL',
    'A file can be mounted on a file only, and a directory on a directory: one is not a directory.',
  ],
  [/^enter the working directory/, 'ENOTDIR', 'The working directory of the container must be a directory.'],
]

const cgroupSteps = /^(set up|join) the .*cgroup|^hand down the cgroup/
const refusals: readonly string[] = ['EACCES', 'EPERM', 'EROFS']

/** The error for a step of create or start that failed. What the kernel has no part in stays as it is. */
export function stepFailed(id: string, cause: unknown): unknown {
  if (cause instanceof RemoteExitError) {
    const options = { step: 'set up the container', subject: id, cause }
    const hint = 'Was it killed from outside, or does its memory limit leave no room even for its start?'
    return new RuntimeError(`container ${id}: its first process ended while it was made`, { ...options, hint })
  }
  if (!(cause instanceof SyscallError)) return cause
  const step = cause.step ?? cause.syscall
  if (cgroupSteps.test(step) && refusals.includes(cause.errnoName)) {
    const reason = `this process may not change the cgroup ${cause.path ?? ''}`
    return new UnsupportedError('a limit of /linux/resources', reason, {
      subject: id,
      cause,
      hint: 'Run as root, or where the administrator has delegated a cgroup to this user; or leave the limits out.',
    })
  }
  const hint =
    idMapHint(step, cause) ?? hints.find(([pattern, errno]) => pattern.test(step) && errno === cause.errnoName)?.[2]
  const options = { step, pointer: cause.pointer, subject: id, cause, hint }
  const where = cause.pointer === undefined ? '' : ` (config.json ${cause.pointer})`
  return new RuntimeError(`container ${id}: ${cause.message}${where}`, options)
}

/** Which file system it is that can't have its owners mapped. */
function idMapHint(step: string, { errnoName, path }: SyscallError): string | undefined {
  if (!step.startsWith('map the owners of ') || path === undefined) return undefined
  if (errnoName === 'EPERM') return 'Mapping owners takes root on the host, and a source that is not mapped already.'
  if (errnoName !== 'EINVAL') return undefined
  return `The file system ${fileSystemOf(path)} of ${path} has no idmapped mounts with this kernel.`
}

/** Type of the file system that a path of the host lies in. */
function fileSystemOf(path: string): string {
  let longest = ''
  let type = 'there'
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const mountPoint = before.split(' ')[4] ?? ''
    const contains = path === mountPoint || path.startsWith(mountPoint === '/' ? '/' : `${mountPoint}/`)
    if (!contains || mountPoint.length < longest.length) continue
    longest = mountPoint
    type = after.split(' ')[0] ?? type
  }
  return type
}
