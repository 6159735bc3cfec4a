/**
 * Finds out what a command needs, and runs it once more with that alone:
 *
 *     npx tsx examples/learn.ts docker.io/library/debian:12 sh -c 'touch /tmp/a && chown 5 /tmp/a && ls -n /tmp/a'
 */
import { type Container, Learning, run } from 'oci-ts'

const [image = 'docker.io/library/debian:12', ...command] = process.argv.slice(2)

/** Shows what it writes. @returns its exit code. */
async function show(container: Container): Promise<number | undefined> {
  for await (const line of container.logs({ follow: true })) console.log(line.text)
  return (await container.exited).code
}

const learning = new Learning()
{
  await using first = await run(image, { command, learn: learning })
  await show(first)
}

const { seccomp, capabilities, capabilitiesUnknown, calls } = learning.report()
const made = calls.reduce((all, { count }) => all + count, 0)
const names = seccomp.syscalls?.flatMap((rule) => rule.names) ?? []
console.log(`${made} system calls of ${calls.length} kinds; the profile names ${names.length}`)
console.log(`capabilities: ${capabilities?.join(', ') ?? `unknown, because ${capabilitiesUnknown}`}`)

// What is not known stays as it is: Docker's fourteen.
const rights = capabilities === undefined ? {} : { drop: ['ALL'], add: capabilities }
await using again = await run(image, { command, seccomp, capabilities: rights })
process.exitCode = await show(again)
