/**
 * What vitest 5 uses and Node 20 lacks. Without it a failed test fails the run, but the report of why
 * is a TypeError of the reporter. Loaded in vitest's own process only: the tests see the real Node.
 */

function group<Item, Key>(items: Iterable<Item>, keyOf: (item: Item, index: number) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>()
  let index = 0
  for (const item of items) {
    const key = keyOf(item, index++)
    const members = groups.get(key)
    if (members) members.push(item)
    else groups.set(key, [item])
  }
  return groups
}

function withResolvers(): object {
  let resolve: unknown
  let reject: unknown
  const promise = new Promise((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}

function addMissing(target: object, name: string, value: unknown): void {
  if (!(name in target)) Object.defineProperty(target, name, { value, configurable: true, writable: true })
}

/** Adds what is missing to this process. */
export function supportNode20(): void {
  addMissing(Map, 'groupBy', group)
  addMissing(Object, 'groupBy', (items: Iterable<unknown>, keyOf: (item: unknown) => PropertyKey) =>
    Object.fromEntries(group(items, keyOf)),
  )
  addMissing(Promise, 'withResolvers', withResolvers)
}
