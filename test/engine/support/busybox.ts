import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import type { ExecutionConfig } from '../../../src/image/config.ts'
import { hostPlatform } from '../../../src/image/platform.ts'
import { type TestEntry, tar } from '../../layer/support/tar.ts'
import { image, type TestImage } from '../../store/support/image.ts'

const program = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path))

/** Whether containers can be run here; else why not. */
export const cannotRun: string | undefined =
  process.platform !== 'linux' ? 'needs Linux' : program === undefined ? 'needs busybox-static' : undefined

/** The same for what takes root. */
export const cannotRunAsRoot: string | undefined = process.geteuid?.() === 0 ? cannotRun : 'needs root'

/** The program itself. */
export function busybox(): Buffer {
  return readFileSync(program as string)
}

let layer: Buffer | undefined

/** A layer with busybox, a link for each of its programs, and accounts. */
export function busyboxLayer(): Buffer {
  layer ??= makeLayer()
  return layer
}

function makeLayer(): Buffer {
  const applets = execFileSync(program as string, ['--list'], { encoding: 'utf8' })
    .trim()
    .split('\n')
  const directories = ['bin/', 'dev/', 'etc/', 'home/', 'proc/', 'root/', 'sys/', 'tmp/']
  return tar(
    ...directories.map((name): TestEntry => ({ name, type: '5', mode: name === 'tmp/' ? 0o1777 : 0o755 })),
    { name: 'bin/busybox', content: busybox(), mode: 0o755 },
    ...applets
      .filter((name) => name !== 'busybox')
      .map((name): TestEntry => ({ name: `bin/${name}`, type: '2', linkName: 'busybox' })),
    { name: 'etc/passwd', content: 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n' },
    { name: 'etc/group', content: 'root:x:0:\nuser:x:1000:\nstaff:x:50:user\n' },
  )
}

/** How a busybox image differs from the usual one. */
export interface BusyboxOptions {
  readonly config?: ExecutionConfig
  readonly architecture?: string
  /** Layers on top. */
  readonly layers?: readonly Buffer[]
}

/** An image of busybox for this machine. */
export function busyboxImage({ config = {}, architecture, layers = [] }: BusyboxOptions = {}): TestImage {
  return image(
    [busyboxLayer(), ...layers],
    {},
    {
      architecture: architecture ?? hostPlatform().architecture,
      config: { Cmd: ['sh'], Env: ['PATH=/bin'], ...config },
    },
  )
}
