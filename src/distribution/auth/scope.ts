/**
 * Scopes of token authentication: `type:name:action,action`, for example
 * `repository:library/alpine:pull`. A resource's name may contain colons (a host with a port).
 */

/** Scopes of one token that are kept; the rest of a longer list is dropped. */
const maxScopes = 64

/** Scope to do `actions` with one repository. */
export function repositoryScope(repository: string, ...actions: readonly ('pull' | 'push' | 'delete')[]): string {
  return `repository:${repository}:${actions.join(',')}`
}

/**
 * One canonical list of several scopes or space-separated lists of scopes: one entry per resource,
 * sorted, its actions joined and sorted. `pull` comes before `push`, and `*` stands for all.
 */
export function mergeScopes(scopes: readonly string[]): readonly string[] {
  const merged = new Map<string, Set<string>>()
  for (const scope of scopes.flatMap((list) => list.split(' '))) {
    const { resource, actions } = split(scope)
    if (resource === '') continue
    const known = merged.get(resource) ?? new Set()
    for (const action of actions) known.add(action)
    merged.set(resource, known)
  }
  return [...merged]
    .map(([resource, actions]) => `${resource}:${actions.has('*') ? '*' : [...actions].sort().join(',')}`)
    .sort()
    .slice(0, maxScopes)
}

/** Whether a token for `granted` is good for `wanted`; both as {@link mergeScopes} returns them. */
export function coversScopes(granted: readonly string[], wanted: readonly string[]): boolean {
  const byResource = new Map(granted.map((scope) => [split(scope).resource, split(scope).actions]))
  return wanted.every((scope) => {
    const { resource, actions } = split(scope)
    const has = byResource.get(resource) ?? []
    return has.includes('*') || actions.every((action) => has.includes(action))
  })
}

/** Whether scopes, as {@link mergeScopes} returns them, are for reading repositories and nothing else. */
export function isPullOnly(scopes: readonly string[]): boolean {
  return scopes.length > 0 && scopes.every((scope) => /^repository:.*:pull$/.test(scope))
}

function split(scope: string): { readonly resource: string; readonly actions: readonly string[] } {
  const colon = scope.lastIndexOf(':')
  if (colon <= 0) return { resource: '', actions: [] }
  return {
    resource: scope.slice(0, colon),
    actions: scope
      .slice(colon + 1)
      .split(',')
      .filter((a) => a !== ''),
  }
}
