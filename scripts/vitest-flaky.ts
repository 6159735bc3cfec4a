import type { Reporter, TestCase } from 'vitest/node'

/** Names the tests that have passed only at a further try (`vitest run --retry`): each is a defect to be found. */
export class FlakyReporter implements Reporter {
  readonly #names: string[] = []

  onTestCaseResult(test: TestCase): void {
    if (test.diagnostic()?.flaky) this.#names.push(`${test.module.relativeModuleId} > ${test.fullName}`)
  }

  onTestRunEnd(): void {
    for (const name of this.#names) console.log(`Passed only when tried again: ${name}`)
  }
}
