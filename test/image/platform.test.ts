import { describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../src/errors.ts'
import type { Descriptor } from '../../src/image/descriptor.ts'
import { mediaType } from '../../src/image/media-type.ts'
import {
  formatPlatform,
  hostPlatform,
  type Platform,
  parsePlatform,
  platformMatcher,
  selectManifest,
} from '../../src/image/platform.ts'

const host = hostPlatform()

function entry(platform: string | undefined, index: number, extra: Partial<Descriptor> = {}): Descriptor {
  return {
    mediaType: mediaType.ociManifest,
    digest: `sha256:${String(index).padStart(64, '0')}`,
    size: 1,
    ...(platform === undefined ? {} : { platform: split(platform) }),
    ...extra,
  }
}

/** Not parsePlatform: what stands in an index is not normalised. */
function split(text: string): Platform {
  const [os = '', architecture = '', variant] = text.split('/')
  return { os, architecture, ...(variant === undefined ? {} : { variant }) }
}

describe('parsePlatform', () => {
  it.each([
    ['linux/amd64', 'linux/amd64'],
    ['Linux/x86_64', 'linux/amd64'],
    ['linux/x86-64', 'linux/amd64'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['linux/i386', 'linux/386'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64/v8'],
    ['linux/arm64/8', 'linux/arm64/v8'],
    ['linux/arm64/v8.0', 'linux/arm64/v8'],
    ['linux/arm64/9.0', 'linux/arm64/v9'],
    ['linux/arm64/v8.5', 'linux/arm64/v8.5'],
    ['linux/arm', 'linux/arm'],
    ['linux/arm/v7', 'linux/arm/v7'],
    ['linux/arm/7', 'linux/arm/v7'],
    ['linux/arm/6', 'linux/arm/v6'],
    ['linux/armhf', 'linux/arm'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/s390x', 'linux/s390x'],
    ['linux/ppc64le/power9', 'linux/ppc64le/power9'],
    ['linux/unheard-of', 'linux/unheard-of'],
    ['macos/arm64', 'darwin/arm64'],
    ['windows(10.0.17763)/amd64', 'windows(10.0.17763)/amd64'],
    ['windows(10.0.17763+win32k)/amd64', 'windows(10.0.17763+win32k)/amd64'],
    ['windows(10.0.17763%2Bbuild.42)/amd64', 'windows(10.0.17763%2Bbuild.42)/amd64'],
    ['linux(+gpu+simd)/amd64', 'linux(+gpu+simd)/amd64'],
    ['linux(+unsorted+erofs)/amd64', 'linux(+erofs+unsorted)/amd64'],
    ['windows()/amd64', 'windows/amd64'],
    ['linux', formatPlatform({ ...host, os: 'linux' })],
    ['arm64', `${host.os}/arm64`],
    ['Aarch64', `${host.os}/arm64`],
    ['armhf', `${host.os}/arm`],
    ['armel', `${host.os}/arm/v6`],
    ['x86_64', `${host.os}/amd64`],
  ])('reads %s as %s', (text, expected) => {
    const platform = parsePlatform(text)
    expect(formatPlatform(platform)).toBe(expected)
    expect(formatPlatform(parsePlatform(formatPlatform(platform)))).toBe(expected)
  })

  it.each([
    '',
    '/',
    'linux/',
    '/amd64',
    'linux/amd64/v1/x',
    '*',
    'linux/*',
    'no-such-thing',
    'li nux/amd64',
    'linux//v8',
  ])('refuses %j', (text) => {
    expect(() => parsePlatform(text)).toThrow(InvalidArgumentError)
  })

  it('refuses a percent sign that begins no escape', () => {
    expect(() => parsePlatform('windows(1%zz)/amd64')).toThrow(InvalidArgumentError)
  })
})

describe('platformMatcher', () => {
  /** Wanted -> what it accepts, best first. */
  it.each([
    ['linux/amd64', ['linux/amd64', 'linux/386']],
    ['linux/amd64/v3', ['linux/amd64/v3', 'linux/amd64/v2', 'linux/amd64', 'linux/386']],
    ['linux/386', ['linux/386']],
    ['linux/arm64', ['linux/arm64', 'linux/arm/v8', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5']],
    ['linux/arm64/v8.2', ['linux/arm64/v8.2', 'linux/arm64/v8.1', 'linux/arm64', 'linux/arm/v8', 'linux/arm/v7']],
    [
      'linux/arm64/v9.1',
      ['linux/arm64/v9.1', 'linux/arm64/v9', 'linux/arm64/v8.6', 'linux/arm64/v8.5', 'linux/arm64/v8', 'linux/arm/v8'],
    ],
    ['linux/arm64/v9.6', ['linux/arm64/v9', 'linux/arm64/v8.9']],
    ['linux/arm', ['linux/arm', 'linux/arm/v6', 'linux/arm/v5']],
    ['linux/arm/v8', ['linux/arm/v8', 'linux/arm/v7', 'linux/arm/v6', 'linux/arm/v5']],
    ['linux/arm/v6', ['linux/arm/v6', 'linux/arm/v5']],
    ['linux/arm/v4', ['linux/arm/v4']],
    ['linux/riscv64', ['linux/riscv64']],
    ['linux/ppc64le/power9', ['linux/ppc64le/power9']],
  ])('for %s takes %j, in this order', (wanted, accepted) => {
    const { rank } = platformMatcher(parsePlatform(wanted))
    const ranks = accepted.map((text) => rank(split(text)))
    expect(ranks).toEqual([...ranks].sort((a, b) => a - b))
    expect(new Set(ranks).size).toBe(ranks.length)
    expect(ranks.every((r) => r < Infinity)).toBe(true)
  })

  it.each([
    ['linux/amd64', 'linux/amd64/v2'],
    ['linux/amd64', 'linux/arm64'],
    ['linux/amd64', 'windows/amd64'],
    ['linux/amd64/v2', 'linux/amd64/v3'],
    ['linux/386', 'linux/amd64'],
    ['linux/arm64', 'linux/arm64/v8.1'],
    ['linux/arm64/v9', 'linux/arm64/v8.6'],
    ['linux/arm/v6', 'linux/arm/v7'],
    ['linux/arm/v6', 'linux/arm'],
    ['linux/arm', 'linux/arm64'],
    ['linux/amd64', 'unknown/unknown'],
  ])('for %s refuses %s', (wanted, offered) => {
    expect(platformMatcher(parsePlatform(wanted)).matches(split(offered))).toBe(false)
  })

  it.each([
    ['linux/arm64', 'linux/aarch64'],
    ['linux/arm64', 'linux/aarch64/v8'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm', 'linux/armhf'],
    ['linux/arm', 'linux/arm/7'],
    ['linux/arm/v6', 'linux/armel'],
    ['linux/amd64', 'Linux/X86_64'],
  ])('takes %s and %s for the same', (wanted, offered) => {
    expect(platformMatcher(parsePlatform(wanted)).rank(split(offered))).toBe(0)
  })

  it('asks for every feature that the image needs, and prefers the image that uses most', () => {
    const { rank } = platformMatcher({ os: 'linux', architecture: 'amd64', 'os.features': ['gpu', 'simd'] })
    const image = (...features: string[]): Platform => ({ os: 'linux', architecture: 'amd64', 'os.features': features })
    expect(rank(image('tpu'))).toBe(Infinity)
    expect(rank(image('gpu', 'simd'))).toBeLessThan(rank(image('gpu')))
    expect(rank(image('gpu'))).toBeLessThan(rank(image()))
  })

  it.each([
    ['10.0.17763.1', '10.0.17763.900', true],
    ['10.0.17763.1', '10.0.20348.1', false],
    ['10.0.20348.1', '10.0.17763.1', false],
    ['10.0.20348.1', '10.0.20348.2', true],
    ['10.0.26100.1', '10.0.20348.1', true],
    ['10.0.26101', '10.0.20348.1', false],
    ['10.0.26101', '10.0.26100', true],
    ['10.0.20348', '10.0.26100', false],
    ['10.0.20348', '11.0.20348', false],
    ['', '10.0.20348', true],
    ['10.0.20348', '', true],
  ])('lets Windows %s run an image for %s: %s', (wanted, offered, expected) => {
    const windows = (version: string): Platform => ({ os: 'windows', architecture: 'amd64', 'os.version': version })
    expect(platformMatcher(windows(wanted)).matches(windows(offered))).toBe(expected)
  })

  it('does not mind win32k', () => {
    const image: Platform = { os: 'windows', architecture: 'amd64', 'os.features': ['win32k'] }
    expect(platformMatcher({ os: 'windows', architecture: 'amd64' }).matches(image)).toBe(true)
  })
})

describe('selectManifest', () => {
  const select = (wanted: string, ...platforms: (string | undefined)[]): number | undefined => {
    const entries = platforms.map((platform, index) => entry(platform, index))
    const selected = selectManifest(entries, parsePlatform(wanted))
    return selected && entries.indexOf(selected)
  }

  it('takes the first of the best, wherever it stands', () => {
    expect(select('linux/amd64', 'linux/arm64', 'linux/386', 'linux/amd64', 'linux/amd64')).toBe(2)
    expect(select('linux/amd64/v3', 'linux/amd64', 'linux/amd64/v2', 'linux/amd64/v4')).toBe(1)
    expect(select('linux/arm64', 'linux/arm/v6', 'linux/arm/v7')).toBe(1)
  })

  it('finds nothing where nothing matches', () => {
    expect(select('linux/s390x', 'linux/amd64', 'unknown/unknown')).toBeUndefined()
    expect(select('linux/s390x')).toBeUndefined()
  })

  it('takes an entry without a platform only when no other matches', () => {
    expect(select('linux/amd64', undefined, 'linux/386')).toBe(1)
    expect(select('linux/amd64', 'linux/arm64', undefined, undefined)).toBe(1)
  })

  it('passes over what is neither manifest nor index', () => {
    const odd = entry('linux/amd64', 0, { mediaType: 'application/xml' })
    const index = entry(undefined, 1, { mediaType: mediaType.ociIndex })
    expect(selectManifest([odd, index], parsePlatform('linux/amd64'))).toBe(index)
  })
})

describe('hostPlatform', () => {
  it('is a Linux platform by the names of Go', () => {
    expect(host.os).toBe('linux')
    if (process.arch === 'x64') expect(host.architecture).toBe('amd64')
  })
})
