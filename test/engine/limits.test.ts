import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { cannotRunAsRoot } from './support/busybox.ts'
import { cgroupsOf } from './support/leftovers.ts'
import { Sandbox } from './support/sandbox.ts'

describe.skipIf(cannotRunAsRoot)(`limits (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  it('of memory lead to a kill that is reported as such', async () => {
    const box = await sandbox.run(['tail', '/dev/zero'], { memory: '16m', memorySwap: '16m' })
    expect(await box.exited).toEqual({ code: 137, signal: 'SIGKILL', oomKilled: true })
    await box.remove()
  })

  it('of memory are reported when they felled a child, too', async () => {
    const box = await sandbox.run(['sh', '-c', 'tail /dev/zero; exit 5'], { memory: '16m', memorySwap: '16m' })
    expect(await box.exited).toEqual({ code: 5, signal: undefined, oomKilled: true })
    await box.remove()
  })

  it('of processes stop a fork bomb, which is removed whole', async () => {
    const cgroupsPath = sandbox.cgroup()
    const script = 'bomb() { bomb | bomb; }; bomb & read forever'
    await using box = await sandbox.run(['sh', '-c', script], { pids: 32, stdin: 'pipe', cgroupsPath })
    for await (const { text } of box.logs({ follow: true })) if (/can't fork/.test(text)) break
    const [directory = ''] = cgroupsOf(cgroupsPath.slice(1)).filter((path) => existsSync(join(path, 'pids.current')))
    const peak = Number(readFileSync(join(directory, 'pids.current'), 'utf8'))
    expect(peak).toBeGreaterThanOrEqual(1)
    expect(peak).toBeLessThanOrEqual(32)
  })

  it('of half a CPU halve a busy loop', { timeout: 60_000 }, async () => {
    const busy = 'timeout 2 sh -c "while :; do :; done"; times'
    const seconds = (text: string): number => {
      const [minutes = '', rest = ''] = (text.trim().split(/\s+/)[2] ?? '').split('m')
      return Number(minutes) * 60 + Number.parseFloat(rest)
    }
    const { stdout } = await sandbox.sh(busy, { cpus: 0.5 })
    // What others run can only make it less.
    expect(seconds(stdout)).toBeLessThan(1.2)
    expect(seconds(stdout)).toBeGreaterThan(0.2)
  })

  it('of CPU time throttle, as the kernel counts', async () => {
    const { stdout } = await sandbox.sh(
      'timeout 1 sh -c "while :; do :; done"; cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null',
      { cpus: 0.1 },
    )
    expect(Number(/nr_throttled (\d+)/.exec(stdout)?.[1])).toBeGreaterThan(0)
  })

  it('can be read from inside', async () => {
    const { stdout } = await sandbox.sh(
      'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null',
      { memory: '64m', pids: 50 },
    )
    expect(stdout.trim().split('\n')).toEqual([String(64 << 20), '50'])
  })
})

describe.skipIf(cannotRunAsRoot)(`from inside, a container (${cannotRunAsRoot ?? 'a real one'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const lines = async (script: string, options: Parameters<Sandbox['sh']>[1] = {}): Promise<readonly string[]> =>
    (await sandbox.sh(`exec 2>&1; ${script}`, options)).stdout.trim().split('\n')

  it('is alone: process 1, with a host name and a network of its own', async () => {
    // The shell itself counts: what it would start for that may not be there yet when it does.
    const script = 'echo $$; hostname; set -- /proc/[0-9]*; echo $#'
    expect(await lines(script, { hostname: 'alone' })).toEqual(['1', 'alone', '1'])
    const links = await lines(
      'ls /sys/class/net; ip -o link | grep -c LOOPBACK,UP; ping -c1 -W1 127.0.0.1 | grep -c "1 packets received"',
    )
    expect(links).toEqual(['lo', '1', '1'])
  })

  it("has Docker's capabilities and no more", async () => {
    const status = await lines('grep -E "^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):" /proc/self/status')
    expect(status.map((line) => line.replace(/\s+/, ' '))).toEqual([
      'CapInh: 0000000000000000',
      'CapPrm: 00000000a80425fb',
      'CapEff: 00000000a80425fb',
      'CapBnd: 00000000a80425fb',
      'CapAmb: 0000000000000000',
      'NoNewPrivs: 0',
      'Seccomp: 2',
    ])
    const options = { capabilities: { drop: ['ALL'], add: ['CHOWN'] } }
    expect(await lines('grep CapEff /proc/self/status', options)).toEqual(['CapEff:\t0000000000000001'])
  })

  it.each([
    ['mount', 'mount -t tmpfs none /tmp'],
    ['set the clock', 'date -s 2001-01-01'],
    ['name the host', 'hostname other'],
    ['make a user namespace', 'unshare -U true'],
    ['load a module', 'insmod /etc/passwd'],
    ['write sysctls', 'echo 1 > /proc/sys/kernel/panic'],
    ['use sysrq', 'echo h > /proc/sysrq-trigger'],
    ['write to /sys', 'echo 1 > /sys/kernel/profiling || touch /sys/x'],
    ['write to cgroups', 'mkdir /sys/fs/cgroup/x || mkdir /sys/fs/cgroup/pids/x'],
    ['use devices of the host', 'mknod /tmp/d b 8 0 && cat /tmp/d'],
    ['trace the kernel log', 'dmesg'],
  ])('can not %s', async (_, script) => {
    const { code, stdout } = await sandbox.sh(`(${script}) 2>&1`)
    expect(stdout).toMatch(/not permitted|ermission denied|Read-only|Invalid argument|No such|nonexistent/)
    // busybox's date says so and succeeds.
    if (!script.startsWith('date')) expect(code).not.toBe(0)
  })

  it('sees nothing in masked paths', async () => {
    const paths = ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/sched_debug', '/proc/latency_stats']
    expect(await lines(`for f in ${paths.join(' ')}; do [ -e $f ] && head -c1 $f | wc -c; done; echo end`)).toSatisfy(
      (found: readonly string[]) => found.slice(0, -1).every((count) => count === '0'),
    )
    expect(await lines('ls -A /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | grep -c .; true')).toEqual([
      '0',
    ])
  })

  it('may not write to a read-only root, but to what is mounted in it', async () => {
    const script = 'touch /x; touch /tmp/x; touch /dev/shm/x && echo shm'
    const found = await lines(script, { readOnly: true })
    expect(found).toEqual([
      expect.stringContaining('Read-only file system'),
      expect.stringContaining('Read-only file system'),
      'shm',
    ])
    const mounts = [{ type: 'tmpfs', target: '/tmp' } as const]
    expect(await lines('touch /tmp/x && echo tmp', { readOnly: true, mounts })).toEqual(['tmp'])
  })

  it('has no descriptor but its streams', async () => {
    expect(await lines('ls /proc/self/fd')).toEqual(['0', '1', '2', '3'])
  })

  it('sees its own mounts and none of the host', async () => {
    const mounts = await lines('cut -d" " -f5 /proc/self/mountinfo')
    expect(mounts[0]).toBe('/')
    for (const path of mounts) expect(path).toMatch(/^\/($|proc|dev|sys)/)
  })
})
