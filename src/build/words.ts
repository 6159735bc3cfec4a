import { InvalidArgumentError } from '../errors.ts'
import { quote } from '../internal/text.ts'

/** Variables by name. */
export type Variables = ReadonlyMap<string, string>

/**
 * Splits the rest of an instruction into words at blanks, and takes quotes, escapes and variables out of them (Dockerfile
 * reference, "Environment replacement"): `$name`, `${name}`, `${name:-default}`, `${name-default}`, `${name:+other}`,
 * `${name+other}`, `${name:?error}`, `${name?error}`. Nothing is replaced in single quotes.
 * @throws InvalidArgumentError for a quote or brace that is not closed, and for other forms of variables.
 */
export function words(text: string, variables: Variables): readonly string[] {
  return new Lexer(text, variables).words()
}

/** The whole text as one word: blanks are kept. */
export function expand(text: string, variables: Variables): string {
  return new Lexer(text, variables).word(() => false)
}

const blank = /\s/
const nameStart = /[A-Za-z_]/
const namePart = /[A-Za-z0-9_]/

class Lexer {
  readonly #text: string
  readonly #variables: Variables
  #at = 0

  constructor(text: string, variables: Variables) {
    this.#text = text
    this.#variables = variables
  }

  words(): readonly string[] {
    const found: string[] = []
    for (;;) {
      while (this.#at < this.#text.length && blank.test(this.#next())) this.#at += 1
      if (this.#at >= this.#text.length) return found
      found.push(this.word((character) => blank.test(character)))
    }
  }

  word(isEnd: (character: string) => boolean): string {
    let word = ''
    while (this.#at < this.#text.length && !isEnd(this.#next())) {
      const character = this.#take()
      if (character === "'") word += this.#singleQuoted()
      else if (character === '"') word += this.#doubleQuoted()
      else if (character === '$') word += this.#variable()
      else if (character === '\\') word += this.#at < this.#text.length ? this.#take() : character
      else word += character
    }
    return word
  }

  #next(): string {
    return this.#text[this.#at] ?? ''
  }

  #take(): string {
    const character = this.#next()
    this.#at += 1
    return character
  }

  #singleQuoted(): string {
    const end = this.#text.indexOf("'", this.#at)
    if (end === -1) throw this.#malformed('a single quote is not closed')
    const quoted = this.#text.slice(this.#at, end)
    this.#at = end + 1
    return quoted
  }

  #doubleQuoted(): string {
    let quoted = ''
    for (let character = this.#take(); character !== '"'; character = this.#take()) {
      if (character === '') throw this.#malformed('a double quote is not closed')
      if (character === '$') quoted += this.#variable()
      // Before anything else the backslash stands for itself.
      else if (character === '\\' && /["$\\]/.test(this.#next())) quoted += this.#take()
      else quoted += character
    }
    return quoted
  }

  #variable(): string {
    if (this.#next() !== '{') {
      if (!nameStart.test(this.#next())) return '$'
      return this.#variables.get(this.#name()) ?? ''
    }
    this.#at += 1
    const name = this.#name()
    if (name === '') throw this.#malformed('a variable in braces has no name')
    const value = this.#variables.get(name)
    const emptyCounts = this.#next() === ':'
    if (emptyCounts) this.#at += 1
    const isSet = value !== undefined && !(emptyCounts && value === '')
    const operator = this.#take()
    if (operator === '}' && !emptyCounts) return value ?? ''
    if (!/^[-+?]$/.test(operator)) throw this.#malformed(`\${${name}…} has a form that is not known`)
    const operand = this.word((character) => character === '}')
    if (this.#take() !== '}') throw this.#malformed('a brace is not closed')
    if (operator === '-') return isSet ? (value as string) : operand
    if (operator === '+') return isSet ? operand : ''
    if (!isSet) throw this.#malformed(operand === '' ? `${name} is not set` : `${name}: ${operand}`)
    return value as string
  }

  #name(): string {
    const start = this.#at
    if (nameStart.test(this.#next())) while (namePart.test(this.#next())) this.#at += 1
    return this.#text.slice(start, this.#at)
  }

  #malformed(message: string): InvalidArgumentError {
    return new InvalidArgumentError(`${quote(this.#text)}: ${message}`, { subject: this.#text })
  }
}

/** Words at blanks outside of quotes, with nothing taken out of them. */
export function rawWords(text: string): readonly string[] {
  return text.match(/(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|\S)+/gs) ?? []
}
