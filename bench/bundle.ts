import { copyFileSync, mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createSpec, hostMaskedPaths, type Spec, writeBundle } from 'oci-ts/bundle'
import { sharedLibraries } from '../examples/demo/shared-libraries.ts'
import { find } from './peers.ts'

/** A bundle on disk that every runtime can run. */
export interface Bundle {
  readonly path: string
  readonly spec: Spec
}

/** How the container is made: as Docker would, or with namespaces and mounts only. */
export type Settings = 'docker' | 'bare'

/** Makes bundles below `directory` that share one root filesystem, of busybox or of this machine's own programs. */
export class Bundles {
  private readonly directory: string
  readonly rootfs: string
  /** What the root filesystem is made of. */
  readonly origin: string

  constructor(directory: string) {
    this.directory = directory
    this.rootfs = join(directory, 'rootfs')
    const busybox = find('busybox')
    this.origin = busybox === undefined ? "this machine's own programs" : 'busybox'
    for (const name of ['bin', 'dev', 'proc', 'sys']) mkdirSync(join(this.rootfs, name), { recursive: true })
    for (const name of ['true', 'sleep']) {
      if (busybox === undefined) this.copy(find(name) ?? `/bin/${name}`, `bin/${name}`)
      else symlinkSync('busybox', join(this.rootfs, 'bin', name))
    }
    if (busybox !== undefined) this.copy(busybox, 'bin/busybox')
  }

  /** Writes the bundle `name` that runs `command`. */
  async make(name: string, settings: Settings, command: readonly string[]): Promise<Bundle> {
    const path = join(this.directory, name)
    const common = { id: 'bench', rootfs: this.rootfs, command, env: { PATH: '/bin' } }
    const docker = createSpec(undefined, {
      ...common,
      memory: '64m',
      cpus: 1,
      pids: 64,
      host: { maskedPaths: await hostMaskedPaths() },
    })
    const bare = createSpec(undefined, { ...common, seccomp: 'unconfined' })
    // crun 1.8 runs nothing newer than 1.0.
    const spec: Spec = {
      ...(settings === 'docker' ? docker : { ...bare, linux: { ...bare.linux, resources: {} } }),
      ociVersion: '1.0.2',
    }
    await writeBundle(path, spec)
    return { path, spec }
  }

  private copy(program: string, name: string): void {
    const targets = [
      [program, name],
      ...[...sharedLibraries(program)].map((library) => [library, library.slice(1)] as const),
    ] as const
    for (const [source, target] of targets) {
      const path = join(this.rootfs, target)
      mkdirSync(dirname(path), { recursive: true })
      copyFileSync(source, path)
    }
  }
}
