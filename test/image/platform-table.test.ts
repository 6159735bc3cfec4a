import { describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../src/errors.ts'
import {
  formatPlatform,
  hostPlatform,
  type Platform,
  parsePlatform,
  platformMatcher,
} from '../../src/image/platform.ts'

/** Architecture and variant as users write them, and as containerd/platforms normalises them (database.go). */
const architectures: Readonly<Record<string, string>> = {
  ...{ '386': '386', i386: '386', I386: '386', amd64: 'amd64', AMD64: 'amd64', x86_64: 'amd64', 'x86-64': 'amd64' },
  ...{ X86_64: 'amd64', 'amd64/v1': 'amd64', 'amd64/V1': 'amd64', 'amd64/v2': 'amd64/v2', 'amd64/v3': 'amd64/v3' },
  ...{
    'x86_64/v4': 'amd64/v4',
    'x86-64/v1': 'amd64',
    'i386/x': '386',
    arm64: 'arm64',
    ARM64: 'arm64',
    aarch64: 'arm64',
  },
  ...{
    Aarch64: 'arm64',
    'arm64/v8': 'arm64/v8',
    'arm64/8': 'arm64/v8',
    'aarch64/8': 'arm64/v8',
    'aarch64/V8': 'arm64/v8',
  },
  ...{ 'arm64/v8.1': 'arm64/v8.1', 'arm64/v8.5': 'arm64/v8.5', 'arm64/v9': 'arm64/v9', 'arm64/v9.2': 'arm64/v9.2' },
  ...{ arm: 'arm', ARM: 'arm', 'arm/7': 'arm/v7', 'arm/v7': 'arm/v7', 'arm/6': 'arm/v6', 'arm/v6': 'arm/v6' },
  ...{ 'arm/5': 'arm/v5', 'arm/v5': 'arm/v5', 'arm/8': 'arm/v8', 'arm/v8': 'arm/v8', 'arm/V6': 'arm/v6' },
  ...{ armhf: 'arm', armel: 'arm/v6', 'armhf/v6': 'arm/v7', 'armel/v7': 'arm/v6', ARMHF: 'arm', s390x: 's390x' },
  ...{ ppc64le: 'ppc64le', PPC64LE: 'ppc64le', 'ppc64le/power9': 'ppc64le/power9', riscv64: 'riscv64' },
  ...{
    'riscv64/rva22u64': 'riscv64/rva22u64',
    mips64le: 'mips64le',
    loong64: 'loong64',
    wasm: 'wasm',
    'x.y-z_0': 'x.y-z_0',
  },
}

const systems: Readonly<Record<string, string>> = {
  ...{ linux: 'linux', Linux: 'linux', LINUX: 'linux', windows: 'windows', darwin: 'darwin', macos: 'darwin' },
  ...{ MacOS: 'darwin', freebsd: 'freebsd', 'any_os-0': 'any_os-0' },
  ...{ 'windows(10.0.17763)': 'windows(10.0.17763)', 'windows(10.0.17763+win32k)': 'windows(10.0.17763+win32k)' },
  ...{
    'linux(+b+a)': 'linux(+a+b)',
    'linux()': 'linux',
    'windows(1%2B2)': 'windows(1%2B2)',
    'linux(%28)': 'linux(%28)',
  },
}

/** Alone, known systems and architectures stand for the platform with the host's other half. */
const knownSystems =
  'aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos'
const knownArchitectures =
  '386 amd64 amd64p32 armbe arm64 arm64be ppc64 ppc64le loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc riscv riscv64 s390 s390x sparc sparc64 wasm'

const refused: readonly string[] = [
  ...[
    '',
    '/',
    '//',
    'linux/',
    '/amd64',
    'linux//',
    'linux//v8',
    'linux/arm/',
    'linux/arm/v7/',
    'linux/arm/v7/x',
    '*',
    '*/*',
  ],
  ...[
    'linux/*',
    '*/amd64',
    'linux/amd64/*',
    'lin ux/amd64',
    'linux/amd 64',
    ' linux/amd64',
    'linux/amd64 ',
    'linux\n/amd64',
  ],
  ...['linux/amd64\n', 'lin.ux/amd64', 'linüx/amd64', 'linux/amd64/ü', 'linux+a/amd64', 'linux(/amd64', 'linux)/amd64'],
  ...['linux(a/amd64', 'linux(a)b/amd64', 'linux(a)(b)/amd64', 'linux(+)/amd64', 'linux(a+)/amd64', 'linux(++a)/amd64'],
  ...[
    '(1)/amd64',
    'linux(a b)/amd64',
    'linux(1%zz)/amd64',
    'linux(+%)/amd64',
    'unknown',
    'no-such-thing',
    'v8',
    'wasip1',
    'x',
  ],
  ...['linux/a(b)', 'linux/a+b', 'linux/a%b', 'linux/a,b', 'linux:amd64', 'linux\\amd64', 'linux|amd64', 'linux,amd64'],
]

/** What runs where, best first, as containerd orders it (compare.go, `Only`). */
const vectors: Readonly<Record<string, readonly string[]>> = {
  amd64: ['amd64', '386'],
  'amd64/v2': ['amd64/v2', 'amd64', '386'],
  'amd64/v3': ['amd64/v3', 'amd64/v2', 'amd64', '386'],
  'amd64/v4': ['amd64/v4', 'amd64/v3', 'amd64/v2', 'amd64', '386'],
  '386': ['386'],
  arm64: ['arm64', 'arm/v8', 'arm/v7', 'arm/v6', 'arm/v5'],
  'arm64/v8.1': ['arm64/v8.1', 'arm64', 'arm/v8', 'arm/v7', 'arm/v6', 'arm/v5'],
  'arm64/v8.2': ['arm64/v8.2', 'arm64/v8.1', 'arm64', 'arm/v8', 'arm/v7', 'arm/v6', 'arm/v5'],
  'arm64/v9.1': [
    ...['arm64/v9.1', 'arm64/v9', 'arm64/v8.6', 'arm64/v8.5', 'arm64/v8.4', 'arm64/v8.3', 'arm64/v8.2', 'arm64/v8.1'],
    ...['arm64', 'arm/v8', 'arm/v7', 'arm/v6', 'arm/v5'],
  ],
  arm: ['arm', 'arm/v6', 'arm/v5'],
  'arm/v8': ['arm/v8', 'arm/v7', 'arm/v6', 'arm/v5'],
  'arm/v7': ['arm/v7', 'arm/v6', 'arm/v5'],
  'arm/v6': ['arm/v6', 'arm/v5'],
  'arm/v5': ['arm/v5'],
  s390x: ['s390x'],
  ppc64le: ['ppc64le'],
  'ppc64le/power9': ['ppc64le/power9'],
  riscv64: ['riscv64'],
}

function split(text: string): Platform {
  const [architecture = '', variant] = text.split('/')
  return { os: 'linux', architecture, ...(variant === undefined ? {} : { variant }) }
}

function verdict(text: string): string | undefined {
  try {
    return formatPlatform(parsePlatform(text))
  } catch (error) {
    if (error instanceof InvalidArgumentError) return undefined
    throw error
  }
}

describe('the table of platforms', () => {
  const host = hostPlatform()
  const rows = new Map<string, string | undefined>(refused.map((text) => [text, undefined]))
  for (const [os, system] of Object.entries(systems)) {
    for (const [text, architecture] of Object.entries(architectures))
      rows.set(`${os}/${text}`, `${system}/${architecture}`)
  }
  for (const os of knownSystems.split(' ')) rows.set(os, formatPlatform({ ...host, os }))
  for (const architecture of knownArchitectures.split(' ')) rows.set(architecture, `${host.os}/${architecture}`)

  it('has more than 500 strings', () => {
    expect(rows.size).toBeGreaterThan(500)
  })

  it('is what the parser says', () => {
    const wrong = [...rows].filter(([text, expected]) => verdict(text) !== expected)
    expect(wrong.map(([text, expected]) => ({ text, expected, actual: verdict(text) }))).toEqual([])
  })

  it('says of every pair of platforms whether the one runs the other, and what it runs best', () => {
    const all = [...new Set(Object.values(vectors).flat())]
    const wrong: string[] = []
    for (const [wanted, accepted] of Object.entries(vectors)) {
      const { rank, matches } = platformMatcher(split(wanted))
      for (const offered of all) {
        const expected =
          accepted.includes(offered) ||
          (offered === 'arm' && accepted.includes('arm/v7')) ||
          (offered === 'arm/v7' && accepted.includes('arm'))
        if (matches(split(offered)) !== expected) wrong.push(`${wanted} and ${offered}`)
      }
      const ranks = accepted.map((offered) => rank(split(offered)))
      if (ranks.some((each, i) => i > 0 && each <= (ranks[i - 1] ?? 0))) wrong.push(`the order of ${wanted}`)
    }
    expect(wrong).toEqual([])
  })
})
