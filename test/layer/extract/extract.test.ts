import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ownership } from '../../../src/layer/apply/target.ts'
import { openTree } from '../../../src/layer/diff/open-tree.ts'
import { extractArchive } from '../../../src/layer/extract/extract.ts'
import { Scratch, stream } from '../support/apply.ts'
import { tar } from '../support/tar.ts'

const scratch = new Scratch()
afterAll(() => scratch.clean())

async function extract(archive: Buffer, directory: string): Promise<void> {
  const { userNamespace, singleOwner } = await ownership()
  const reader = await openTree(directory)
  try {
    const pieces = stream(archive) as AsyncIterable<Buffer>
    await extractArchive(pieces, reader.process, { directory: '', userNamespace, singleOwner })
  } finally {
    await reader.close()
  }
}

/** Renames a file to and fro for as long as it lives. */
async function renamer(): Promise<ChildProcess> {
  const script = `
    const { renameSync, writeFileSync } = require('node:fs')
    writeFileSync('a', '')
    process.stdout.write('ready')
    for (;;) { renameSync('a', 'b'); renameSync('b', 'a') }`
  const child = spawn(process.execPath, ['-e', script], {
    cwd: scratch.directory(),
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout as NodeJS.ReadableStream, 'data')
  return child
}

describe('an archive that is put into a tree', () => {
  it('arrives whole through links with .., also while something else on the host is renamed all the time', async () => {
    const target = scratch.directory()
    // Each way down the path goes up and down again many times.
    mkdirSync(join(target, 'real'))
    symlinkSync('real/../real/../real/../real/../real/../real/../real/../real', join(target, 'link'))
    const names = Array.from({ length: 1000 }, (_, index) => `link/${index % 2}/${index}`)
    const other = await renamer()
    try {
      await extract(tar(...names.map((name) => ({ name, content: name }))), target)
    } finally {
      other.kill('SIGKILL')
    }
    for (const name of names) {
      expect(readFileSync(join(target, name.replace('link', 'real')), 'utf8')).toBe(name)
    }
  })
})
