import { spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { createRegistryServer, diskStorage } from 'oci-ts/registry'
import { silence } from './measure.ts'
import { find } from './peers.ts'

/** A registry for the bench. */
export interface Registry {
  readonly host: string
  /** What serves. */
  readonly name: string
  close(): Promise<void>
}

/** Starts Debian's docker-registry with its content in `directory`; where it is missing, our own one. */
export async function startRegistry(directory: string): Promise<Registry> {
  const content = join(directory, 'registry')
  mkdirSync(content, { recursive: true })
  const program = find('docker-registry')
  if (program === undefined) {
    const server = await createRegistryServer({ storage: await diskStorage(content) })
    return {
      host: server.host,
      name: 'oci-ts/registry (docker-registry is not installed)',
      close: () => server.close(),
    }
  }
  const host = `127.0.0.1:${await freePort()}`
  const config = join(directory, 'registry.json')
  const settings = {
    version: 0.1,
    storage: { filesystem: { rootdirectory: content } },
    http: { addr: host },
    log: { level: 'error', accesslog: { disabled: true } },
  }
  // Every JSON document is one of YAML.
  writeFileSync(config, JSON.stringify(settings))
  const server = spawn(program, ['serve', config], { stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => server.once('exit', () => resolve()))
  const close = (): Promise<void> => {
    server.kill()
    return ended
  }
  for (let attempt = 0; attempt < 200; attempt++) {
    const answer = await fetch(`http://${host}/v2/`).catch(() => undefined)
    if (answer?.ok === true) return { host, name: 'docker-registry', close }
    await silence(50)
  }
  await close()
  throw new Error('docker-registry does not answer')
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}
