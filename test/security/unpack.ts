import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { OciError } from '../../src/errors.ts'
import { type ApplyOptions, applyLayer } from '../../src/layer/apply/apply.ts'
import { type Scratch, stream } from '../layer/support/apply.ts'
import { type TestEntry, tar } from '../layer/support/tar.ts'
import { tree } from '../layer/support/tree.ts'

/** A directory to unpack to, and one beside it that is none of an archive's business. */
export interface Unpacking {
  readonly target: string
  readonly outside: string
  /** Unpacks a layer. @returns the error that it failed with; nothing outside has changed. */
  unpack(entries: readonly TestEntry[], options?: ApplyOptions): Promise<OciError | undefined>
}

/** A place in which archives do what they can. */
export function unpacking(scratch: Scratch): Unpacking {
  const directory = scratch.directory()
  const [target, outside] = [join(directory, 'target'), join(directory, 'outside')]
  mkdirSync(target, { mode: 0o755 })
  mkdirSync(outside)
  writeFileSync(join(outside, 'file'), 'untouched', { mode: 0o600 })
  const before = tree(outside)
  return {
    target,
    outside,
    async unpack(entries, options) {
      const failure = await applyLayer(stream(tar(...entries)), target, options).catch((error: unknown) => error)
      if (failure instanceof Error) expect(failure).toBeInstanceOf(OciError)
      expect(tree(outside)).toEqual(before)
      expect(readdirSync(directory).sort()).toEqual(['outside', 'target'])
      return failure instanceof OciError ? failure : undefined
    },
  }
}
