import type { IncomingMessage, ServerResponse } from 'node:http'
import { type ScriptedServer, serve, startServer } from '../../distribution/support/scripted-server.ts'
import type { TestImage } from '../../store/support/image.ts'

/** Answers a request itself and returns true, or leaves it to the server. */
export type Intrusion = (request: IncomingMessage, response: ServerResponse, bytes: Buffer) => boolean

/** A registry with one image, `<host>/app:1`, which misbehaves where `intrude` says. */
export function serveImage(image: TestImage, intrude: Intrusion = () => false): Promise<ScriptedServer> {
  const blobs = new Map(image.blobs.map(([descriptor, bytes]) => [descriptor.digest as string, bytes]))
  return startServer((request, response) => {
    const [, kind = '', name = ''] = /\/(manifests|blobs)\/([^/?]+)/.exec(request.url ?? '') ?? []
    const bytes = blobs.get(name === '1' ? image.descriptor.digest : name)
    if (kind === '') return void response.writeHead(200).end('{}')
    if (bytes === undefined) return void response.writeHead(404).end()
    if (kind === 'manifests') {
      response.setHeader('content-type', image.descriptor.mediaType)
      response.setHeader('docker-content-digest', image.descriptor.digest)
    }
    if (!intrude(request, response, bytes)) serve(request, response, bytes)
  })
}
