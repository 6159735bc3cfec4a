import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { tar } from '../layer/support/tar.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { serveImage } from './support/image-server.ts'
import { nothing, settledLeftovers } from './support/leftovers.ts'
import { Sandbox } from './support/sandbox.ts'

const project = fileURLToPath(new URL('../..', import.meta.url))
const program = fileURLToPath(new URL('support/puller-runner.ts', import.meta.url))

describe.skipIf(cannotRunAsRoot)(`ten processes on one store (${cannotRunAsRoot ?? 'real ones'})`, () => {
  it('pull the same image and run it, all at once', { timeout: 120_000 }, async () => {
    const sandbox = new Sandbox()
    const files = Array.from({ length: 200 }, (_, i) => ({ name: `files/${i}`, content: `${i}` }))
    const image = busyboxImage({ layers: [tar(...files)] })
    const fetched = new Map<string, number>()
    await using server = await serveImage(image, (request) => {
      const url = request.url ?? ''
      if (request.method === 'GET' && url.includes('/blobs/')) fetched.set(url, (fetched.get(url) ?? 0) + 1)
      return false
    })
    try {
      const args = [
        '--import',
        'tsx',
        program,
        sandbox.root,
        sandbox.state,
        `${server.host}/app:1`,
        'ls /files | wc -l',
      ]
      const all = await Promise.all(
        Array.from({ length: 10 }, () => promisify(execFile)(process.execPath, args, { cwd: project })),
      )
      for (const { stdout } of all) expect(JSON.parse(stdout)).toEqual({ lines: ['200'], code: 0, warnings: [] })
      expect(await settledLeftovers(sandbox)).toEqual(nothing)
    } finally {
      sandbox.remove()
    }
  })
})
