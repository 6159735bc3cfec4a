import type { Arg, Call, Word } from './call.ts'
import { AT_FDCWD } from './calls/files.ts'
import { formatFlags } from './format-flags.ts'

/** Longest part of a string that is printed, as in strace. */
const shown = 32

/** What an earlier call is called where its result is used: `$3`. */
type NameOf = (call: Call) => string

/**
 * A call as strace would print it: `mount("proc", "/proc", "proc", MS_NOSUID|MS_NODEV|MS_NOEXEC, NULL)`. Flags have
 * names where they are known, strings are cut to 32 characters unless they are paths, memory is abbreviated,
 * the result of another call is its name (`$openat`). What is tolerated and for what follows as a comment.
 */
export function formatCall(call: Call): string {
  return format(call, (earlier) => `$${earlier.name}`)
}

/**
 * The calls of a plan, one a line. The result of a call that a later one uses is `$n`, where n is the line that
 * makes it, counted from 1; that line ends in `= $n`.
 */
export function formatCalls(calls: readonly Call[]): readonly string[] {
  const numbers = new Map(calls.map((call, index) => [call, index + 1]))
  const used = new Set(calls.flatMap((call) => call.args.filter(isCall)))
  const nameOf: NameOf = (call) => (numbers.has(call) ? `$${numbers.get(call)}` : `$${call.name}`)
  return calls.map((call) => format(call, nameOf, used.has(call) ? ` = ${nameOf(call)}` : ''))
}

function format(call: Call, nameOf: NameOf, result = ''): string {
  const args = call.args.map((arg, index) => formatFlags(call, index) ?? formatArg(arg, call, index, nameOf))
  const notes = [
    ...(call.step === undefined ? [] : [call.step]),
    ...(call.tolerate === undefined ? [] : [call.tolerate === 'any' ? 'may fail' : `${call.tolerate} is no failure`]),
    ...(call.childSocket === undefined ? [] : [`child listens on ${call.childSocket}`]),
  ]
  const comment = notes.length === 0 ? '' : ` /* ${notes.join('; ').replaceAll('*/', '* /')} */`
  return `${call.name}(${args.join(', ')})${result}${comment}`
}

function formatArg(arg: Arg, call: Call, index: number, nameOf: NameOf): string {
  if (typeof arg === 'string') return formatString(arg, arg === call.path ? Number.POSITIVE_INFINITY : shown)
  if (typeof arg === 'number' || typeof arg === 'bigint') return formatNumber(arg, call, index)
  if (arg instanceof Uint8Array) return `[${arg.length} bytes]`
  if (arg.kind === 'call') return nameOf(arg)
  if (arg.kind === 'out') return `&[${arg.size}]`
  return formatWords(arg.words, call, nameOf)
}

/** A table of strings without its NULL, as strace prints argv; other structs word by word. */
function formatWords(words: readonly Word[], call: Call, nameOf: NameOf): string {
  const last = words.at(-1)
  if (last === 0 && words.slice(0, -1).every((word) => typeof word === 'string')) {
    return `[${words
      .slice(0, -1)
      .map((word) => formatArg(word, call, -1, nameOf))
      .join(', ')}]`
  }
  return `{${words.map((word) => formatArg(word, call, -1, nameOf)).join(', ')}}`
}

function formatString(text: string, limit: number): string {
  const characters = [...text]
  if (characters.length <= limit) return JSON.stringify(text)
  return `${JSON.stringify(characters.slice(0, limit).join(''))}...`
}

// Calls with a mode among their arguments, and where it is: modes are read in octal.
const modes: Readonly<Record<string, number>> = {
  openat: 3,
  mkdirat: 2,
  mknodat: 2,
  fchmod: 1,
  fchmodat: 2,
  umask: 0,
}

// Arguments that are addresses: 0 is NULL there.
const pointers: Readonly<Record<string, readonly number[]>> = {
  mount: [0, 2, 4],
  fsconfig: [2, 3],
  clone: [1, 2, 3],
  waitid: [2, 4],
  wait4: [1, 3],
  prlimit64: [2, 3],
  utimensat: [1, 2],
  pidfd_send_signal: [2],
  sendto: [4],
  ppoll: [2, 3],
}

function formatNumber(value: number | bigint, call: Call, index: number): string {
  const number = Number(value)
  if (number === AT_FDCWD && index >= 0) return 'AT_FDCWD'
  if (number === 0 && pointers[call.name]?.includes(index)) return 'NULL'
  if (modes[call.name] === index) return number === 0 ? '0' : `0${number.toString(8)}`
  return number > 0xffff ? `0x${value.toString(16)}` : String(value)
}

function isCall(arg: Arg): arg is Call {
  return typeof arg === 'object' && !(arg instanceof Uint8Array) && arg.kind === 'call'
}
