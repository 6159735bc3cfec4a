import type { Descriptor } from './descriptor.ts'
import { isIndexType, isManifestType } from './media-type.ts'
import type { Platform } from './platform.ts'
import { normalizePlatform } from './platform-normalize.ts'
import { windowsRuns } from './windows-version.ts'

/** Says which platforms an image may be for to run on the wanted one. */
export interface PlatformMatcher {
  /** Whether an image for `platform` may run. */
  matches(platform: Platform): boolean
  /** How good the match is: 0 is the wanted platform itself, more is worse, Infinity is no match. */
  rank(platform: Platform): number
}

/** Weight of one step down the list of architectures against a missing optional feature. */
const step = 1000

/**
 * A matcher for the wanted platform and those whose images it runs too, best first, as containerd
 * orders them: `amd64/v3` takes v3, v2, v1, then 386; `arm64` takes its own lower variants, then 32-bit
 * `arm` v8 to v5; `arm/v7` takes v7, v6, v5.
 */
export function platformMatcher(wanted: Platform): PlatformMatcher {
  const target = normalizePlatform(wanted)
  const accepted = acceptedArchitectures(target)
  const rank = (platform: Platform): number => {
    const offered = normalizePlatform(platform)
    if (offered.os !== target.os || !runsVersion(target, offered) || !hasFeatures(target, offered)) return Infinity
    const index = accepted.indexOf(key(offered.architecture, offered.variant))
    return index < 0 ? Infinity : index * step + unusedFeatures(target, offered)
  }
  return { matches: (platform) => rank(platform) < Infinity, rank }
}

/**
 * The entry of an index to use on the wanted platform: the first of those that match best. An entry
 * that names no platform is taken when no other matches. Entries that are neither manifests nor
 * indexes are passed over.
 */
export function selectManifest(descriptors: readonly Descriptor[], wanted: Platform): Descriptor | undefined {
  const { rank } = platformMatcher(wanted)
  let best: Descriptor | undefined
  let bestRank = Infinity
  for (const descriptor of descriptors) {
    if (!isManifestType(descriptor.mediaType) && !isIndexType(descriptor.mediaType)) continue
    const current = descriptor.platform === undefined ? Number.MAX_SAFE_INTEGER : rank(descriptor.platform)
    if (current < bestRank) {
      best = descriptor
      bestRank = current
    }
  }
  return best
}

function key(architecture: string, variant: string | undefined): string {
  return variant === undefined ? architecture : `${architecture}/${variant}`
}

/** Keys of the normalised architectures whose programs run on `target`, best first. */
function acceptedArchitectures({ architecture, variant }: Platform): readonly string[] {
  switch (architecture) {
    case 'amd64':
      return [...(variant === undefined ? [] : lowerVariants('amd64', variant, 2)), 'amd64', '386']
    case 'arm':
      return lowerVariants('arm', variant ?? 'v7', 5)
    case 'arm64':
      return [...arm64Variants(variant ?? 'v8'), ...lowerVariants('arm', 'v8', 5)]
    default:
      return [key(architecture, variant)]
  }
}

function lowerVariants(architecture: string, variant: string, lowest: number): readonly string[] {
  const highest = Number(/^v(\d{1,2})$/.exec(variant)?.[1] ?? 0)
  if (highest < lowest) return [key(architecture, variant)]
  const keys: string[] = []
  for (let version = highest; version >= lowest; version--) keys.push(`${architecture}/v${version}`)
  return keys
}

/** Armv9.x has all of Armv8.(x+5) (Arm Architecture Reference Manual), so v9.2 runs v8.7 and below. */
function arm64Variants(variant: string): readonly string[] {
  const [, major, minor = '0'] = /^v([89])(?:\.(\d))?$/.exec(variant) ?? []
  if (major === undefined) return [key('arm64', variant)]
  const keys = major === '9' ? minorVariants(9, Number(minor)) : []
  return [...keys, ...minorVariants(8, major === '9' ? Math.min(Number(minor) + 5, 9) : Number(minor)), 'arm64']
}

/** `v8.2`, `v8.1` for 8 and 2; the `.0` of 9 is written `v9`, that of 8 not at all. */
function minorVariants(major: number, minor: number): readonly string[] {
  const keys: string[] = []
  for (let m = minor; m > 0; m--) keys.push(`arm64/v${major}.${m}`)
  return major === 9 ? [...keys, 'arm64/v9'] : keys
}

function runsVersion(target: Platform, offered: Platform): boolean {
  if (target.os !== 'windows') return true
  return windowsRuns(target['os.version'] ?? '', offered['os.version'] ?? '')
}

/** What the image needs must be there. `win32k` is left out: every Windows host but Nano Server has it. */
function hasFeatures(target: Platform, offered: Platform): boolean {
  const present = new Set(target['os.features'])
  return neededFeatures(offered).every((feature) => present.has(feature))
}

function unusedFeatures(target: Platform, offered: Platform): number {
  return Math.max(0, new Set(target['os.features']).size - new Set(neededFeatures(offered)).size)
}

function neededFeatures(platform: Platform): readonly string[] {
  const features = platform['os.features'] ?? []
  return platform.os === 'windows' ? features.filter((feature) => feature !== 'win32k') : features
}
