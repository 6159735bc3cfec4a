import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { type AppliedLayer, type ApplyOptions, applyLayer, applyTo } from '../../../src/layer/apply/apply.ts'
import type { Ownership } from '../../../src/layer/apply/target.ts'
import { completeLimits } from '../../../src/layer/limits.ts'
import type { Call } from '../../../src/linux/call.ts'
import { FakeRunner } from '../../../src/linux/fake.ts'

/** Whether this is root with all it takes; the tests that need it say so. */
export const isRoot: boolean = process.geteuid?.() === 0

/** A stream of an archive in pieces, as a file gives them. */
export function stream(archive: Buffer): Readable {
  return Readable.from(
    (function* () {
      for (let at = 0; at < archive.length; at += 65_536) yield archive.subarray(at, at + 65_536)
    })(),
    { objectMode: false },
  )
}

/** Plans an archive without making a call. Each call as text: its name and what it is about. */
export async function plan(
  archive: Buffer,
  options: ApplyOptions & { readonly rights?: Ownership; readonly fake?: FakeRunner } = {},
): Promise<{ readonly calls: readonly Call[]; readonly lines: readonly string[]; readonly applied: AppliedLayer }> {
  const { rights = { userNamespace: false, singleOwner: false }, fake = new FakeRunner(), ...rest } = options
  const target = { capacity: 1 << 20, run: (calls: readonly Call[]) => fake.run(calls), close: async () => {} }
  const applied = await applyTo(stream(archive), target, rights, completeLimits(rest.limits), rest)
  return { calls: fake.calls, lines: fake.calls.map(line), applied }
}

/** The lines of a plan without attributes of the root, which every plan sets. */
export async function lines(...args: Parameters<typeof plan>): Promise<readonly string[]> {
  const planned = await plan(...args)
  return planned.lines.filter((line) => line !== 'fchmodat / 755')
}

/** `mkdirat /a`, `symlinkat /a -> b`, `fsetxattr /f security.capability`, `fchmodat /d 1777`. */
export function line({ name, path, args }: Call): string {
  const text = (arg: unknown): string => (arg instanceof Uint8Array ? Buffer.from(arg).toString('latin1') : String(arg))
  const more: Readonly<Record<string, () => string>> = {
    symlinkat: () => ` -> ${text(args[0])}`,
    linkat: () => ` = ${text(args[1])}`,
    fsetxattr: () => ` ${text(args[1])}`,
    lsetxattr: () => ` ${text(args[1])}`,
    fchmod: () => ` ${Number(args[1]).toString(8)}`,
    fchmodat: () => ` ${Number(args[2]).toString(8)}`,
    fchown: () => ` ${args[1]}:${args[2]}`,
    fchownat: () => ` ${args[2]}:${args[3]}`,
    mknodat: () => ` ${Number(args[2]).toString(8)} ${args[3]}`,
    openat: () => ` ${Number(args[3]).toString(8)}`,
  }
  return `${name}${path === undefined ? '' : ` ${path}`}${more[name]?.() ?? ''}`
}

/** Temporary directories of a test file, removed by {@link Scratch.clean}. */
export class Scratch {
  readonly path: string = mkdtempSync(join(tmpdir(), 'oci-ts-layer-'))
  #count = 0

  /** A new empty directory. */
  directory(): string {
    this.#count += 1
    const path = join(this.path, String(this.#count))
    mkdirSync(path, { mode: 0o755 })
    return path
  }

  /** Applies an archive to a new directory, and returns that. */
  async apply(archive: Buffer, options?: ApplyOptions): Promise<string> {
    const directory = this.directory()
    await applyLayer(stream(archive), directory, options)
    return directory
  }

  clean(): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}
