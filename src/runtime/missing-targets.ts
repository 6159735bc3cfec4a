import { SyscallError } from '../errors.ts'
import { type Call, type CallOptions, out } from '../linux/call.ts'
import { close, mkdirat, mknodat, readlinkat, S_IFREG } from '../linux/calls/files.ts'
import { interruptionOf, resume } from '../linux/resume.ts'
import type { CallRunner, Results } from '../linux/runner.ts'
import { foundWrong } from './examine.ts'
import { openInRoot, openNodeInRoot } from './paths.ts'

/** Names that are looked at on the way to one target, links followed: as long as the kernel's longest path has. */
const maxNames = 2048
/** As the kernel has it (path_resolution(7)). */
const maxLinks = 40
const pathMax = 4096

/** How often a walk is tried again that something else on the host disturbed; as libpathrs has it. */
const maxTries = 128

/**
 * Goes on with a batch that could not open a path inside the root, for one of two causes:
 * - A symlink of the image leads to nothing, such as /etc/resolv.conf to a file below /run. As other runtimes do, it
 *   makes what the symlink names: inside the root.
 * - The path has `..` in it, and somebody anywhere on the host renamed or mounted something just then: the kernel can't
 *   tell that the walk stayed inside the root, and has it tried again (openat2(2), EAGAIN).
 * @param root descriptor of the root. @param files calls that open what is to be a file
 * @throws the error itself where neither is its cause.
 */
export async function withMissingTargets(
  runner: CallRunner,
  error: unknown,
  root: number,
  files: ReadonlySet<Call>,
): Promise<Results> {
  let cause = error
  let made = -1
  for (let tries = 0; ; ) {
    const interruption = interruptionOf(cause)
    if (interruption === undefined || !(cause instanceof SyscallError) || cause.syscall !== 'openat2') throw cause
    const { calls, position } = interruption
    const failed = calls[position] as Call
    if (cause.errnoName === 'EAGAIN') {
      if (++tries > maxTries) throw cause
    } else {
      if (position <= made || failed.args[0] !== root || !mayBeMissing(cause)) throw cause
      made = position
      await makeMissing(runner, root, failed.path as string, files.has(failed), failed)
    }
    try {
      return await resume(runner, interruption)
    } catch (next) {
      cause = next
    }
  }
}

function mayBeMissing({ errnoName, pointer = '', path }: SyscallError): boolean {
  return errnoName === 'ENOENT' && path !== undefined && /^\/(?:mounts\/|process\/cwd$)/.test(pointer)
}

/** Walks to `path` link by link. Each name is opened from the root, confined to it: whoever swaps one gains nothing. */
async function makeMissing(runner: CallRunner, root: number, path: string, file: boolean, { step, pointer }: Call) {
  const why: CallOptions = { ...(step === undefined ? {} : { step }), ...(pointer === undefined ? {} : { pointer }) }
  const names = namesOf(path)
  const at: string[] = []
  let links = 0
  for (let looked = 0; names.length > 0; looked++) {
    if (looked > maxNames || links > maxLinks) throw foundWrong(why, `too many symlinks on the way to ${path}`)
    const name = names.shift() as string
    if (name === '..') {
      at.pop()
      continue
    }
    const { exists, link } = await look(runner, root, `/${[...at, name].join('/')}`, why)
    if (link !== undefined) {
      links++
      if (link.startsWith('/')) at.length = 0
      names.unshift(...namesOf(link))
      continue
    }
    if (!exists) await make(runner, root, at, name, file && names.length === 0, why)
    at.push(name)
  }
}

/** What is at a path: where it leads to, for a symlink. */
interface Node {
  readonly exists: boolean
  readonly link: string | undefined
}

async function look(runner: CallRunner, root: number, path: string, why: CallOptions): Promise<Node> {
  const node = openNodeInRoot(root, path, { ...why, tolerate: 'ENOENT' })
  const text = out(pathMax)
  const read = readlinkat(node, '', text, { ...why, tolerate: 'any' })
  const results = await runner.run([node, read, close(node, { ...why, tolerate: 'EBADF' })])
  const size = results.value(read)
  return {
    exists: results.value(node) >= 0,
    link: size > 0 ? results.bytes(text).toString('utf8', 0, size) : undefined,
  }
}

/** Makes a file or a directory. */
async function make(
  runner: CallRunner,
  root: number,
  at: readonly string[],
  name: string,
  file: boolean,
  why: CallOptions,
) {
  const parent = openInRoot(root, `/${at.join('/')}`, why)
  const there = { ...why, tolerate: 'EEXIST' }
  const made = file ? mknodat(parent, name, S_IFREG | 0o644, 0, there) : mkdirat(parent, name, 0o755, there)
  await runner.run([parent, made, close(parent)])
}

function namesOf(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.')
}
