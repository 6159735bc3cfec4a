import { containersAuthCredentials } from './containers-auth.ts'
import { type CredentialProvider, firstCredential } from './credential.ts'
import { dockerConfigCredentials } from './docker-config.ts'

/**
 * Where credentials come from when nothing else is said: Docker's configuration, then podman's; the
 * other way round where `REGISTRY_AUTH_FILE` is set, as it is meant for this.
 */
export function defaultCredentials(): CredentialProvider {
  const [docker, containers] = [dockerConfigCredentials(), containersAuthCredentials()]
  return process.env.REGISTRY_AUTH_FILE ? firstCredential(containers, docker) : firstCredential(docker, containers)
}
