import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { temporaryDirectory } from './support.ts'

const blobSize = 400 * 2 ** 20
const piece = Buffer.alloc(2 ** 20, 'memory')

/** The blob, made as it is read. */
function blob(): ReadableStream<Uint8Array> {
  let rest = blobSize
  return new ReadableStream({
    pull(controller) {
      rest -= piece.byteLength
      controller.enqueue(piece)
      if (rest === 0) controller.close()
    },
  })
}

describe.skipIf(!existsSync('/proc/self/status'))('a registry on disk (measured where /proc is)', () => {
  it('does not hold a blob in memory, on its way in or out', async () => {
    const directory = await temporaryDirectory()
    const script = fileURLToPath(new URL('./serve.ts', import.meta.url))
    const server = spawn(process.execPath, ['--import', 'tsx', script, directory.path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    try {
      const [line] = await once(server.stdout, 'data')
      const url = `http://${String(line).trim()}`
      const highest = (): number => {
        const status = readFileSync(`/proc/${server.pid}/status`, 'utf8')
        return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024
      }
      const before = highest()

      const hash = createHash('sha256')
      for (let i = 0; i < blobSize / piece.byteLength; i += 1) hash.update(piece)
      const digest = `sha256:${hash.digest('hex')}`
      const put = await fetch(`${url}/v2/large/blobs/uploads/?digest=${digest}`, {
        method: 'POST',
        body: blob(),
        duplex: 'half',
      })
      expect(put.status).toBe(201)

      const response = await fetch(`${url}/v2/large/blobs/${digest}`)
      let received = 0
      for await (const chunk of response.body ?? []) received += chunk.byteLength
      expect(received).toBe(blobSize)
      expect(highest() - before).toBeLessThan(blobSize / 3)
    } finally {
      server.kill('SIGKILL')
      await directory.remove()
    }
  })
})
