import { describe, expect, it } from 'vitest'
import { coversScopes, mergeScopes, repositoryScope } from '../../../src/distribution/auth/scope.ts'

describe('scopes', () => {
  it('of one resource become one, with all actions', () => {
    expect(mergeScopes(['repository:a:push', 'repository:b:pull repository:a:pull,delete'])).toEqual([
      'repository:a:delete,pull,push',
      'repository:b:pull',
    ])
  })

  it('may name a resource with colons in it', () => {
    expect(mergeScopes(['repository:localhost:5000/a:pull', 'repository:localhost:5000/a:push'])).toEqual([
      'repository:localhost:5000/a:pull,push',
    ])
  })

  it('that make no sense are dropped', () => {
    expect(mergeScopes(['', ' ', 'x', ':pull'])).toEqual([])
  })

  it('of which a star stands for every action', () => {
    expect(mergeScopes(['registry:catalog:*', 'registry:catalog:list'])).toEqual(['registry:catalog:*'])
  })

  it('for more cover scopes for less, not the other way round', () => {
    const both = mergeScopes([repositoryScope('a', 'pull', 'push')])
    const pull = mergeScopes([repositoryScope('a', 'pull')])
    expect(coversScopes(both, pull)).toBe(true)
    expect(coversScopes(pull, both)).toBe(false)
    expect(coversScopes(both, mergeScopes([repositoryScope('b', 'pull')]))).toBe(false)
    expect(coversScopes(['registry:catalog:*'], ['registry:catalog:list'])).toBe(true)
  })
})
