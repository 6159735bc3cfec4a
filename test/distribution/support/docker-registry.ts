import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** Whether a program is installed. */
export function hasProgram(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`]).status === 0
}

/** A docker-registry process over a temporary directory. */
export interface DockerRegistry extends AsyncDisposable {
  /** `127.0.0.1:<port>`. */
  readonly host: string
  /** Its log so far. */
  readonly log: () => string
}

/** Parts of its configuration. */
export interface DockerRegistryOptions {
  readonly tls?: Readonly<Record<string, string | readonly string[]>>
  readonly proxy?: Readonly<Record<string, string>>
}

/** Starts Debian's docker-registry on a free loopback port; `auth` is the part of its configuration. */
export async function startDockerRegistry(
  auth?: Readonly<Record<string, Readonly<Record<string, string>>>>,
  { tls, proxy }: DockerRegistryOptions = {},
): Promise<DockerRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'oci-ts-registry-'))
  const config = {
    version: 0.1,
    storage: { filesystem: { rootdirectory: join(directory, 'data') }, delete: { enabled: true } },
    http: { addr: '127.0.0.1:0', relativeurls: false, ...(tls === undefined ? {} : { tls }) },
    ...(auth === undefined ? {} : { auth }),
    ...(proxy === undefined ? {} : { proxy }),
  }
  const path = join(directory, 'config.yml')
  await writeFile(path, JSON.stringify(config))
  const child = spawn('docker-registry', ['serve', path], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env.PATH, OTEL_TRACES_EXPORTER: 'none' },
  })
  const lines: string[] = []
  const stop = async (): Promise<void> => {
    await end(child)
    await rm(directory, { recursive: true, force: true })
  }
  try {
    const port = await listeningPort(child, lines)
    return { host: `127.0.0.1:${port}`, log: () => lines.join('\n'), [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function listeningPort(child: ChildProcess, lines: string[]): Promise<string> {
  if (child.stderr === null) throw new Error('no stderr')
  const reader = createInterface({ input: child.stderr })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', () => reject(new Error(`docker-registry ended:\n${lines.join('\n')}`)))
    reader.on('line', (line) => {
      lines.push(line)
      const match = /listening on 127\.0\.0\.1:(\d+)/.exec(line)
      if (match?.[1] !== undefined) resolve(match[1])
    })
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
