import { ConflictError, NotFoundError, type OciError, RuntimeError } from '../index.ts'
import { state } from '../runtime/index.ts'

/**
 * Says what went wrong as one line. Engines look into it for the words that runc uses: so a state that does not
 * fit is told by them.
 */
export async function explain(
  error: unknown,
  verb: string,
  id: string,
  stateRoot: string | undefined,
): Promise<string> {
  if (!isOwn(error)) return plain(error)
  if (error instanceof NotFoundError && error.subject === id) return 'container does not exist'
  if (error instanceof ConflictError && error.subject === id) return conflict(error, verb, id, stateRoot)
  const text = oneLine(error).replace(`container ${id}: `, '')
  if (!(error instanceof RuntimeError)) return `${prefixOf(verb)}${text}`
  return `${prefixOf(verb)}unable to start container process: ${text}`
}

async function conflict(error: OciError, verb: string, id: string, stateRoot: string | undefined): Promise<string> {
  if (verb === 'create' || verb === 'run') return `container with given ID already exists: ${oneLine(error)}`
  const status = (await state(id, { stateRoot }).catch(() => undefined))?.status
  if (status === 'stopped' && verb === 'start') return 'cannot start a container that has stopped'
  if (status === 'running' && verb === 'start') return 'cannot start an already running container'
  if (status === 'stopped' && verb === 'exec') return 'cannot exec in a stopped container'
  if (status === 'paused' && verb === 'exec')
    return 'cannot exec in a paused container (use --ignore-paused to override)'
  if (status === 'stopped') return 'container not running'
  if (status === 'paused' && verb === 'pause') return 'container already paused'
  if (status !== 'paused' && verb === 'resume') return 'container not paused'
  if (verb === 'delete') return `cannot delete container ${id} that is not stopped: ${status ?? 'unknown'}`
  return oneLine(error)
}

/** By its code: a command of the library throws errors of another copy of the classes. */
function isOwn(error: unknown): error is OciError {
  return String((error as { readonly code?: unknown }).code).startsWith('ERR_OCI_')
}

function prefixOf(verb: string): string {
  if (verb === 'create' || verb === 'run') return `oci-ts ${verb} failed: `
  return verb === 'exec' ? 'exec failed: ' : ''
}

/** The message with its hint behind it in parentheses. */
function oneLine({ message, hint }: OciError): string {
  const [first = ''] = message.split('\n')
  return hint === undefined ? first : `${first} (${hint})`
}

function plain(error: unknown): string {
  const { code, syscall, message, stack } = error as NodeJS.ErrnoException
  // What the system refuses needs no stack.
  const isPlain = (code !== undefined && syscall !== undefined) || code?.startsWith('ERR_PARSE_ARGS_') === true
  return isPlain ? message : (stack ?? String(error))
}
