/**
 * Says what images, containers and volumes take on the disk, checks that all of it is what it should be, repairs what is
 * not, and removes what is not used any more:
 *
 *     npx tsx examples/keep-tidy.ts
 */
import { check, diskUsage, prune, repair } from 'oci-ts'

const before = await diskUsage()
console.log(`${before.images.length} images, ${before.containers.length} containers, ${before.volumes.length} volumes`)

const { findings, blobs, layers } = await check()
console.log(`${blobs.count} blobs and ${layers.count} layers checked: ${findings.length} findings`)
for (const { message, images } of findings) console.log(`  ${message} (${images.join(', ') || 'nobody needs it'})`)

if (findings.length > 0) {
  const { repairs } = await repair()
  for (const { finding, repaired, error } of repairs) {
    console.log(`  ${finding.kind}: ${repaired ? 'repaired' : `not repaired: ${String(error)}`}`)
  }
}

// First only what it would do; images that have lost their name to a newer one, and volumes that nobody has named.
const foreseen = await prune({ dryRun: true, volumes: 'anonymous' })
console.log(`${foreseen.images.length} images could go`)
const { freed } = await prune({ volumes: 'anonymous' })
console.log(freed === foreseen.freed ? 'tidy' : 'somebody else was at work, too')
