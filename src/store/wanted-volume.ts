import { randomBytes } from 'node:crypto'

/** A volume that a container needs. */
export interface WantedVolume {
  readonly name: string
  /** Whether nobody has named it. Default false. */
  readonly anonymous?: boolean | undefined
  /** Of the volume, if it is made. */
  readonly labels?: Readonly<Record<string, string>> | undefined
}

/** A volume that nobody names. */
export function anonymousVolume(): WantedVolume {
  return { name: randomBytes(32).toString('hex'), anonymous: true }
}
