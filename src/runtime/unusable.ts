import { InvalidArgumentError } from '../errors.ts'

/**
 * What to throw for an error of making something of a config or process: those that nobody has validated can have anything
 * for a value, and then the language is the first to complain.
 */
export function unusable(error: unknown, what: 'config' | 'process'): unknown {
  if (![TypeError, RangeError, SyntaxError].some((type) => error instanceof type)) return error
  return new InvalidArgumentError(`the ${what} can't be used: ${(error as Error).message}`, {
    subject: what,
    hint: 'It is none of the runtime-spec: `validateSpec` and `validateProcess` of oci-ts/bundle name what is wrong with one.',
    cause: error,
  })
}
