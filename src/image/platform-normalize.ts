import type { Platform } from './platform.ts'

/**
 * The platform by its canonical names, as containerd has them: `aarch64` is `arm64`, `x86_64` is
 * `amd64`, `armhf` is `arm/v7`; the default variants `arm64/v8` and `amd64/v1` lose the variant,
 * `arm` without one is `v7`.
 */
export function normalizePlatform(platform: Platform): Platform {
  const { os, architecture, variant, ...rest } = platform
  const [canonical, canonicalVariant] = normalizeArchitecture(architecture.toLowerCase(), (variant ?? '').toLowerCase())
  const system = os.toLowerCase()
  return {
    os: system === 'macos' ? 'darwin' : system,
    architecture: canonical,
    ...(canonicalVariant === '' ? {} : { variant: canonicalVariant }),
    ...rest,
  }
}

function normalizeArchitecture(architecture: string, variant: string): readonly [string, string] {
  switch (architecture) {
    case 'i386':
      return ['386', '']
    case 'x86_64':
    case 'x86-64':
    case 'amd64':
      return ['amd64', variant === 'v1' ? '' : variant]
    case 'aarch64':
    case 'arm64':
      if (/^v?8$|^v8\.0$/.test(variant)) return ['arm64', '']
      return ['arm64', /^v?9(\.0)?$/.test(variant) ? 'v9' : variant]
    case 'armhf':
      return ['arm', 'v7']
    case 'armel':
      return ['arm', 'v6']
    case 'arm':
      if (variant === '') return ['arm', 'v7']
      return ['arm', /^[5-8]$/.test(variant) ? `v${variant}` : variant]
    default:
      return [architecture, variant]
  }
}
