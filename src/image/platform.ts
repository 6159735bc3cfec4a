import { endianness } from 'node:os'
import { InvalidArgumentError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { normalizePlatform } from './platform-normalize.ts'

export { type PlatformMatcher, platformMatcher, selectManifest } from './platform-match.ts'
export { normalizePlatform }

/** A platform as an index names it (image-spec, image-index.md). */
export interface Platform {
  /** CPU architecture, a GOARCH value: `amd64`, `arm64`, … */
  readonly architecture: string
  /** Operating system, a GOOS value. */
  readonly os: string
  readonly 'os.version'?: string
  readonly 'os.features'?: readonly string[]
  /** CPU variant: `v8`, `v7`, `v3`, … */
  readonly variant?: string
}

const operatingSystems: ReadonlySet<string> = new Set(
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'.split(
    ' ',
  ),
)

const architectures: ReadonlySet<string> = new Set(
  '386 amd64 amd64p32 arm arm64 armbe arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm'.split(
    ' ',
  ),
)

/** Architectures as Node names them, where GOARCH has another name. */
const nodeArchitectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', mipsel: 'mipsle' }

/**
 * Parses a platform as containerd and Docker write it: `linux/arm64/v8`, `linux/amd64`,
 * `windows(10.0.17763)/amd64`, or only one of operating system and architecture, when the other is the
 * host's. The result is normalised: `linux/aarch64` is `linux/arm64`.
 * @throws InvalidArgumentError
 */
export function parsePlatform(text: string): Platform {
  const parts = text.split('/', 4)
  const [, os = '', version = '', features = ''] =
    /^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$/.exec(parts[0] ?? '') ?? []
  const [, architecture, variant] = parts
  if (os === '' || parts.length > 3 || parts.slice(1).some((part) => !/^[A-Za-z0-9_.-]+$/.test(part))) {
    throw invalidPlatform(text, 'expected os/architecture[/variant]')
  }
  const options = {
    ...(version === '' ? {} : { 'os.version': decodeOption(text, version) }),
    ...(features === ''
      ? {}
      : {
          'os.features': features
            .slice(1)
            .split('+')
            .map((f) => decodeOption(text, f)),
        }),
  }
  if (architecture !== undefined) {
    const parsed = normalizePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }), ...options })
    // A variant that was asked for by name is shown, though it is the default.
    if (variant !== undefined && parsed.architecture === 'arm64' && parsed.variant === undefined) {
      return { ...parsed, variant: 'v8' }
    }
    return variant === undefined ? withoutDefaultVariant(parsed) : parsed
  }
  const host = hostPlatform()
  const asSystem = normalizePlatform({ ...host, os, ...options })
  if (operatingSystems.has(asSystem.os)) return withoutDefaultVariant(asSystem)
  const asArchitecture = normalizePlatform({ os: host.os, architecture: os })
  if (architectures.has(asArchitecture.architecture) && parts[0] === os) return withoutDefaultVariant(asArchitecture)
  throw invalidPlatform(text, 'it is neither an operating system nor an architecture')
}

/** The platform as text, `linux/arm64/v8`; with a version `windows(10.0.17763)/amd64`. */
export function formatPlatform(platform: Platform): string {
  const features = [...new Set(platform['os.features'] ?? [])].sort().filter((f) => f !== '')
  const options = encodeOption(platform['os.version'] ?? '') + features.map((f) => `+${encodeOption(f)}`).join('')
  const os = options === '' ? platform.os : `${platform.os}(${options})`
  return [os, platform.architecture, platform.variant ?? ''].filter((part) => part !== '').join('/')
}

/**
 * The platform whose images this machine runs best. The operating system is always `linux`: images of
 * others can't be run here, and on macOS and Windows it is Linux images that are wanted.
 */
export function hostPlatform(): Platform {
  const { arch } = process
  if (arch === 'arm') {
    const variables: Readonly<Record<string, unknown>> = { ...process.config.variables }
    return normalizePlatform({ os: 'linux', architecture: 'arm', variant: `v${String(variables.arm_version ?? 7)}` })
  }
  if (arch === 'ppc64') return { os: 'linux', architecture: endianness() === 'LE' ? 'ppc64le' : 'ppc64' }
  return { os: 'linux', architecture: nodeArchitectures[arch] ?? arch }
}

function withoutDefaultVariant(platform: Platform): Platform {
  if (platform.architecture !== 'arm' || platform.variant !== 'v7') return platform
  const { variant: _, ...rest } = platform
  return rest
}

function invalidPlatform(text: string, reason: string): InvalidArgumentError {
  return new InvalidArgumentError(`invalid platform ${quote(text)}: ${reason}`, { subject: text })
}

function encodeOption(value: string): string {
  return value.replace(/[%+()/]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

function decodeOption(text: string, value: string): string {
  try {
    return decodeURIComponent(value)
  } catch (cause) {
    throw new InvalidArgumentError(`invalid platform ${quote(text)}: a percent sign must begin an escape`, {
      subject: text,
      cause,
    })
  }
}
