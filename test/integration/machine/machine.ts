import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { build, type Plugin } from 'esbuild'
import { Cpio } from './cpio.ts'
import { addSystemd, startSystemd, systemdPrograms } from './systemd.ts'
import type { TestResult } from './vitest.ts'

const here = dirname(fileURLToPath(import.meta.url))
const project = join(here, '../../..')
/** Where scripts/prepare-tests.mjs puts the kernel. */
const kernelHome = join(project, 'node_modules/.cache/oci-ts/kernel')
const qemu = ['/usr/bin/qemu-system-x86_64', '/usr/local/bin/qemu-system-x86_64'].find((path) => existsSync(path))
const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path))

/** Whether a machine can be booted here; else why not. */
export const cannotBoot: string | undefined =
  process.arch !== 'x64'
    ? 'needs an x64 machine'
    : qemu === undefined
      ? 'needs qemu-system-x86'
      : busybox === undefined
        ? 'needs busybox-static'
        : kernelFile() === undefined
          ? "needs Debian's cloud kernel: node scripts/prepare-tests.mjs"
          : undefined

/** Modules that are loaded always, in this order. */
const usualModules = ['overlay', 'configfs', 'null_blk', 'bfq', 'veth']

/** What is to be run in a machine. */
export interface MachineOptions {
  /** Test files, relative to test/. */
  readonly tests: readonly string[]
  /** Programs that tests start, relative to test/: bundled, and there as `/app/<name>.mjs`. */
  readonly programs?: readonly string[]
  /** Paths of programs of this machine that are there as well, with their libraries. */
  readonly hostPrograms?: readonly string[]
  /** Further modules to load, in this order. */
  readonly modules?: readonly string[]
  /** Words for the kernel's command line. */
  readonly kernelArguments?: readonly string[]
  /** Files and directories of this machine that are there as well, at the same path. */
  readonly files?: readonly string[]
  /** Whether its first process is systemd, and the tests are a service of it. Default a shell's script. */
  readonly systemd?: boolean
  /** Milliseconds until it is given up. Default 3 minutes. */
  readonly timeout?: number
}

/** What a machine reported. */
export interface MachineReport {
  readonly results: readonly TestResult[]
  /** What the kernel and the programs said. */
  readonly console: string
}

/**
 * Boots a machine with Debian's cloud kernel and nothing but busybox, Node and the tests, and runs these.
 * It has cgroup version 2 alone.
 */
export async function runInMachine(options: MachineOptions): Promise<MachineReport> {
  const directory = mkdtempSync(join(tmpdir(), 'oci-ts-machine-'))
  try {
    const initramfs = join(directory, 'initramfs')
    writeFileSync(initramfs, await archive(options, directory))
    const results = join(directory, 'results')
    const first = await boot(options, initramfs, results)
    const { text } = first.frozen ? await boot(options, initramfs, results) : first
    const lines = linesOf(results)
    if (!lines.includes('{"done":true}'))
      throw new Error(`the machine did not run all tests:\n${lines.join('\n').slice(-4000)}\n${text.slice(-20_000)}`)
    return { results: lines.slice(0, -1).map((line) => JSON.parse(line) as TestResult), console: text }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function linesOf(results: string): readonly string[] {
  const text = existsSync(results) ? readFileSync(results, 'utf8') : ''
  return text.split(/\r?\n/).filter((line) => line.startsWith('{'))
}

/** Milliseconds without a result after which a machine is asked what it does: more than any test may take. */
const silence = 90_000

/** How a machine ended. */
interface End {
  /** What the kernel and the programs said. */
  readonly text: string
  /** Whether the kernel itself answered no more, which is the emulator's fault. */
  readonly frozen: boolean
}

function boot(options: MachineOptions, initramfs: string, results: string): Promise<End> {
  const { timeout = 180_000, kernelArguments = [] } = options
  const words = ['console=ttyS0', 'quiet', 'panic=1', 'cgroup_no_v1=all', 'no_timer_check', 'sysrq_always_enabled']
  const machine = ['-accel', 'tcg', '-nic', 'none', '-m', '1536', '-smp', '2', '-nographic', '-no-reboot']
  const serial = ['-serial', 'mon:stdio', '-serial', `file:${results}`]
  const kernel = [
    '-kernel',
    kernelFile() as string,
    '-initrd',
    initramfs,
    '-append',
    [...words, ...kernelArguments].join(' '),
  ]
  const child = spawn(qemu as string, [...machine, ...serial, ...kernel])
  let [text, frozen] = ['', false]
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), timeout)
  let [count, since] = [0, Date.now()]
  const watch = setInterval(() => {
    const now = linesOf(results).length
    if (now > count) [count, since] = [now, Date.now()]
    else if (Date.now() - since > silence) void examine()
  }, 1000)
  /** Ends a machine that says nothing any more, and has the kernel, then the emulator, tell where its processes are. */
  const examine = async (): Promise<void> => {
    clearInterval(watch)
    const before = text.length
    for (const key of ['9', 'w', 'l']) {
      child.stdin.write(`\x01b${key}`)
      await delay(2000)
    }
    frozen = !text.slice(before).includes('sysrq: ')
    child.stdin.write('\x01cinfo registers -a\n')
    await delay(1000)
    child.kill('SIGKILL')
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', () => {
      clearTimeout(timer)
      clearInterval(watch)
      resolve({ text, frozen })
    })
  })
}

async function archive(options: MachineOptions, directory: string): Promise<Buffer> {
  const { tests, programs = [], files = [], systemd = false } = options
  const hostPrograms = [...(options.hostPrograms ?? []), ...(systemd ? systemdPrograms : [])]
  const modules = [...usualModules, ...(options.modules ?? [])]
  const cpio = new Cpio()
  for (const path of ['proc', 'sys', 'dev', 'tmp', 'run', 'root', 'etc', 'mnt', 'app']) cpio.directory(path)
  cpio.file('bin/busybox', readFileSync(busybox as string))
  cpio.file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n', 0o644)
  cpio.file('etc/group', 'root:x:0:\nuser:x:1000:\n', 0o644)
  cpio.file('init', init)
  cpio.file('start', `${start}${systemd ? startSystemd : 'exec /run-tests\n'}`)
  cpio.file('run-tests', runTests)
  if (systemd) addSystemd(cpio)
  cpio.file('bin/node', readFileSync(process.execPath))
  const ffi = createRequire(import.meta.url).resolve('ffi-rs')
  const native = join(dirname(dirname(ffi)), '@yuuang/ffi-rs-linux-x64-gnu')
  cpio.copy(dirname(ffi), 'app/node_modules/ffi-rs')
  cpio.copy(native, 'app/node_modules/@yuuang/ffi-rs-linux-x64-gnu')
  const binaries = [
    process.execPath,
    ...readdirSync(native)
      .filter((name) => name.endsWith('.node'))
      .map((name) => join(native, name)),
  ]
  for (const path of hostPrograms) cpio.file(path.slice(1), readFileSync(path))
  // It locks the network of a container with iptables else, which is not there.
  cpio.file('etc/criu/default.conf', 'network-lock nftables\n', 0o644)
  for (const path of new Set([...binaries, ...hostPrograms].flatMap(librariesOf)))
    cpio.file(path.slice(1), readFileSync(path))
  for (const path of files) cpio.copy(path, path.slice(1))
  for (const name of modules) {
    const path = moduleFile(name)
    if (path !== undefined) cpio.file(`modules/${basename(path)}`, readFileSync(path))
  }
  cpio.file('modules/order', modules.join('\n'), 0o644)
  cpio.file('app/guest.mjs', await bundleTests(tests, directory))
  for (const program of programs) {
    const contents = `await import(${JSON.stringify(join(project, 'test', program))})`
    cpio.file(`app/${basename(program, '.ts')}.mjs`, await bundle(contents, directory))
  }
  return cpio.end()
}

/** The test files, each to be run when it is imported, with our own vitest. */
function bundleTests(tests: readonly string[], directory: string): Promise<Buffer> {
  const calls = tests.map((file) => {
    const path = join(project, 'test', file)
    return `await import(${JSON.stringify(path)})\nawait runDefined(${JSON.stringify(file)}, report)`
  })
  const contents = `import { writeSync } from 'node:fs'
    import { runDefined } from ${JSON.stringify(runner)}
    const report = (result) => writeSync(1, JSON.stringify(result) + '\\n')
    ${calls.join('\n')}
    writeSync(1, '{"done":true}\\n')
    process.exit(0)`
  return bundle(contents, directory)
}

const runner = join(here, 'vitest.ts')

async function bundle(contents: string, directory: string): Promise<Buffer> {
  const outfile = join(directory, 'bundle.mjs')
  await build({
    stdin: { contents, resolveDir: here, loader: 'js' },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    outfile,
    external: ['ffi-rs'],
    plugins: [standIns],
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);",
    },
    logLevel: 'error',
  })
  return readFileSync(outfile)
}

/** The machine has no vite; what vitest's `expect` is bundled with does not need it. */
const standIns: Plugin = {
  name: 'stand-ins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^vitest$/ }, () => ({ path: runner }))
    onResolve({ filter: /^(vite|esbuild|rolldown|@vitest\/mocker)(\/.*)?$/ }, ({ path }) => ({
      path,
      namespace: 'none',
    }))
    onLoad({ filter: /.*/, namespace: 'none' }, () => ({ contents: 'module.exports = {}', loader: 'js' }))
  },
}

function librariesOf(binary: string): readonly string[] {
  const text = execFileSync('ldd', [binary], { encoding: 'utf8' })
  return text.split('\n').flatMap((line) => /(\/\S+) \(0x/.exec(line)?.[1] ?? [])
}

function kernelFile(): string | undefined {
  const name = existsSync(kernelHome) ? readdirSync(kernelHome).find((each) => each.startsWith('vmlinuz')) : undefined
  return name === undefined ? undefined : join(kernelHome, name)
}

/** Path of a program of this machine. */
export function findProgram(name: string): string | undefined {
  return ['/usr/sbin', '/usr/bin', '/sbin', '/bin'].map((path) => join(path, name)).find((path) => existsSync(path))
}

function moduleFile(name: string): string | undefined {
  const path = join(kernelHome, `${name}.ko`)
  return existsSync(path) ? path : undefined
}

/**
 * The kernel's first root can't be pivoted away from: what runs here sees it by a mount of its own, which is put over it, as
 * who is in a chroot may make no user namespace.
 */
const init = `#!/bin/busybox sh
/bin/busybox mount --bind / /mnt
cd /mnt
/bin/busybox mount --move . /
exec /bin/busybox chroot . /start
`

const start = `#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/bin HOME=/root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
for module in $(cat /modules/order); do insmod /modules/$module.ko; done
`

const runTests = `#!/bin/busybox sh
export PATH=/usr/sbin:/usr/bin:/bin
stty -F /dev/ttyS1 raw
cd /app
node /app/guest.mjs >/dev/ttyS1
reboot -f
`
