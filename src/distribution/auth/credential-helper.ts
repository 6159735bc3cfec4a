import type { ChildProcess } from 'node:child_process'
import { CredentialError } from '../../errors.ts'
import { onAbort } from '../../internal/abort.ts'
import { redactText } from '../../internal/redact.ts'
import { quote } from '../../internal/text.ts'
import type { Credential } from './credential.ts'

/** Milliseconds a helper gets: it may have to ask its user, or a cloud. And bytes of its answer. */
const timeout = 60_000
const maxAnswer = 64 * 1024

/**
 * Asks Docker's credential helper `docker-credential-<name>` for the credential of `server`. That it
 * is a program is what the protocol says: config.json names it, and it keeps the secret where only it
 * can reach (keychain, cloud). It gets the server on its standard input and no argument of ours.
 * Undefined when it has none.
 * @throws CredentialError when it can't be run, fails, or does not answer in time or in form.
 */
export async function askHelper(
  name: string,
  server: string,
  signal: AbortSignal | undefined,
): Promise<Credential | undefined> {
  const answer = await call(name, 'get', server, signal)
  return answer === undefined ? undefined : parseAnswer(programOf(name), answer)
}

/** Gives a helper a credential to keep. @throws CredentialError as {@link askHelper} does. */
export async function storeInHelper(
  name: string,
  server: string,
  credential: Credential,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (credential.kind === 'bearer') throw new CredentialError(programOf(name), 'it keeps no bearer tokens')
  const [username, secret] =
    credential.kind === 'identity' ? ['<token>', credential.token] : [credential.username, credential.password]
  const input = JSON.stringify({ ServerURL: server, Username: username, Secret: secret })
  if ((await call(name, 'store', input, signal)) === undefined) {
    throw new CredentialError(programOf(name), `it did not keep the credential for ${server}`)
  }
}

/** Lets a helper forget a credential; whether it had one. @throws CredentialError as {@link askHelper} does. */
export async function eraseFromHelper(name: string, server: string, signal: AbortSignal | undefined): Promise<boolean> {
  return (await call(name, 'erase', server, signal)) !== undefined
}

function programOf(name: string): string {
  if (/^[\w.-]{1,100}$/.test(name)) return `docker-credential-${name}`
  throw new CredentialError(quote(name), 'it is no name of a credential helper')
}

/** What a helper answers; undefined when it has no such credential. */
async function call(
  name: string,
  verb: 'get' | 'store' | 'erase',
  input: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const program = programOf(name)
  const { code, output } = await runHelper(program, verb, input, signal)
  const text = output.toString('utf8')
  if (code === 0) return text
  // The protocol has no code for this: the helpers agree on the text.
  if (/credentials not found|credentials server URL|no credentials/i.test(text)) return undefined
  throw new CredentialError(program, `it ended with ${code}: ${redactText(text.trim())}`)
}

function parseAnswer(program: string, text: string): Credential | undefined {
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    // The parser's message would quote the secret.
    throw new CredentialError(program, 'its answer is no valid JSON')
  }
  const field = (name: string): unknown =>
    typeof answer === 'object' && answer !== null ? Reflect.get(answer, name) : undefined
  const [username, secret] = [field('Username'), field('Secret')]
  if (typeof username !== 'string' || typeof secret !== 'string') {
    throw new CredentialError(program, 'its answer has no Username and Secret')
  }
  if (secret === '') return undefined
  return username === '<token>' ? { kind: 'identity', token: secret } : { kind: 'password', username, password: secret }
}

async function runHelper(
  program: string,
  verb: string,
  input: string,
  signal: AbortSignal | undefined,
): Promise<{ readonly code: number | NodeJS.Signals | null; readonly output: Buffer }> {
  const { spawn } = await import('node:child_process')
  signal?.throwIfAborted()
  const child = spawn(program, [verb], { stdio: ['pipe', 'pipe', 'ignore'], shell: false, windowsHide: true })
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const stop = (error: unknown): void => {
      settle()
      child.kill('SIGKILL')
      reject(error)
    }
    const timer = setTimeout(
      () => stop(new CredentialError(program, `it did not answer within ${timeout} ms`)),
      timeout,
    )
    const unlink = onAbort(signal, () => stop(signal?.reason))
    const settle = (): void => {
      clearTimeout(timer)
      unlink()
    }
    child.once('error', (error) => stop(notStarted(program, error)))
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.byteLength
      if (size > maxAnswer) stop(new CredentialError(program, `its answer is longer than ${maxAnswer} bytes`))
      else chunks.push(chunk)
    })
    child.once('close', (code, ended) => {
      settle()
      resolve({ code: code ?? ended, output: Buffer.concat(chunks) })
    })
    feed(child, input)
  })
}

function feed(child: ChildProcess, text: string): void {
  // A helper may end without reading.
  child.stdin?.on('error', () => {})
  child.stdin?.end(text)
}

function notStarted(program: string, error: Error): CredentialError {
  const missing = Reflect.get(error, 'code') === 'ENOENT'
  return new CredentialError(program, missing ? 'there is no such program in PATH' : error.message, {
    cause: error,
    hint: "Install it, or take it out of Docker's config.json and log in again.",
  })
}
