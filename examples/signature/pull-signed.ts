/**
 * Pulls an image only if it has been signed with cosign and this key:
 *
 *     npx tsx examples/signature/pull-signed.ts registry.example.com/app:1 cosign.pub
 */
import { readFile } from 'node:fs/promises'
import { AdmissionError, pull } from 'oci-ts'
import { signedBy } from './signed-by.ts'

const [reference = '', key = 'cosign.pub'] = process.argv.slice(2)
try {
  const image = await pull(reference, { admit: signedBy(await readFile(key, 'utf8')) })
  console.log(`${image.reference}@${image.digest}`)
} catch (error) {
  if (!(error instanceof AdmissionError)) throw error
  console.error(error.message)
  process.exitCode = 1
}
