import { type Call, out } from '../../linux/call.ts'
import { errnoName, syscallError } from '../../linux/errno.ts'
import type { Results } from '../../linux/runner.ts'
import type { Place } from '../apply/calls.ts'
import type { Xattr } from '../tar/entry.ts'
import { xattrNames, xattrValue } from './tree-calls.ts'

/** Room for what nearly all have. Bytes. */
const usual = 512
/** Most that the kernel gives (XATTR_LIST_MAX, XATTR_SIZE_MAX). */
const most = 65_536
const none: readonly Xattr[] = []

type Run = (calls: readonly Call[]) => Promise<Results | undefined>

interface Question {
  readonly place: Place
  /** Undefined: the names. */
  readonly name?: string
}

/** The attributes of each place; without those that have gone away meanwhile. `run` makes calls in their directory. */
export async function readXattrs(run: Run, places: readonly Place[]): Promise<ReadonlyMap<Place, readonly Xattr[]>> {
  const found = new Map<Place, readonly Xattr[]>()
  const lists = await ask(
    run,
    places.map((place) => ({ place })),
  )
  const questions: Required<Question>[] = []
  for (const [{ place }, list] of lists) {
    found.set(place, none)
    for (const name of list.toString('utf8').split('\0')) if (name !== '') questions.push({ place, name })
  }
  for (const [{ place, name }, value] of await ask(run, questions)) {
    found.set(place, [...(found.get(place) ?? none), { name: name as string, value }])
  }
  return found
}

/** Asks with little room, then those with more that did not fit. */
async function ask(run: Run, questions: readonly Question[]): Promise<ReadonlyMap<Question, Buffer>> {
  const answers = new Map<Question, Buffer>()
  let open = questions
  for (const [size, atOnce] of [
    [usual, 400],
    [most, 8],
  ] as const) {
    for (let at = 0; at < open.length; at += atOnce) {
      for (const [question, answer] of await askOnce(run, open.slice(at, at + atOnce), size)) {
        answers.set(question, answer)
      }
    }
    open = open.filter((question) => answers.get(question) === tooLarge)
  }
  // Grown meanwhile beyond what there can be.
  for (const question of open) answers.delete(question)
  return answers
}

const tooLarge = Buffer.from('too large')

async function askOnce(
  run: Run,
  questions: readonly Question[],
  size: number,
): Promise<readonly (readonly [Question, Buffer])[]> {
  const asked = questions.map((question) => {
    const to = out(size)
    const { place, name } = question
    return { question, to, call: name === undefined ? xattrNames(place, to) : xattrValue(place, name, to) }
  })
  const results = await run(asked.map(({ call }) => call))
  if (results === undefined) return []
  return asked.flatMap(({ question, to, call }) => {
    const value = results.value(call)
    if (value >= 0) return [[question, Buffer.from(results.bytes(to).subarray(0, value))] as const]
    switch (errnoName(-value)) {
      case 'ERANGE':
        return [[question, tooLarge] as const]
      case 'EOPNOTSUPP':
      case 'ENOTSUP':
        // The file system has none of that kind; of names that is the answer.
        return question.name === undefined ? [[question, Buffer.alloc(0)] as const] : []
      case 'ENODATA':
      case 'ENOENT':
        return []
      default:
        throw syscallError(call, -value)
    }
  })
}
