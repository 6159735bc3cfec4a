import { environment } from '../bundle/environment.ts'
import type { Spec } from '../bundle/spec.ts'
import type { Process, User } from '../bundle/spec-process.ts'
import { type AccountFiles, type ResolvedUser, resolveUser } from '../bundle/user.ts'
import { InvalidArgumentError } from '../errors.ts'
import { capabilityNames } from '../internal/capability-names.ts'
import { quote } from '../internal/text.ts'
import type { ExecProcess } from '../runtime/index.ts'
import type { SpawnOptions, TtyOption } from './exec-options.ts'

/**
 * The process.json for a program in a container of `spec`.
 * @param accounts Reads the container's account files; asked only when a user is given.
 * @throws InvalidArgumentError, NotFoundError for options that can't be used.
 */
export function execProcess(
  spec: Spec,
  argv: readonly string[],
  options: SpawnOptions,
  accounts: () => AccountFiles,
): ExecProcess {
  const own: Process = spec.process ?? { cwd: '/' }
  if (argv.length === 0 || argv[0] === '') {
    throw new InvalidArgumentError('there is no command to run', { subject: 'argv' })
  }
  const { workingDir } = options
  if (workingDir !== undefined && !workingDir.startsWith('/')) {
    throw new InvalidArgumentError(`workingDir must be an absolute path, not ${quote(workingDir)}`, {
      subject: 'workingDir',
    })
  }
  const files = options.user === undefined ? {} : accounts()
  const user = options.user === undefined ? undefined : resolveUser(options.user, files)
  const inherited = user === undefined ? (own.env ?? []) : withoutDerivedHome(own, files)
  const terminal = terminalOf(options.tty)
  return {
    args: argv,
    env: environment({
      hostname: undefined,
      home: user?.home ?? '/',
      terminal: terminal.terminal,
      image: inherited,
      user: options.env ?? {},
    }),
    ...(workingDir === undefined ? {} : { cwd: workingDir }),
    ...(user === undefined ? {} : { user: userOf(own, user) }),
    ...(options.privileged === true ? privileges : {}),
    ...terminal,
  }
}

/** `process.terminal` and `process.consoleSize` for a `tty` option. @throws InvalidArgumentError */
export function terminalOf(tty: TtyOption = false): Required<Pick<Process, 'terminal'>> & Pick<Process, 'consoleSize'> {
  if (typeof tty === 'boolean') return { terminal: tty }
  for (const size of [tty.columns, tty.rows]) {
    if (!Number.isInteger(size) || size < 0 || size > 0xffff) {
      throw new InvalidArgumentError(`tty must have 0 to 65535 columns and rows, not ${size}`, { subject: 'tty' })
    }
  }
  return { terminal: true, consoleSize: { width: tty.columns, height: tty.rows } }
}

const privileges: Partial<Process> = {
  capabilities: { bounding: capabilityNames, effective: capabilityNames, permitted: capabilityNames },
  noNewPrivileges: false,
}

function userOf(own: Process, { uid, gid, additionalGids }: ResolvedUser): User {
  const umask = own.user?.umask
  return { uid, gid, additionalGids, ...(umask === undefined ? {} : { umask }) }
}

/** The environment of the container, without a home that nobody has set but was its user's. */
function withoutDerivedHome(own: Process, files: AccountFiles): readonly string[] {
  const { home } = resolveUser(String(own.user?.uid ?? 0), files)
  return (own.env ?? []).filter((entry) => entry !== `HOME=${home}`)
}
