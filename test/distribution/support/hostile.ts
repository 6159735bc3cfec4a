import { expect, it } from 'vitest'
import { copy } from '../../../src/content/copy.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import { readAll } from '../../../src/content/verify.ts'
import {
  createRegistryClient,
  type RegistryClientOptions,
  type Repository,
  staticCredentials,
} from '../../../src/distribution/index.ts'
import { OciError } from '../../../src/errors.ts'
import { mediaType } from '../../../src/image/media-type.ts'
import { all, content, image, randomLayer } from './images.ts'
import { type Handler, type ScriptedServer, startServer } from './scripted-server.ts'

export const layer: ReturnType<typeof randomLayer> = randomLayer(1_000_000)
const made = image(layer)
export const manifest: ReturnType<typeof content> = made.manifest
/** A manifest whose subject is {@link manifest}. */
export const referrer: ReturnType<typeof content> = content(
  mediaType.ociManifest,
  JSON.stringify({
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: made.config.descriptor,
    layers: [],
    subject: manifest.descriptor,
  }),
)

/** What is tried against a hostile registry. */
export const acts = {
  resolve: (repository: Repository): Promise<unknown> => repository.resolve('1'),
  blob: (repository: Repository): Promise<unknown> => readAll(repository, layer.descriptor, 2e6),
  pull: (repository: Repository): Promise<unknown> => copy(repository, '1', new MemoryStore()),
  push: (repository: Repository): Promise<unknown> => repository.push(layer.descriptor, layer.bytes),
  refer: (repository: Repository): Promise<unknown> => repository.push(referrer.descriptor, referrer.bytes),
  tags: (repository: Repository): Promise<unknown> => all(repository.tags()),
  referrers: (repository: Repository): Promise<unknown> => all(repository.referrers(manifest.descriptor)),
} as const

/** `recovers`, or the part of the error's code behind `ERR_OCI_`. */
export type Outcome =
  | 'recovers'
  | 'NOT_FOUND'
  | 'CONFLICT'
  | 'REGISTRY'
  | 'PROTOCOL'
  | 'NETWORK'
  | 'LIMIT'
  | 'SPEC'
  | 'SIZE_MISMATCH'
  | 'DIGEST_MISMATCH'

export type HostileCase = readonly [
  name: string,
  act: keyof typeof acts,
  outcome: Outcome,
  handler: Handler,
  options?: RegistryClientOptions,
]

/** For registries that hang: the others may be slow because the machine is. */
export const impatient: RegistryClientOptions = {
  timeouts: { headers: 200, stall: 200 },
  retry: { attempts: 2, minDelay: 1 },
}

/** Milliseconds and bytes of memory that one case may cost. */
const [maxTime, maxMemory] = [15_000, 128 * 2 ** 20]

/** Makes a test of each case: the right error or recovery, in bounded time and memory, without a word of a secret. */
export function testHostile(cases: readonly HostileCase[]): void {
  for (const [name, act, outcome, handler, options] of cases) {
    it(`${name} (${act}): ${outcome}`, () => runCase(act, outcome, handler, options))
  }
}

async function runCase(
  act: keyof typeof acts,
  outcome: Outcome,
  handler: Handler,
  options: RegistryClientOptions = {},
): Promise<void> {
  await using server: ScriptedServer = await startServer(handler)
  const client = createRegistryClient({
    credentials: staticCredentials({ [server.host]: { kind: 'password', username: 'me', password: 'hunter2' } }),
    retry: { minDelay: 1, maxDelay: 2 },
    timeouts: { headers: 5000, stall: 5000 },
    ...options,
  })
  const before = process.memoryUsage().rss
  const started = performance.now()
  const error: unknown = await acts[act](client.repository(`${server.host}/app`)).then(
    () => undefined,
    (e: unknown) => e,
  )
  expect(performance.now() - started).toBeLessThan(maxTime)
  expect(process.memoryUsage().rss - before).toBeLessThan(maxMemory)
  if (outcome === 'recovers') expect(error).toBeUndefined()
  else {
    expect(error).toBeInstanceOf(OciError)
    expect(error).toMatchObject({ code: `ERR_OCI_${outcome}` })
    const text = `${String(error)} ${JSON.stringify(error)}`
    expect(text).not.toContain('hunter2')
    expect([...text].every((character) => character >= ' ' || character === '\n')).toBe(true)
    expect(text.length).toBeLessThan(20_000)
  }
}

/** Answers as a registry does that has nothing and takes everything. */
export const kind: Handler = (request, response) => {
  request.resume()
  if (request.method === 'HEAD') response.writeHead(404).end()
  else if (request.method === 'POST') response.writeHead(202, { location: '/v2/app/blobs/uploads/1' }).end()
  else request.once('end', () => response.writeHead(request.method === 'DELETE' ? 204 : 201).end())
}

/** Sends bytes without end. */
export const endless: Handler = (_, response) => {
  const chunk = Buffer.alloc(65_536, 'x')
  const more = (): void => {
    while (!response.destroyed && response.write(chunk));
  }
  response.on('drain', more)
  more()
}
