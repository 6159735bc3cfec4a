/**
 * A registry for each test, in the test's own process: for code that publishes or fetches images and artifacts.
 * It needs no Linux, no root and no network.
 */
import { NotFoundError } from 'oci-ts'
import { copy, readAll } from 'oci-ts/content'
import { openRepository } from 'oci-ts/distribution'
import { descriptorOf, mediaType } from 'oci-ts/image'
import { createRegistryServer, type RegistryServer } from 'oci-ts/registry'
import { afterEach, beforeEach, expect, it } from 'vitest'

/** The code under test: publishes a text as an OCI artifact. */
async function publish(repositoryName: string, tag: string, text: string): Promise<void> {
  const repository = openRepository(repositoryName)
  const empty = descriptorOf(mediaType.emptyJson, Buffer.from('{}'))
  const layer = descriptorOf('text/plain', Buffer.from(text))
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: mediaType.ociManifest,
      artifactType: 'application/vnd.example.note',
      config: empty,
      layers: [layer],
    }),
  )
  await repository.push(empty, Buffer.from('{}'))
  await repository.push(layer, Buffer.from(text))
  const descriptor = descriptorOf(mediaType.ociManifest, manifest)
  await repository.push(descriptor, manifest)
  await repository.tag(descriptor, tag)
}

let registry: RegistryServer

beforeEach(async () => {
  registry = await createRegistryServer()
})

afterEach(() => registry.close())

it('publishes a note', async () => {
  await publish(`${registry.host}/notes`, '1', 'hello')
  const notes = openRepository(`${registry.host}/notes`)
  const manifest = JSON.parse((await readAll(notes, await notes.resolve('1'), 65_536)).toString())
  expect((await readAll(notes, manifest.layers[0], 65_536)).toString()).toBe('hello')
})

it('mirrors a note', async () => {
  await publish(`${registry.host}/notes`, '1', 'hello')
  const notes = openRepository(`${registry.host}/notes`)
  const mirror = openRepository(`${registry.host}/mirror`)
  await expect(mirror.resolve('1')).rejects.toThrow(NotFoundError)
  expect(await copy(notes, '1', mirror)).toEqual(await mirror.resolve('1'))
})
