/**
 * What a request wants to do: read; write (also set tags and mount); remove a tag, manifest or blob;
 * list the repositories.
 */
export type RegistryAction = 'pull' | 'push' | 'delete' | 'catalog'

/** Something that a user asks to do. */
export interface AccessRequest {
  readonly action: RegistryAction
  /** Undefined for `catalog`. */
  readonly repository: string | undefined
  /** Who asks; undefined for somebody without credentials. */
  readonly user: string | undefined
}

/** Decides whether a user may do something. */
export type Authorize = (access: AccessRequest) => boolean | Promise<boolean>

/** Checks a name and password. Compare in constant time what you compare yourself. */
export type VerifyPassword = (user: string, password: string) => boolean | Promise<boolean>

/** Who sends a request. */
export interface Identity {
  /** Undefined for somebody who has a token without a name in it. */
  readonly user: string | undefined
  /** What the credentials allow; undefined when they say nothing about it. */
  readonly access?: readonly AccessGrant[] | undefined
}

/** The access that a token grants (the `access` claim of distribution's token specification). */
export interface AccessGrant {
  /** `repository`, or `registry` for the catalog. */
  readonly type: string
  /** The repository, or `catalog`. */
  readonly name: string
  /** `pull`, `push`, `delete`, or `*` for all. */
  readonly actions: readonly string[]
}

/** Tells who sends a request. `basicAuth`, `bearerAuth` and `tokenAuth` make one; so can an application. */
export interface Authenticator {
  /** The sender; undefined for a request without credentials, `'invalid'` for one whose credentials are no good. */
  authenticate(request: Request): Promise<Identity | 'invalid' | undefined>
  /** `WWW-Authenticate` of the 401 response to a request that needs `grants`. */
  challenge(request: Request, grants: readonly AccessGrant[], problem: AuthProblem): string
  /** Answers requests of its own, such as those for tokens; undefined for all others. */
  respond?(request: Request, authorize: Authorize): Promise<Response> | undefined
}

/** Why a request is answered with 401: no credentials, no good ones, or such that allow too little. */
export type AuthProblem = 'missing' | 'invalid' | 'insufficient'

/** What a token must grant for an action. */
export function grantFor(action: RegistryAction, repository: string | undefined): AccessGrant {
  if (repository === undefined) return { type: 'registry', name: 'catalog', actions: ['*'] }
  return { type: 'repository', name: repository, actions: action === 'push' ? ['pull', 'push'] : [action] }
}

/** Whether the grants include the action. */
export function grants(
  access: readonly AccessGrant[],
  action: RegistryAction,
  repository: string | undefined,
): boolean {
  const [type, name] = repository === undefined ? ['registry', 'catalog'] : ['repository', repository]
  const wanted = repository === undefined ? '*' : action
  return access.some(
    (grant) =>
      grant.type === type && grant.name === name && (grant.actions.includes(wanted) || grant.actions.includes('*')),
  )
}
