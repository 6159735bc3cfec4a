import { Fault } from '../fault.ts'
import type { Route } from '../route.ts'
import {
  type AccessRequest,
  type Authenticator,
  type Authorize,
  type AuthProblem,
  grantFor,
  grants,
  type Identity,
  type RegistryAction,
} from './access.ts'

/** What the sender of one request may do. */
export interface Access {
  readonly user: string | undefined
  /** Whether it may read a repository other than that of the request. */
  pull(repository: string): Promise<boolean>
}

/** Lets through what is allowed. */
export class Guard {
  readonly #auth: Authenticator | undefined
  readonly #authorize: Authorize
  /** Whether the application decides. */
  readonly #decides: boolean

  constructor(auth: Authenticator | undefined, authorize: Authorize | undefined) {
    this.#auth = auth
    this.#decides = authorize !== undefined
    // Whoever is known may do everything, unless somebody decides otherwise.
    this.#authorize = authorize ?? (({ user }) => auth === undefined || user !== undefined)
  }

  /** The authenticator's own answer, if the request is for it. */
  respond(request: Request): Promise<Response> | undefined {
    return this.#auth?.respond?.(request, this.#authorize)
  }

  /** @throws Fault with 401 for a sender who should say who it is, with 403 for one who may not. */
  async admit(route: Route, request: Request): Promise<Access> {
    const identity = await this.#auth?.authenticate(request)
    if (identity === 'invalid') throw this.#unauthorized(route, request, 'invalid')
    const access: Access = {
      user: identity?.user,
      pull: (repository) => this.#may(identity, 'pull', repository),
    }
    // The first request of a client: how it learns that there is something to log in to.
    if (route.kind === 'base' && this.#auth !== undefined && identity === undefined) {
      throw this.#unauthorized(route, request, 'missing')
    }
    const action = actionOf(route, request.method)
    if (action === undefined || (await this.#may(identity, action, repositoryOf(route)))) return access
    if (this.#auth !== undefined && identity === undefined) throw this.#unauthorized(route, request, 'missing')
    // A token can be exchanged for one that allows more; a password can't.
    if (identity?.access !== undefined && !grants(identity.access, action, repositoryOf(route))) {
      throw this.#unauthorized(route, request, 'insufficient')
    }
    throw new Fault('DENIED', `${action} is not allowed here`, {
      detail: { action, ...(repositoryOf(route) === undefined ? {} : { repository: repositoryOf(route) }) },
    })
  }

  /** What the request wants, in the words of `authorize`; undefined for what needs no permission. */
  describe(route: Route, request: Request, { user }: Access): AccessRequest | undefined {
    const action = actionOf(route, request.method)
    return action && { action, repository: repositoryOf(route), user }
  }

  async #may(identity: Identity | undefined, action: RegistryAction, repository: string | undefined): Promise<boolean> {
    const user = identity?.user
    if (identity?.access === undefined) return this.#authorize({ action, repository, user })
    if (!grants(identity.access, action, repository)) return false
    // Who issued the token has decided; a token without a name is as good as another.
    return this.#decides ? this.#authorize({ action, repository, user }) : true
  }

  #unauthorized(route: Route, request: Request, problem: AuthProblem): Fault {
    const action = actionOf(route, request.method)
    const wanted = action === undefined ? [] : [grantFor(action, repositoryOf(route))]
    const challenge = this.#auth?.challenge(request, wanted, problem)
    return new Fault('UNAUTHORIZED', 'authentication is required', {
      headers: challenge === undefined ? {} : { 'WWW-Authenticate': challenge },
      detail: wanted,
    })
  }
}

function repositoryOf(route: Route): string | undefined {
  return 'repository' in route ? route.repository : undefined
}

/** Undefined for what needs no permission. */
function actionOf(route: Route, method: string): RegistryAction | undefined {
  if (route.kind === 'base') return undefined
  if (route.kind === 'catalog') return 'catalog'
  if (route.kind === 'uploads' || route.kind === 'upload') return 'push'
  if (method === 'GET' || method === 'HEAD') return 'pull'
  return method === 'DELETE' ? 'delete' : 'push'
}
