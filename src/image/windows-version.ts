/**
 * Which Windows images a Windows host runs, by their build numbers (Microsoft Learn, "Windows
 * container version compatibility").
 */

interface WindowsVersion {
  readonly major: number
  readonly minor: number
  readonly build: number
}

/** Builds of the long-term releases from which on a host runs older containers: Server 2022, Server 2025. */
const longTermBuilds = [20348, 26100] as const

/**
 * Whether a host of version `host` runs an image for `image`, both like `10.0.20348.1`. Versions that
 * are missing or can't be read restrict nothing.
 */
export function windowsRuns(host: string, image: string): boolean {
  const hostVersion = parse(host)
  const imageVersion = parse(image)
  if (hostVersion === undefined || imageVersion === undefined) return true
  if (hostVersion.major !== imageVersion.major || hostVersion.minor !== imageVersion.minor) return false
  if (hostVersion.build < longTermBuilds[0]) return hostVersion.build === imageVersion.build
  const oldest = longTermBuilds.findLast((build) => build < hostVersion.build) ?? longTermBuilds[0]
  return oldest <= imageVersion.build && imageVersion.build <= hostVersion.build
}

function parse(version: string): WindowsVersion | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,5})(?:\.|$)/.exec(version)
  if (match === null) return undefined
  return { major: Number(match[1]), minor: Number(match[2]), build: Number(match[3]) }
}
