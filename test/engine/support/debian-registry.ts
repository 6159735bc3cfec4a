import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { LayoutStore } from '../../../src/content/layout.ts'
import { hostPlatform } from '../../../src/image/platform.ts'
import { type DockerRegistry, startDockerRegistry } from '../../distribution/support/docker-registry.ts'
import { debianArchive } from '../../layer/support/debian.ts'
import { image, put } from '../../store/support/image.ts'

/** Programs that are needed and are not there. */
export const missingTools: readonly string[] = ['mmdebstrap', 'skopeo', 'docker-registry'].filter(
  (name) => spawnSync('sh', ['-c', `command -v ${name}`]).status !== 0,
)

/** Debian's registry with an image of Debian, made by mmdebstrap, that skopeo has pushed. */
export interface DebianRegistry extends AsyncDisposable {
  /** `127.0.0.1:<port>/debian:12`. */
  readonly reference: string
}

/** Starts it; `directory` is a temporary one. */
export async function startDebianRegistry(directory: string): Promise<DebianRegistry> {
  const archive = await debianArchive()
  if (archive === undefined) throw new Error('mmdebstrap could not make a Debian: is its mirror in reach?')
  const debian = image(
    [readFileSync(archive)],
    {},
    { architecture: hostPlatform().architecture, config: { Cmd: ['bash'], Env: ['PATH=/usr/bin:/usr/sbin'] } },
  )
  const layout = join(directory, 'layout')
  await put(await LayoutStore.create(layout), debian, 'debian')
  const registry: DockerRegistry = await startDockerRegistry()
  const reference = `${registry.host}/debian:12`
  try {
    execFileSync('skopeo', ['copy', '-q', '--dest-tls-verify=false', `oci:${layout}:debian`, `docker://${reference}`])
  } catch (error) {
    await registry[Symbol.asyncDispose]()
    throw error
  }
  return { reference, [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose]() }
}
