import { describe, expect, it } from 'vitest'
import { SpecError, type SpecIssue } from '../../src/errors.ts'
import { parseImageConfig } from '../../src/image/config.ts'
import { type Descriptor, descriptorOf, embeddedContent } from '../../src/image/descriptor.ts'
import { digestOf } from '../../src/image/digest.ts'
import { parseIndex } from '../../src/image/image-index.ts'
import { parseLayoutHeader } from '../../src/image/layout-header.ts'
import { assertLayerCount, isIndex, parseManifest, parseManifestOrIndex, successors } from '../../src/image/manifest.ts'
import { mediaType } from '../../src/image/media-type.ts'

const config: Descriptor = descriptorOf(mediaType.ociConfig, Buffer.from('{}'))
const layer: Descriptor = descriptorOf(mediaType.ociLayerGzip, Buffer.from('layer'))
const manifest = { schemaVersion: 2, mediaType: mediaType.ociManifest, config, layers: [layer] }
const index = { schemaVersion: 2, mediaType: mediaType.ociIndex, manifests: [config] }
const imageConfig = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [layer.digest] } }

function raw(value: unknown): Uint8Array {
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value))
}

function issuesOf(parse: () => unknown): readonly SpecIssue[] {
  try {
    parse()
  } catch (error) {
    if (error instanceof SpecError) return error.issues
    throw error
  }
  throw new Error('it was accepted')
}

/** The pointers of the faults of a manifest. */
function faults(value: unknown, type?: string): readonly string[] {
  return issuesOf(() => parseManifest(raw(value), type)).map(({ pointer }) => pointer)
}

describe('parseManifest', () => {
  it('gives a typed view beside the bytes as they were', () => {
    const bytes = raw(` ${JSON.stringify({ ...manifest, future: { a: [1] } })}\n`)
    const parsed = parseManifest(bytes)
    expect(parsed.raw).toBe(bytes)
    expect(parsed.value.layers[0]?.digest).toBe(layer.digest)
    expect(parsed.value).toMatchObject({ future: { a: [1] } })
    expect(parsed.mediaType).toBe(mediaType.ociManifest)
    expect(successors(parsed)).toEqual([config, layer])
  })

  it('takes Docker schema 2', () => {
    const docker = { ...manifest, mediaType: mediaType.dockerManifest }
    expect(parseManifest(raw(docker)).mediaType).toBe(mediaType.dockerManifest)
    expect(parseManifest(raw(docker), `${mediaType.dockerManifest}; charset=utf-8`).value.schemaVersion).toBe(2)
  })

  it('takes the type from the transport when the manifest has none, and OCI when nobody has', () => {
    const { mediaType: _, ...bare } = manifest
    expect(parseManifest(raw(bare), mediaType.dockerManifest).mediaType).toBe(mediaType.dockerManifest)
    expect(parseManifest(raw(bare)).mediaType).toBe(mediaType.ociManifest)
  })

  it('has no objection to unknown members, media types and algorithms', () => {
    const artifact = {
      ...manifest,
      artifactType: 'application/vnd.future+type',
      config: { ...config, mediaType: 'application/x', surprise: 1 },
      layers: [{ ...layer, mediaType: 'a/b', digest: 'future+x:AAA=' }],
      subject: config,
    }
    expect(successors(parseManifest(raw(artifact)))).toHaveLength(2)
  })

  it('reads null as absent, as Go writes it, and null layers as none', () => {
    const parsed = parseManifest(
      raw({ ...manifest, layers: null, annotations: null, config: { ...config, urls: null } }),
    )
    expect(parsed.value.layers).toEqual([])
    expect('annotations' in parsed.value).toBe(false)
    expect('urls' in parsed.value.config).toBe(false)
  })

  it('lists every fault with a JSON pointer', () => {
    const broken = {
      schemaVersion: 2,
      layers: [{ ...layer, size: -1 }, 7, { ...layer, digest: 'sha256:00' }, { ...layer, mediaType: 'no type' }],
      annotations: { 'a/b~c': 1 },
    }
    expect([...faults(broken)].sort()).toEqual([
      '',
      '/annotations/a~1b~0c',
      '/layers/0/size',
      '/layers/1',
      '/layers/2/digest',
      '/layers/3/mediaType',
    ])
  })

  it('reports twenty faults at most', () => {
    expect(faults({ ...manifest, layers: Array(9000).fill(0) })).toHaveLength(20)
  })

  it.each([
    ['a fraction', 1.5],
    ['text', '5'],
    ['more than a number holds exactly', 2 ** 53],
    ['null', null],
  ])('refuses a size that is %s', (_, size) => {
    expect(faults({ ...manifest, layers: [{ ...layer, size }] }).length).toBeGreaterThan(0)
  })

  it('refuses a manifest that is an index too (CVE-2021-41190)', () => {
    expect(faults({ ...manifest, manifests: [] })).toEqual(['/manifests'])
    expect(faults({ ...index, config, layers: [layer], mediaType: mediaType.ociManifest })).toEqual(['/manifests'])
    expect(faults({ ...manifest, mediaType: mediaType.ociIndex })).toEqual(['/mediaType'])
  })

  it('refuses a type other than the one it was delivered as', () => {
    expect(faults(manifest, mediaType.dockerManifest)).toEqual(['/mediaType'])
    expect(faults(manifest, 'application/json')).toEqual(['/mediaType'])
  })

  it.each([
    [{ schemaVersion: 1, name: 'x', tag: 'y', fsLayers: [], history: [] }, undefined],
    [{ schemaVersion: 1 }, mediaType.dockerSchema1Signed],
    [{ fsLayers: [] }, mediaType.dockerSchema1],
  ])('names Docker schema 1 when it refuses it: %j', (value, type) => {
    expect(() => parseManifest(raw(value), type)).toThrow(/schema 1, which is not supported\nSchema 1 was retired/)
  })

  it('refuses more than 10,000 layers', () => {
    expect(faults({ ...manifest, layers: Array(10_001).fill(layer) })).toContain('/layers')
  })

  it('checks data against size and digest', () => {
    const good = { ...config, data: 'e30=' }
    expect(parseManifest(raw({ ...manifest, config: good })).value.config.data).toBe('e30=')
    expect(embeddedContent(good)).toEqual(Buffer.from('{}'))
    const wrong = [
      { ...config, data: 'e31=' },
      { ...layer, data: 'e30=' },
      { ...config, data: 'e30' },
      { ...config, data: 'e3 0=' },
    ]
    expect(faults({ ...manifest, layers: wrong })).toEqual([0, 1, 2, 3].map((n) => `/layers/${n}/data`))
  })
})

describe('the JSON of a document', () => {
  it.each([
    ['the same name twice', '{"a":1,"a":2}', '/a'],
    ['the same name twice, once escaped', '{"x":[0,{"a":1,"\\u0061":2}]}', '/x/1/a'],
    ['a name twice behind a string with brackets', '{"a":"}]{[,\\"","a":1}', '/a'],
    ['no JSON', '{', ''],
    ['text behind it', '{} x', ''],
    ['a byte order mark', '\uFEFF{}', ''],
    ['nothing', '', ''],
    ['null', 'null', ''],
    ['an array', '[]', ''],
  ])('must not have %s', (_, text, pointer) => {
    expect(issuesOf(() => parseManifest(raw(text)))[0]?.pointer).toBe(pointer)
  })

  it('may use one name in different objects', () => {
    const text = JSON.stringify(manifest).replace('{', '{"x":{"a":{"a":1},"b":[{"a":1},{"a":1}]},"a":0,')
    expect(parseManifest(raw(text)).value.schemaVersion).toBe(2)
  })

  it('must be UTF-8', () => {
    const bytes = Buffer.concat([raw('{"a":"'), Buffer.from([0xc3, 0x28]), raw('"}')])
    expect(issuesOf(() => parseManifest(bytes))[0]?.message).toBe('it is not UTF-8')
  })

  it('is bounded in depth and in values', () => {
    const deep = `{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
    expect(issuesOf(() => parseManifest(raw(deep)))[0]?.message).toMatch(/nested deeper than 64/)
    expect(issuesOf(() => parseManifest(raw(`[${'0,'.repeat(300_000)}0]`)))[0]?.message).toMatch(/250000 values/)
  })

  it.each([
    ['layers that are numbers', `{"schemaVersion":2,"layers":[${'0,'.repeat(249_000)}0]}`],
    ['layers that are empty', `{"schemaVersion":2,"layers":[${'{},'.repeat(249_000)}{}]}`],
    [
      'annotations that are numbers',
      `{"schemaVersion":2,"layers":[${'{"annotations":{"x":0,"y":0}},'.repeat(60_000)}{}]}`,
    ],
    ['one long string', JSON.stringify('\\"'.repeat(1_000_000))],
    ['unclosed brackets', '{"a":['.repeat(600_000)],
  ])('is refused in little time when it is megabytes of %s', (_, text) => {
    const started = performance.now()
    expect(() => parseManifest(raw(text))).toThrow(SpecError)
    // It takes some 50 ms; what is quadratic takes minutes.
    expect(performance.now() - started).toBeLessThan(10_000)
  })

  it('can not reach the prototype', () => {
    const text = JSON.stringify(manifest).replace('{', '{"__proto__":{"polluted":1},')
    expect(parseManifest(raw(text)).value).not.toHaveProperty('polluted')
  })
})

describe('parseIndex', () => {
  it('gives its manifests, in order', () => {
    const platform = { architecture: 'arm64', os: 'linux', variant: 'v8', 'os.version': null }
    const parsed = parseIndex(raw({ ...index, manifests: [{ ...config, platform }, layer] }), mediaType.ociIndex)
    expect(successors(parsed)).toEqual([
      { ...config, platform: { architecture: 'arm64', os: 'linux', variant: 'v8' } },
      layer,
    ])
  })

  it('may be empty', () => {
    expect(parseIndex(raw({ ...index, manifests: null })).value.manifests).toEqual([])
  })

  it.each([
    { ...index, config },
    { ...index, layers: [] },
    { ...index, fsLayers: [] },
    { ...manifest, mediaType: undefined },
  ])('refuses an index that is a manifest too: %#', (value) => {
    expect(issuesOf(() => parseIndex(raw(value))).length).toBeGreaterThan(0)
  })

  it('refuses a platform without an architecture', () => {
    const value = { ...index, manifests: [{ ...config, platform: { os: 'linux' } }] }
    expect(issuesOf(() => parseIndex(raw(value)))).toEqual([
      { pointer: '/manifests/0/platform', message: "must have required property 'architecture'" },
    ])
  })
})

describe('parseManifestOrIndex', () => {
  it('tells by the type, or else by the members', () => {
    const { mediaType: _m, ...bareManifest } = manifest
    const { mediaType: _i, ...bareIndex } = index
    const of = (value: unknown, type?: string): boolean => isIndex(parseManifestOrIndex(raw(value), type))
    expect(of(index)).toBe(true)
    expect(of(manifest)).toBe(false)
    expect(of(bareIndex)).toBe(true)
    expect(of(bareManifest)).toBe(false)
    expect(of(bareIndex, mediaType.dockerIndex)).toBe(true)
  })

  it('is not led astray by members of the other kind', () => {
    const { mediaType: _, ...both } = { ...manifest, ...index }
    expect(() => parseManifestOrIndex(raw(both))).toThrow(SpecError)
    expect(() => parseManifestOrIndex(raw(both), mediaType.ociManifest)).toThrow(SpecError)
    expect(() => parseManifestOrIndex(raw(both), mediaType.ociIndex)).toThrow(SpecError)
  })

  it('refuses a document of another type', () => {
    expect(() => parseManifestOrIndex(raw({ mediaType: 'application/json' }))).toThrow(SpecError)
  })
})

describe('parseImageConfig', () => {
  it('takes what Docker writes, null and all', () => {
    const docker = {
      ...imageConfig,
      container: 'abc',
      created: '2024-01-01T00:00:00Z',
      docker_version: '20.10',
      config: {
        Hostname: '',
        AttachStdin: false,
        Env: ['PATH=/bin'],
        Cmd: ['sh'],
        Entrypoint: null,
        Volumes: null,
        OnBuild: null,
        Labels: null,
        ExposedPorts: { '80/tcp': {}, '81/tcp': null },
        Healthcheck: { Test: ['CMD', 'true'], Interval: 30_000_000_000, Retries: null },
        Shell: ['/bin/sh', '-c'],
      },
      history: [{ created_by: 'x', empty_layer: true, comment: null }],
    }
    const { value } = parseImageConfig(raw(docker))
    expect(value.config?.Entrypoint).toBeUndefined()
    expect(value.config?.Cmd).toEqual(['sh'])
    expect(Object.keys(value.config?.ExposedPorts ?? {})).toEqual(['80/tcp', '81/tcp'])
    expect(value.config?.Healthcheck).toEqual({ Test: ['CMD', 'true'], Interval: 30_000_000_000 })
    expect(value.history).toEqual([{ created_by: 'x', empty_layer: true }])
  })

  it('takes an image without layers', () => {
    const { value } = parseImageConfig(raw({ ...imageConfig, rootfs: { type: 'layers', diff_ids: null } }))
    expect(value.rootfs.diff_ids).toEqual([])
  })

  it.each([
    ['/rootfs/type', { ...imageConfig, rootfs: { type: 'squashfs', diff_ids: [] } }],
    ['/rootfs/diff_ids/0', { ...imageConfig, rootfs: { type: 'layers', diff_ids: ['nonsense'] } }],
    ['/config/Env/0', { ...imageConfig, config: { Env: [1] } }],
    ['/config/Cmd', { ...imageConfig, config: { Cmd: 'sh' } }],
    ['/config/Labels/a', { ...imageConfig, config: { Labels: { a: null } } }],
    ['/os', { ...imageConfig, os: 1 }],
    ['', { ...imageConfig, architecture: null }],
  ])('finds the fault at %j', (pointer, value) => {
    expect(issuesOf(() => parseImageConfig(raw(value)))[0]?.pointer).toBe(pointer)
  })

  it('says what a value must be', () => {
    const value = { ...imageConfig, rootfs: { type: 'squashfs', diff_ids: [] } }
    expect(() => parseImageConfig(raw(value))).toThrow('/rootfs/type: must be "layers"')
  })
})

describe('assertLayerCount', () => {
  it('compares layers and DiffIDs', () => {
    const { value } = parseManifest(raw(manifest))
    expect(() => assertLayerCount(value, [layer.digest])).not.toThrow()
    expect(() => assertLayerCount(value, [])).toThrow(SpecError)
  })
})

describe('parseLayoutHeader', () => {
  it('takes version 1 only', () => {
    expect(parseLayoutHeader(raw('{"imageLayoutVersion":"1.0.0","x":1}')).value.imageLayoutVersion).toBe('1.0.0')
    expect(() => parseLayoutHeader(raw('{"imageLayoutVersion":"2.0.0"}'))).toThrow(SpecError)
  })
})

describe('descriptorOf', () => {
  it('describes bytes', () => {
    expect(descriptorOf('a/b', Buffer.from('x'), { annotations: { a: 'b' } })).toEqual({
      mediaType: 'a/b',
      digest: digestOf(Buffer.from('x')),
      size: 1,
      annotations: { a: 'b' },
    })
  })
})
