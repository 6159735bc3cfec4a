import { expect as realExpect } from '../../../node_modules/vitest/dist/index.js'

/**
 * Stands in for vitest in the machine: the test files are bundled with it. It has of vitest what they use, and
 * runs one test after the other. Its `expect` is vitest's own.
 */

/** What became of a test. */
export interface TestResult {
  readonly file: string
  readonly name: string
  readonly state: 'passed' | 'failed' | 'skipped'
  /** Milliseconds. */
  readonly duration: number
  readonly error?: string | undefined
}

type Body = () => unknown
type Report = (result: TestResult) => void

interface Suite {
  readonly name: string
  readonly skipped: boolean
  readonly beforeAll: Body[]
  readonly afterAll: Body[]
  readonly beforeEach: Body[]
  readonly afterEach: Body[]
  readonly children: (Suite | Test)[]
}

interface Test {
  readonly name: string
  readonly skipped: boolean
  readonly body: Body
}

const newSuite = (name: string, skipped: boolean): Suite => ({
  name,
  skipped,
  beforeAll: [],
  afterAll: [],
  beforeEach: [],
  afterEach: [],
  children: [],
})

let current = newSuite('', false)

function describeAs(skipped: boolean) {
  return (name: string, body: () => void): void => {
    const outer = current
    const suite = newSuite(name, skipped)
    outer.children.push(suite)
    current = suite
    body()
    current = outer
  }
}

function itAs(skipped: boolean) {
  const define = (name: string, body: Body): void => void current.children.push({ name, skipped, body })
  const each =
    (values: readonly unknown[]) =>
    (name: string, body: (...values: readonly unknown[]) => unknown): void => {
      for (const value of values) {
        const list: readonly unknown[] = Array.isArray(value) ? value : [value]
        define(`${name}: ${JSON.stringify(value)}`, () => body(...list))
      }
    }
  return Object.assign(define, { each })
}

export const describe: unknown = Object.assign(describeAs(false), {
  skipIf: (condition: unknown) => describeAs(Boolean(condition)),
})
export const it: unknown = Object.assign(itAs(false), { skipIf: (condition: unknown) => itAs(Boolean(condition)) })
export const test: unknown = it
export const expect: typeof realExpect = realExpect
export const beforeAll = (body: Body): void => void current.beforeAll.push(body)
export const afterAll = (body: Body): void => void current.afterAll.push(body)
export const beforeEach = (body: Body): void => void current.beforeEach.push(body)
export const afterEach = (body: Body): void => void current.afterEach.push(body)
/** Of the test that runs. */
const finishers: Body[] = []
export const onTestFinished = (body: Body): void => void finishers.unshift(body)

/** Runs what has been defined since the last call. */
export async function runDefined(file: string, report: Report): Promise<void> {
  const suite = current
  current = newSuite('', false)
  await runSuite(suite, { file, path: [], beforeEach: [], afterEach: [], skipped: false }, report)
}

interface Place {
  readonly file: string
  readonly path: readonly string[]
  readonly beforeEach: readonly Body[]
  readonly afterEach: readonly Body[]
  readonly skipped: boolean
}

async function runSuite(suite: Suite, outer: Place, report: Report): Promise<void> {
  const place: Place = {
    file: outer.file,
    path: suite.name === '' ? outer.path : [...outer.path, suite.name],
    beforeEach: [...outer.beforeEach, ...suite.beforeEach],
    afterEach: [...suite.afterEach, ...outer.afterEach],
    skipped: outer.skipped || suite.skipped,
  }
  const failure = place.skipped ? undefined : await failureOf(suite.beforeAll)
  for (const child of suite.children) {
    if ('children' in child) await runSuite(child, place, report)
    else await runTest(child, place, failure, report)
  }
  if (place.skipped) return
  const error = await failureOf(suite.afterAll)
  const name = [...place.path, 'afterAll'].join(' > ')
  if (error !== undefined) report({ file: place.file, name, state: 'failed', duration: 0, error })
}

/** Milliseconds that a test may take: none is run after one that takes longer. */
const patience = 60_000

async function runTest(test: Test, place: Place, before: string | undefined, report: Report): Promise<void> {
  const base = { file: place.file, name: [...place.path, test.name].join(' > ') }
  if (place.skipped || test.skipped) return report({ ...base, state: 'skipped', duration: 0 })
  const began = performance.now()
  const watch = setTimeout(() => {
    report({ ...base, state: 'failed', duration: patience, error: `does not end within ${patience} ms` })
    process.exit(1)
  }, patience)
  const failed = before ?? (await failureOf([...place.beforeEach, test.body]))
  const after = await failureOf([...finishers.splice(0), ...place.afterEach])
  clearTimeout(watch)
  const error = failed ?? after
  report({ ...base, state: error === undefined ? 'passed' : 'failed', duration: performance.now() - began, error })
}

async function failureOf(bodies: readonly Body[]): Promise<string | undefined> {
  try {
    for (const body of bodies) await body()
    return undefined
  } catch (error) {
    const { stack, message, expected, actual } = error as Error & { expected?: unknown; actual?: unknown }
    const difference = expected === undefined ? '' : `\nexpected ${show(expected)}\nactual ${show(actual)}`
    return `${stack ?? message}${difference}`
  }
}

function show(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return String(value)
  }
}
