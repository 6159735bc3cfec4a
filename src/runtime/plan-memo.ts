import type { Spec } from '../bundle/spec.ts'
import { parseJsonInt64 } from '../internal/json-int64.ts'
import { blank, filled, isDistinct, wideBlank, withBlanks } from '../linux/call.ts'
import type { Host } from './host.ts'
import { type Plan, type PlanOptions, planContainer } from './plan.ts'

/** What a plan was told by the host. */
interface Observation {
  readonly kind: 'isDirectory' | 'read' | 'writable'
  /** With a {@link blank} for the id. */
  readonly path: string
  readonly value: string | boolean | undefined
}

/** A plan for any id. */
interface Memo {
  readonly plan: Plan
  readonly observations: readonly Observation[]
}

/** Plans that are kept, of some hundred KB each. */
const most = 16

/** What was planned for some texts. */
interface Entry {
  /** See {@link isDistinct}. */
  readonly isDistinct: boolean
  readonly texts: PlanTexts
  /** Undefined when a plan was made for a single id. */
  readonly memo: Memo | undefined
}

/** The latest is the last. They are found by comparing: to hash texts of many KB takes longer. */
const entries: Entry[] = []

/** What a plan depends on besides the id and the host, as text. */
export interface PlanTexts {
  /** The config. */
  readonly config: string
  /** Other options as JSON; what is in it counts, and not what the options have. */
  readonly others: string
}

/**
 * Plans the creation of a container as {@link planContainer} does. From the second time on that all but the id is the
 * same and the host still as it was, it is the same plan, with a {@link blank} in place of the id. An id of 64 digits as
 * engines give them is in place of itself in all texts, and so is its beginning.
 * @param filter compiles `linux.seccomp`
 * @throws as {@link planContainer} does.
 */
export function planAgain(options: PlanOptions, filter: () => PlanOptions['filter'], texts: PlanTexts): Plan {
  const { id, host } = options
  const template = { config: withBlanks(texts.config, id), others: withBlanks(texts.others, id) }
  const at = entries.findLastIndex((entry) => isFor(entry, id, template))
  const memo = entries[at]?.memo
  if (memo?.observations.every(({ kind, path, value }) => host[kind](filled(path, id)) === value)) return memo.plan
  const complete = { ...options, filter: filter() }
  if (at !== -1) entries.splice(at, 1)
  if (entries.length >= most) entries.shift()
  const isAgain = at !== -1 && memo === undefined
  const made = isAgain && isForAny(complete, texts) ? planForAny(complete, template) : undefined
  entries.push({ isDistinct: isDistinct(id), texts: template, memo: made })
  return made?.plan ?? planContainer(complete)
}

function isFor(entry: Entry, id: string, { config, others }: PlanTexts): boolean {
  return entry.texts.config === config && entry.texts.others === others && entry.isDistinct === isDistinct(id)
}

/** Whether the id is of no importance but for names. */
function isForAny({ spec, scope, filter }: PlanOptions, { config, others }: PlanTexts): boolean {
  const isNameOnly = scope === undefined && spec.linux?.intelRdt === undefined && filter?.notify !== true
  return isNameOnly && !config.includes(blank) && !others.includes(blank)
}

function planForAny(options: PlanOptions, template: PlanTexts): Memo {
  const observations: Observation[] = []
  const known = new Set<string>()
  const { id, host } = options
  const observed =
    <Value extends string | boolean | undefined>(kind: Observation['kind'], look: (path: string) => Value) =>
    (path: string): Value => {
      const value = look(filled(path, id))
      if (!known.has(kind + path)) observations.push({ kind, path, value })
      known.add(kind + path)
      return value
    }
  const watched: Host = {
    ...host,
    isDirectory: observed('isDirectory', host.isDirectory),
    read: observed('read', host.read),
    writable: observed('writable', host.writable),
  }
  const given = isDistinct(id) ? ofTemplate(template) : {}
  return {
    plan: planContainer({ ...options, ...given, id: isDistinct(id) ? wideBlank : blank, host: watched }),
    observations,
  }
}

function ofTemplate({ config, others }: PlanTexts): Partial<PlanOptions> {
  const spec = parseJsonInt64(Buffer.from(config), 'config.json') as Spec
  return { ...(JSON.parse(others) as Partial<PlanOptions>), spec }
}
