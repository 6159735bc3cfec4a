import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

/**
 * What each module of src/ may import. A module is a folder, or one of the files `errors` and `index`.
 * The order is that of the house: nothing here may name a module below its own line.
 */
const below: Readonly<Record<string, readonly string[]>> = {
  internal: ['errors'],
  errors: ['internal'],
  image: ['internal', 'errors'],
  content: ['internal', 'errors', 'image'],
  linux: ['internal', 'errors'],
  distribution: ['internal', 'errors', 'image', 'content'],
  registry: ['internal', 'errors', 'image', 'content'],
  layer: ['internal', 'errors', 'image', 'content', 'linux'],
  store: ['internal', 'errors', 'image', 'content', 'linux', 'layer'],
  network: ['internal', 'errors', 'linux'],
  bundle: ['internal', 'errors', 'image'],
  runtime: ['internal', 'errors', 'linux', 'type bundle'],
  build: 'internal errors image content linux distribution layer store network bundle runtime'.split(' '),
  engine: 'internal errors image content linux distribution layer store network bundle runtime build'.split(' '),
  index: 'errors image content distribution registry layer store network bundle runtime build engine internal'.split(
    ' ',
  ),
  cli: ['index', 'image', 'content', 'distribution', 'bundle', 'runtime', 'store', 'registry', 'errors'],
}

/**
 * The packages that may be imported at all, and the one place of each: a file, or a folder with one such
 * file. ajv compiles the validators at build time, so users do not install it.
 */
const packages: Readonly<Record<string, string>> = {
  'ffi-rs': 'src/linux/libc.ts',
  'node-fetch': 'src/distribution/',
  'tar-stream': 'src/',
  ajv: 'scripts/build-validators.ts',
  semver: 'src/',
}

interface Import {
  readonly specifier: string
  /** Nothing of it is left after compilation. */
  readonly isType: boolean
}

interface Source {
  /** Relative to the project, with slashes. */
  readonly path: string
  readonly text: string
  readonly imports: readonly Import[]
}

const statement = /^(?:import|export)\s+(type\s+)?(?:([^'"`;=()]*?)\s*from\s+)?'([^']+)'/gm
const call = /\b(?:import|require)\(\s*'([^']+)'\s*\)/g

function importsOf(text: string): Import[] {
  const found: Import[] = []
  for (const [, type, names, specifier = ''] of text.matchAll(statement)) {
    const listed = /^\{([^}]*)\}$/.exec(names?.trim() ?? '')?.[1]?.split(',') ?? []
    const parts = listed.map((name) => name.trim()).filter((name) => name !== '')
    found.push({
      specifier,
      isType: type !== undefined || (parts.length > 0 && parts.every((n) => n.startsWith('type '))),
    })
  }
  for (const [, specifier = ''] of text.matchAll(call)) found.push({ specifier, isType: false })
  return found
}

function filesBelow(folder: string): string[] {
  if (!existsSync(join(root, folder))) return []
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(join(root, path)).isFile())
}

function sourcesBelow(folder: string): Source[] {
  return filesBelow(folder)
    .filter((path) => /\.[cm]?[jt]s$/.test(path))
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8')
      return { path, text, imports: importsOf(text) }
    })
}

function isGenerated(path: string): boolean {
  return path.includes('.generated.')
}

/** `src/image/digest.ts` is part of `image`, `src/errors.ts` is `errors`. */
function moduleOf(path: string): string {
  return (path.split('/')[1] ?? '').replace(/\.ts$/, '')
}

/** The file that a relative import leads to, relative to the project. */
function target(source: Source, specifier: string): string {
  return relative(root, join(root, dirname(source.path), specifier))
}

const sources = sourcesBelow('src')
const written = sources.filter((source) => !isGenerated(source.path))
const tests = sourcesBelow('test')

describe('imports', () => {
  it('point down only', () => {
    const wrong: string[] = []
    for (const source of sources) {
      const own = moduleOf(source.path)
      for (const { specifier, isType } of source.imports) {
        if (!specifier.startsWith('.')) continue
        const other = moduleOf(target(source, specifier))
        const allowed = below[own] ?? []
        if (other === own || allowed.includes(other) || (isType && allowed.includes(`type ${other}`))) continue
        wrong.push(`${source.path}: ${own} imports ${other} (${specifier})`)
      }
    }
    expect(wrong).toEqual([])
  })

  it('of the command line go through the public entry points', () => {
    const wrong = written
      .filter((source) => moduleOf(source.path) === 'cli')
      .flatMap((source) =>
        source.imports
          .filter(({ specifier }) => specifier.startsWith('.'))
          .map(({ specifier }) => target(source, specifier))
          .filter((path) => moduleOf(path) !== 'cli' && !/^src\/(\w+\/)?index\.ts$/.test(path))
          .map((path) => `${source.path} imports ${path}`),
      )
    expect(wrong).toEqual([])
  })

  it('have the ending .ts when they are relative, and node: when they are of Node', () => {
    const wrong = written.flatMap((source) =>
      source.imports
        .filter(({ specifier }) => !/^(\.{1,2}\/.*\.(ts|js|json)|node:.*)$/.test(specifier))
        .filter(({ specifier }) => !(packageName(specifier) in packages))
        .map(({ specifier }) => `${source.path} imports ${specifier}`),
    )
    expect(wrong).toEqual([])
  })

  it.each(Object.entries(packages))('of %s are in one file, in %s', (name, place) => {
    const users = [...sources, ...sourcesBelow('scripts')].filter((source) =>
      source.imports.some((i) => packageName(i.specifier) === name),
    )
    expect(users.map((source) => source.path).filter((path) => !path.startsWith(place))).toEqual([])
    expect(users.length, users.map((source) => source.path).join(', ')).toBeLessThanOrEqual(1)
  })

  it('of the module itself, import.meta, are for createRequire only: in the CommonJS build it is a path', () => {
    const uses = written.flatMap(({ text }) => text.match(/.*import\.meta.*/g) ?? [])
    expect(uses.filter((line) => !line.includes('createRequire(import.meta.url)'))).toEqual([])
  })

  it('name modules that the rules know', () => {
    expect([...new Set(sources.map((source) => moduleOf(source.path)))].filter((name) => !(name in below))).toEqual([])
  })
})

function packageName(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
}

describe('files', () => {
  it('have names in kebab-case', () => {
    const named = [
      ...sources,
      ...tests,
      ...sourcesBelow('scripts'),
      ...sourcesBelow('bench'),
      ...sourcesBelow('examples'),
    ]
    const kebab = /^[a-z0-9]+(-[a-z0-9]+)*(\.(generated|test|long\.test|timing\.test|d))?\.(ts|mjs|cjs|js)$/
    expect(named.map((source) => source.path).filter((path) => !kebab.test(path.split('/').at(-1) ?? ''))).toEqual([])
  })

  it('have at most 400 lines', () => {
    const long = [...written, ...tests].map(({ path, text }) => `${path}: ${text.split('\n').length - 1}`)
    expect(long.filter((line) => Number(line.split(': ')[1]) > 400)).toEqual([])
  })

  it('of a test stand where the module stands in src', () => {
    const free = ['package', 'examples', 'integration', 'security', 'support', 'fixtures']
    const strays = tests
      .map((source) => dirname(source.path).replace(/^test\/?/, ''))
      .filter((folder) => !folder.split('/').some((part) => free.includes(part)))
      .filter((folder) => !existsSync(join(root, 'src', folder)))
    expect([...new Set(strays)]).toEqual([])
  })

  it('of every module with code have tests', () => {
    const modules = new Set(written.filter((s) => !/\/index\.ts$/.test(s.path)).map((source) => moduleOf(source.path)))
    const tested = new Set(tests.map((source) => (source.path.split('/')[1] ?? '').replace(/\.test\.ts$/, '')))
    const untested = [...modules].filter((name) => name !== 'index' && !tested.has(name))
    expect(untested).toEqual([])
  })
})

describe('exports', () => {
  it('are named', () => {
    expect(written.filter(({ text }) => /^export default\b/m.test(text)).map(({ path }) => path)).toEqual([])
  })

  it('have no type any', () => {
    const any = /(?::|<|\||\bas)\s*any\b(?!\s*[:(])|\bany\[\]/
    const wrong = written.flatMap(({ path, text }) =>
      text
        .split('\n')
        .map((line) => line.replace(/\/\/.*|^\s*\*.*|\/\*\*.*|'[^']*'|`[^`]*`/g, ''))
        .filter((line) => any.test(line))
        .map((line) => `${path}: ${line.trim()}`),
    )
    expect(wrong).toEqual([])
  })
})

describe('importing a module', () => {
  // The formatter puts every statement of a module, and nothing else, at the first column.
  const declaration = /^(import|export|function|async function|class|abstract class|const|let|type|interface|declare)\b/
  const rest = /^(\s|$|\/\/|\/\*|\*|[)}\]>`|&?:.]|#!)/
  /** Work that a constant at the top level must not do. */
  const work =
    /\b(readFileSync|readdirSync|openSync|existsSync|statSync|mkdirSync|spawn|spawnSync|execFileSync|compile|await|require)\s*\(/

  /** Statements at the top level, each with the lines that belong to it. */
  function statements(text: string): string[] {
    const found: string[] = []
    for (const line of text.split('\n')) {
      if (rest.test(line)) found.push(`${found.pop() ?? ''}\n${line}`)
      else found.push(line)
    }
    return found
      .map((text) => text.trim())
      .filter((text) => text !== '' && !text.startsWith('/') && !text.startsWith('#!'))
  }

  const modules = written.filter((source) => source.path !== 'src/cli/main.ts')

  it('runs no statement: there are declarations only', () => {
    const wrong = modules.flatMap(({ path, text }) =>
      statements(text)
        .filter((each) => !declaration.test(each))
        .map((each) => `${path}: ${each.slice(0, 80)}`),
    )
    expect(wrong).toEqual([])
  })

  it('computes no constant by reading, starting or compiling anything', () => {
    const wrong = modules.flatMap(({ path, text }) =>
      statements(text)
        .filter((each) => /^(export )?(const|let)\b/.test(each) && !/=>|\bfunction\b/.test(each))
        .filter((each) => work.test(each) || /\bawait\b/.test(each))
        .map((each) => `${path}: ${each.slice(0, 80)}`),
    )
    expect(wrong).toEqual([])
  })
})
