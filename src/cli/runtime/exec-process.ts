import { type Capabilities, type User, validateProcess } from '../../bundle/index.ts'
import { InvalidArgumentError } from '../../index.ts'
import { containerSpec, type ExecProcess } from '../../runtime/index.ts'
import { type Arguments, decimal } from '../arguments.ts'
import { readDocument } from '../input.ts'

/** The largest id; the one above it stands for none. */
const maxId = 2 ** 32 - 2

/**
 * The process that the command line of `exec` describes: a document, or the container's own process with changes.
 * @throws InvalidArgumentError for ids that are no numbers, and when there is no command.
 */
export async function processOf(id: string, args: Arguments, stateRoot: string | undefined): Promise<ExecProcess> {
  const document = args.text('process')
  if (document !== undefined && document !== '') return withCommand(validateProcess(JSON.parse(readDocument(document))))
  const { process } = await containerSpec(id, { stateRoot })
  const cwd = args.text('cwd')
  const selinuxLabel = args.text('process-label')
  const apparmorProfile = args.text('apparmor')
  return withCommand({
    ...process,
    args: args.positionals.slice(1),
    terminal: args.flag('tty'),
    cwd: cwd === undefined || cwd === '' ? (process?.cwd ?? '/') : cwd,
    env: [...(process?.env ?? []), ...args.texts('env')],
    user: userOf(process?.user, args.text('user'), args.texts('additional-gids')),
    ...capabilitiesOf(process?.capabilities, args.texts('cap')),
    ...(selinuxLabel === undefined ? {} : { selinuxLabel }),
    ...(apparmorProfile === undefined ? {} : { apparmorProfile }),
    ...(args.flag('no-new-privs') ? { noNewPrivileges: true } : {}),
  })
}

function withCommand<T extends { readonly args?: readonly string[] }>(process: T): T & ExecProcess {
  const { args } = process
  if (args === undefined || args.length === 0) {
    throw new InvalidArgumentError('process args cannot be empty', { subject: '/args' })
  }
  return { ...process, args }
}

function userOf(own: User | undefined, given: string | undefined, groups: readonly string[]): User {
  const additionalGids = [...(own?.additionalGids ?? []), ...groups.map((gid) => decimal(gid, 'a group', maxId))]
  if (given === undefined) return { ...own, additionalGids }
  const [uid = '', gid, ...rest] = given.split(':')
  if (rest.length > 0) throw new InvalidArgumentError(`a user is UID or UID:GID, not ${JSON.stringify(given)}`)
  return {
    ...own,
    uid: decimal(uid, 'a user', maxId),
    ...(gid === undefined ? {} : { gid: decimal(gid, 'a group', maxId) }),
    additionalGids,
  }
}

/** Never inheritable: those would pass through execve(2) to programs that nobody has looked at (CVE-2022-29162). */
function capabilitiesOf(own: Capabilities | undefined, added: readonly string[]): { capabilities?: Capabilities } {
  if (own === undefined && added.length === 0) return {}
  const names = added.map((name) => (name.startsWith('CAP_') ? name : `CAP_${name}`))
  const { bounding = [], permitted = [], effective = [], ambient = [] } = own ?? {}
  return {
    capabilities: {
      ...own,
      bounding: [...bounding, ...names],
      permitted: [...permitted, ...names],
      effective: [...effective, ...names],
      ambient,
    },
  }
}
