import { InvalidArgumentError } from '../../errors.ts'

/** A value of a TOML document. Tables have no prototype. Dates and times are not read. */
export type TomlValue = string | number | boolean | readonly TomlValue[] | TomlTable
/** A table. */
export interface TomlTable {
  [name: string]: TomlValue
}

/** Arrays and inline tables inside one another. */
const maxDepth = 32

/**
 * Reads the part of TOML 1.0 that configuration files such as registries.conf use: tables, arrays of
 * tables, dotted and quoted keys, strings of all four kinds, numbers, booleans, arrays, inline tables.
 * @throws InvalidArgumentError with the line, when `text` is something else.
 */
export function parseToml(text: string, name: string): TomlTable {
  return new TomlReader(text, name).document()
}

class TomlReader {
  readonly #text: string
  readonly #name: string
  #at = 0

  constructor(text: string, name: string) {
    this.#text = text.replace(/^\ufeff/, '').replaceAll('\r\n', '\n')
    this.#name = name
  }

  document(): TomlTable {
    const root = table()
    let current = root
    for (this.#skip(true); this.#at < this.#text.length; this.#skip(true)) {
      if (this.#take('[[')) {
        current = this.#append(root, this.#key())
        this.#expect(']]')
      } else if (this.#take('[')) {
        current = this.#descend(root, this.#key())
        this.#expect(']')
      } else {
        this.#pair(current, 0)
      }
      this.#skip(false)
      if (this.#at < this.#text.length) this.#expect('\n')
    }
    return root
  }

  #pair(target: TomlTable, depth: number): void {
    const key = this.#key()
    this.#expect('=')
    this.#skip(false)
    const last = key.pop() ?? ''
    const parent = this.#descend(target, key)
    if (last in parent) this.#fail(`the key ${JSON.stringify(last)} occurs twice`)
    parent[last] = this.#value(depth)
  }

  /** Parts of a dotted key. */
  #key(): string[] {
    const parts: string[] = []
    do {
      this.#skip(false)
      const bare = this.#match(/[A-Za-z0-9_-]+/y)
      parts.push(bare ?? this.#string())
      this.#skip(false)
    } while (this.#take('.'))
    return parts
  }

  #descend(from: TomlTable, path: readonly string[]): TomlTable {
    let current = from
    for (const name of path) {
      current[name] ??= table()
      const next = current[name]
      const inner = Array.isArray(next) ? next.at(-1) : next
      if (!isTable(inner)) return this.#fail(`${JSON.stringify(name)} is no table`)
      current = inner
    }
    return current
  }

  #append(root: TomlTable, path: string[]): TomlTable {
    const last = path.pop() ?? ''
    const parent = this.#descend(root, path)
    parent[last] ??= []
    const list = parent[last]
    if (!Array.isArray(list)) return this.#fail(`${JSON.stringify(last)} is no array of tables`)
    const added = table()
    list.push(added)
    return added
  }

  #value(depth: number): TomlValue {
    if (depth > maxDepth) return this.#fail(`it is nested deeper than ${maxDepth} levels`)
    if (this.#take('[')) return this.#array(depth)
    if (this.#take('{')) return this.#inline(depth)
    const quote = this.#text[this.#at]
    if (quote === '"' || quote === "'") return this.#string()
    const word = this.#match(/[A-Za-z0-9_+.-]+/y) ?? ''
    if (word === 'true' || word === 'false') return word === 'true'
    const number = /^[+-]?(?:0x[\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?)$/.test(word)
    return number ? Number(word.replaceAll('_', '')) : this.#fail(`${JSON.stringify(word)} is no value`)
  }

  #array(depth: number): TomlValue[] {
    const items: TomlValue[] = []
    for (this.#skip(true); !this.#take(']'); this.#skip(true)) {
      items.push(this.#value(depth + 1))
      this.#skip(true)
      if (!this.#take(',') && this.#text[this.#at] !== ']') this.#fail('a comma or ] is missing')
    }
    return items
  }

  #inline(depth: number): TomlTable {
    const result = table()
    for (this.#skip(false); !this.#take('}'); this.#skip(false)) {
      this.#pair(result, depth + 1)
      this.#skip(false)
      if (!this.#take(',') && this.#text[this.#at] !== '}') this.#fail('a comma or } is missing')
    }
    return result
  }

  #string(): string {
    const literal = this.#match(/'''\n?((?:(?!''')[\s\S])*)'''|'([^'\n]*)'/y, true)
    if (literal !== undefined) return literal
    const basic = this.#match(/"""\n?((?:\\[\s\S]|(?!""")[^\\])*)"""|"((?:\\.|[^"\\\n])*)"/y, true)
    if (basic === undefined) return this.#fail('a string is missing or does not end')
    return basic.replace(
      /\\(?:u([\da-fA-F]{4})|U([\da-fA-F]{8})|(\s*\n\s*)|([\s\S]))/g,
      (whole, u, long, fold, one) => {
        if (fold !== undefined) return ''
        const code = u ?? long
        if (code !== undefined && Number.parseInt(code, 16) <= 0x10ffff)
          return String.fromCodePoint(Number.parseInt(code, 16))
        return escapes[one as string] ?? this.#fail(`${JSON.stringify(whole)} is no escape`)
      },
    )
  }

  #match(pattern: RegExp, group = false): string | undefined {
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#text)
    if (match === null) return undefined
    this.#at = pattern.lastIndex
    return group ? (match[1] ?? match[2] ?? '') : match[0]
  }

  #take(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false
    this.#at += text.length
    return true
  }

  #expect(text: string): void {
    this.#skip(false)
    if (!this.#take(text)) this.#fail(`${JSON.stringify(text)} is missing`)
  }

  /** Passes over white space and comments, and over the ends of lines where they mean nothing. */
  #skip(lines: boolean): void {
    this.#match(lines ? /(?:[ \t\n]|#[^\n]*)*/y : /[ \t]*(?:#[^\n]*)?/y)
  }

  #fail(reason: string): never {
    const line = this.#text.slice(0, this.#at).split('\n').length
    throw new InvalidArgumentError(`${this.#name}, line ${line}: ${reason}`, { subject: this.#name })
  }
}

const escapes: Readonly<Record<string, string>> = { b: '\b', t: '\t', n: '\n', f: '\f', r: '\r', '"': '"', '\\': '\\' }

function table(): TomlTable {
  return Object.create(null) as TomlTable
}

/** Whether a value is a table. */
export function isTable(value: TomlValue | undefined): value is TomlTable {
  return typeof value === 'object' && !Array.isArray(value)
}
