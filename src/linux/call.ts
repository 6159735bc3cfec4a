/**
 * A system call as data. The builders in `calls/` make them; `local.ts` makes them happen in this
 * process, `remote/` in a remote process, `fake.ts` only records them. Code that sets something up
 * returns calls and does not know which side runs them.
 */

/** A piece of memory that the kernel writes into; its content comes back with the results. */
export interface Out {
  readonly kind: 'out'
  /** Bytes. */
  readonly size: number
}

/** A piece of memory with addresses inside: an iovec, an argv table, a struct sock_fprog. */
export interface Struct {
  readonly kind: 'struct'
  /** Words of 8 bytes: a number is stored as it is, everything else as its address. */
  readonly words: readonly Word[]
}

/** One word of a {@link Struct}. */
export type Word = Exclude<Arg, Call>

/**
 * One argument: a number; a string (stored with a NUL behind it, passed by address); bytes or a
 * struct (by address); memory to write to (by address); or an earlier call, which stands for its result.
 */
export type Arg = number | bigint | string | Uint8Array | Out | Struct | Call

/** One system call. */
export interface Call {
  readonly kind: 'call'
  /** The kernel's name of the call; looked up per architecture when it is made. */
  readonly name: string
  readonly args: readonly Arg[]
  /** Errno name that is no failure (`'EEXIST'`), or `'any'`. The result then is the negative errno. */
  readonly tolerate?: string
  /** For clone: descriptor of the socket on which the child takes its batches. */
  readonly childSocket?: number
  /** For seccomp: 64 bits that the reply to its batch bears, so that the filter lets it through. */
  readonly replyMark?: bigint
  /** What the call is for; named by errors: "mount /proc". */
  readonly step?: string
  /** JSON Pointer into config.json to what asked for it. */
  readonly pointer?: string
  /** Path that the call is about, for errors. */
  readonly path?: string
}

/**
 * Stands, in strings of calls that are made again and again, for the text that differs: whoever makes them puts it in.
 * Of a private use area: no path, name or value of anybody's has it.
 */
export const blank = '\ue0c1\ue1f0\ue0c1'

/** How many characters of a text its short form has: engines name hosts by that of an id. */
export const shortLength = 12

const isShort = '\ue1f0'
const isWide = '-'.repeat(55)

/** As {@link blank}, for the short form of the text. It is of 12 bytes, too: a call may be told how many. */
export const shortBlank: string = blank + isShort

/** As {@link blank}, for a text of 64 bytes. */
export const wideBlank: string = blank + isWide

/** Where a text stands in place of a {@link blank}, and how many of its characters do. */
export interface Place {
  readonly at: number
  readonly length: number
}

/** A string with `text` in place of each {@link blank}. @param places is told where it stands. */
export function filled(string: string, text: string, places?: Place[]): string {
  let result = ''
  let from = 0
  for (let at = string.indexOf(blank); at !== -1; at = string.indexOf(blank, from)) {
    result += string.slice(from, at)
    from = at + blank.length
    const isShortened = string.startsWith(isShort, from)
    if (isShortened) from += isShort.length
    else if (string.startsWith(isWide, from)) from += isWide.length
    const given = isShortened ? text.slice(0, shortLength) : text
    places?.push({ at: result.length, length: given.length })
    result += given
  }
  return from === 0 ? string : result + string.slice(from)
}

/** Whether a text is nothing else in another one that has it: 64 digits, as engines give them to containers. */
export function isDistinct(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

/** The reverse of {@link filled}, for a text that is nothing else in `string`. */
export function withBlanks(string: string, text: string): string {
  return isDistinct(text)
    ? string.replaceAll(text, wideBlank).replaceAll(text.slice(0, shortLength), shortBlank)
    : string
}

/** Options that every builder takes last. */
export interface CallOptions {
  readonly tolerate?: string
  readonly step?: string
  readonly pointer?: string
}

/** Makes a call; the builders of `calls/` are typed fronts of it. */
export function call(name: string, args: readonly Arg[], options?: CallOptions & { readonly path?: string }): Call {
  return { kind: 'call', name, args, ...options }
}

/** Memory for the kernel to write into, in bytes. */
export function out(size: number): Out {
  return { kind: 'out', size }
}

/** Memory with addresses inside. */
export function struct(words: readonly Word[]): Struct {
  return { kind: 'struct', words }
}
