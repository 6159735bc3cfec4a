/**
 * Decides in this program what a container may do: which directories it makes, and what it reads at a path that is not there:
 *
 *     npx tsx examples/on-syscall.ts docker.io/library/debian:12
 */
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run, type SyscallAnswer, type WaitingSyscall } from 'oci-ts'

const [image = 'docker.io/library/debian:12'] = process.argv.slice(2)
const directory = mkdtempSync(join(tmpdir(), 'on-syscall-'))
const secret = join(directory, 'secret')
writeFileSync(secret, 'read from a descriptor of the program outside\n')

// Of the calls that end in `at`, the first argument is a directory.
const pathOf = ({ name, args, readString }: WaitingSyscall): Promise<string> =>
  readString(args[name.endsWith('at') ? 1 : 0] as bigint)

async function mkdir(call: WaitingSyscall): Promise<SyscallAnswer> {
  const path = await pathOf(call)
  console.log(`asked for ${path}`)
  return path === '/no' ? { errno: 'EDQUOT' } : 'continue'
}

async function open(call: WaitingSyscall): Promise<SyscallAnswer> {
  return (await pathOf(call)) === '/run/secret' ? { descriptor: openSync(secret, 'r') } : 'continue'
}

try {
  await using box = await run(image, {
    command: ['sh', '-c', 'mkdir /no; mkdir /yes; ls -d /yes; cat /run/secret'],
    // Which of the two a program makes is its libc's choice.
    onSyscall: { mkdir, mkdirat: mkdir, open, openat: open },
  })
  for await (const line of box.logs({ follow: true })) console.log(line.text)
} finally {
  rmSync(directory, { recursive: true })
}
