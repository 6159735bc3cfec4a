import { type Digest, digestFault, isVerifiable } from '../image/digest.ts'
import { quote } from '../internal/text.ts'
import { Fault } from './fault.ts'

const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const repositoryGrammar = new RegExp(`^${component}(?:/${component})*$`)
const maxRepositoryLength = 255

const tagGrammar = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

/** Whether the text is a repository name (distribution-spec, "Pulling manifests"). */
export function isRepository(text: string): boolean {
  return text.length <= maxRepositoryLength && repositoryGrammar.test(text)
}

/** Whether the text is a tag (distribution-spec, "Pulling manifests"). */
export function isTag(text: string): boolean {
  return tagGrammar.test(text)
}

/** A well-formed digest out of a request. @throws Fault */
export function requestDigest(text: string): Digest {
  const fault = digestFault(text)
  if (fault !== undefined) throw new Fault('DIGEST_INVALID', `${quote(text)} is no digest: ${fault}`)
  return text as Digest
}

/** A digest out of a request that content can be checked against, so that content is stored under it. @throws Fault */
export function contentDigest(text: string): Digest {
  const digest = requestDigest(text)
  if (isVerifiable(digest)) return digest
  throw new Fault('DIGEST_INVALID', `${quote(text)}: only sha256 and sha512 are supported`)
}
