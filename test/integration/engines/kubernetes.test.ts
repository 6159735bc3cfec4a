import { createHash } from 'node:crypto'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CommandLine, type Ran, run } from '../../cli/support.ts'
import { until } from '../../runtime/support.ts'
import { Cri, fieldsOf, message } from './cri.ts'
import { cannotRunWith, find, Place } from './support.ts'

const reason = cannotRunWith({ containerd: 'containerd', ctr: 'containerd', runc: 'runc' })

const image = 'docker.io/library/box:1'
/** States of a container, and modes of a namespace. */
const [running, exited, node] = [1, 2, 2]

// kubelet has to be built; what it asks of containerd for a pod with `runtimeClassName: oci-ts` is this.
describe.skipIf(reason)(`a pod whose RuntimeClass has the handler oci-ts (${reason ?? 'containerd, over CRI'})`, () => {
  let oci: CommandLine
  let place: Place
  let cri: Cri
  beforeAll(async () => {
    oci = new CommandLine()
    place = new Place('kubernetes')
    for (const name of ['cni', 'logs']) mkdirSync(place.path(name))
    writeFileSync(place.path('config.toml'), config())
    await place.start(find('containerd') as string, ['--config', place.path('config.toml')], place.path('socket'))
    cri = new Cri(place.path('socket'))
    expect(ctr('images', 'import', imageArchive()).stderr).toBe('')
  }, 120_000)
  afterAll(async () => {
    for (const sandbox of pods) {
      await cri.call('StopPodSandbox', message([1, sandbox])).catch(() => {})
      await cri.call('RemovePodSandbox', message([1, sandbox])).catch(() => {})
    }
    await cri[Symbol.asyncDispose]()
    await place.remove()
    oci.remove()
  }, 60_000)

  const pods: string[] = []

  function ctr(...args: readonly string[]): Ran {
    return run('ctr', ['--address', place.path('socket'), '--namespace', 'k8s.io', ...args])
  }

  /** As on the page; the rest keeps this containerd apart from others. */
  function config(): string {
    const plugin = 'plugins."io.containerd.grpc.v1.cri"'
    return `version = 2
root = ${JSON.stringify(place.path('root'))}
state = ${JSON.stringify(place.path('state'))}
[grpc]
  address = ${JSON.stringify(place.path('socket'))}
[ttrpc]
  address = ${JSON.stringify(place.path('ttrpc'))}
[${plugin}]
  sandbox_image = "${image}"
  restrict_oom_score_adj = true
  [${plugin}.cni]
    conf_dir = ${JSON.stringify(place.path('cni'))}
  [${plugin}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [${plugin}.containerd.runtimes.oci-ts]
    runtime_type = "io.containerd.runc.v2"
    [${plugin}.containerd.runtimes.oci-ts.options]
      BinaryName = ${JSON.stringify(oci.path)}
      Root = ${JSON.stringify(place.path('runtime'))}
`
  }

  /** The image of all containers, also of the one that holds the pod: as docker save writes it. */
  function imageArchive(): string {
    copyFileSync(place.archive(), place.path('layer.tar'))
    const digest = createHash('sha256')
      .update(readFileSync(place.path('layer.tar')))
      .digest('hex')
    const rootfs = { type: 'layers', diff_ids: [`sha256:${digest}`] }
    const architecture = process.arch === 'x64' ? 'amd64' : process.arch
    const wanted = { Cmd: ['/bin/sleep', '100000'], Env: ['PATH=/bin'] }
    writeFileSync(place.path('image.json'), JSON.stringify({ architecture, os: 'linux', config: wanted, rootfs }))
    const manifest = [{ Config: 'image.json', RepoTags: [image], Layers: ['layer.tar'] }]
    writeFileSync(place.path('manifest.json'), JSON.stringify(manifest))
    run('tar', ['-C', place.directory, '-cf', place.path('image.tar'), 'manifest.json', 'image.json', 'layer.tar'])
    return place.path('image.tar')
  }

  /** A pod in the network of the host, which takes no CNI. */
  function podConfig(name: string): Buffer {
    const security = message([1, message([1, node])])
    const parent = `/oci-ts-pods-${process.pid}`
    return message(
      [1, message([1, name], [2, `uid-${name}`], [3, 'default'])],
      [3, place.path('logs')],
      [8, message([1, parent], [2, security])],
    )
  }

  async function runPod(name: string, handler: string): Promise<string> {
    const answer = await cri.call('RunPodSandbox', message([1, podConfig(name)], [2, handler]))
    const id = String(answer.get(1))
    pods.push(id)
    return id
  }

  interface ContainerOptions {
    readonly tty?: boolean
    readonly memory?: number
  }

  async function create(pod: string, name: string, script: string, options: ContainerOptions = {}): Promise<string> {
    const command = ['/bin/sh', '-c', script].map((word) => [3, word] as const)
    const resources = options.memory === undefined ? message() : message([4, options.memory])
    const security = message([3, message([1, node])], [7, 1], [11, 1])
    const container = message(
      [1, message([1, name])],
      [2, message([1, image])],
      ...command,
      [11, `${name}.log`],
      [14, options.tty === true ? 1 : 0],
      [15, message([1, resources], [2, security])],
    )
    const request = message([1, pod], [2, container], [3, podConfig('of it')])
    return String((await cri.call('CreateContainer', request)).get(1))
  }

  const start = (id: string) => cri.call('StartContainer', message([1, id]))

  async function statusOf(id: string): Promise<{ readonly state: unknown; readonly code: unknown }> {
    const status = fieldsOf((await cri.call('ContainerStatus', message([1, id]))).get(1) as Buffer)
    return { state: status.get(3) ?? 0, code: status.get(7) ?? 0 }
  }

  async function execSync(id: string, ...command: readonly string[]) {
    const answer = await cri.call('ExecSync', message([1, id], ...command.map((word) => [2, word] as const)))
    return { stdout: String(answer.get(1) ?? ''), stderr: String(answer.get(2) ?? ''), code: answer.get(3) ?? 0 }
  }

  const log = (name: string): string => readFileSync(place.path('logs', `${name}.log`), 'utf8')
  const containers = (): string => oci.run(['--root', place.path('runtime/k8s.io'), 'list', '-q']).stdout

  it('runs containers, with logs, limits, further processes and exit codes, until it is removed', async () => {
    const pod = await runPod('pod', 'oci-ts')
    expect(containers()).toBe(`${pod}\n`)
    const script = 'trap "exit 9" TERM; echo up; echo oops >&2; while sleep 0.05; do :; done'
    const id = await create(pod, 'main', script, { memory: 64 << 20 })
    await start(id)
    expect(await statusOf(id)).toEqual({ state: running, code: 0 })
    await until('it has said so', () => log('main').includes('oops'))
    expect(log('main')).toMatch(/^\S+ stdout F up\n/m)
    expect(await execSync(id, 'sh', '-c', 'echo in; echo err >&2; exit 5')).toEqual({
      ...{ stdout: 'in\n', stderr: 'err\n', code: 5 },
    })
    expect((await execSync(id, 'touch', '/file')).stderr).toContain('Read-only file system')
    expect((await execSync(id, 'grep', 'NoNewPrivs', '/proc/self/status')).stdout).toBe('NoNewPrivs:\t1\n')
    await expect(execSync(id, 'nonsense')).rejects.toThrow('executable file not found in $PATH')
    const limit = 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'
    expect((await execSync(id, 'sh', '-c', limit)).stdout).toBe(`${64 << 20}\n`)
    await cri.call('UpdateContainerResources', message([1, id], [2, message([4, 96 << 20])]))
    expect((await execSync(id, 'sh', '-c', limit)).stdout).toBe(`${96 << 20}\n`)
    expect((await cri.call('ContainerStats', message([1, id]))).get(1)).toBeInstanceOf(Buffer)
    await cri.call('StopContainer', message([1, id], [2, 20]))
    expect(await statusOf(id)).toEqual({ state: exited, code: 9 })
    await cri.call('RemoveContainer', message([1, id]))
    expect(containers()).toBe(`${pod}\n`)
    await cri.call('StopPodSandbox', message([1, pod]))
    await cri.call('RemovePodSandbox', message([1, pod]))
    expect(containers()).toBe('')
  }, 120_000)

  it('has a container with a terminal, and one that runs again and again', async () => {
    const pod = await runPod('again', 'oci-ts')
    for (const [index, code] of [3, 4].entries()) {
      const name = `again-${index}`
      const id = await create(pod, name, `tty; exit ${code}`, { tty: true })
      await start(id)
      await until('it has ended', async () => (await statusOf(id)).state === exited)
      expect(await statusOf(id)).toEqual({ state: exited, code })
      expect(log(name)).toMatch(/ stdout F \/dev\/pts\/0\r?\n/)
      await cri.call('RemoveContainer', message([1, id]))
    }
  }, 120_000)

  it('is told why a container does not start, as with runc', async () => {
    const messages: string[] = []
    for (const handler of ['oci-ts', 'runc']) {
      const pod = await runPod(`bad-${handler}`, handler)
      const command = [3, '/bin/nonsense'] as const
      const container = message([1, message([1, `bad-${handler}`])], [2, message([1, image])], command)
      const request = message([1, pod], [2, container], [3, podConfig('of it')])
      const id = String((await cri.call('CreateContainer', request)).get(1))
      messages.push(await start(id).then(String, (error: Error) => error.message))
    }
    const words = /exec: "\/bin\/nonsense": stat \/bin\/nonsense: no such file or directory/
    expect(messages).toEqual([expect.stringMatching(words), expect.stringMatching(words)])
  }, 120_000)

  it('is refused for a handler that containerd does not have', async () => {
    await expect(runPod('none', 'nonsense')).rejects.toThrow('no runtime for "nonsense" is configured')
  })
})
