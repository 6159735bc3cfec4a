import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from './images.ts'

/** PEM of a private authority, and of what it has signed: a server on 127.0.0.1, and a client. Paths too. */
export interface Certificates {
  readonly ca: string
  readonly server: { readonly cert: string; readonly key: string }
  readonly client: { readonly cert: string; readonly key: string }
  /** Path of a file in the directory: `ca.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`. */
  path(name: string): string
}

/** Makes an authority and two certificates in `directory`, with openssl. */
export async function makeCertificates(directory: string): Promise<Certificates> {
  const path = (name: string): string => join(directory, name)
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const authority = ['-subj', '/CN=test authority', '-addext', 'basicConstraints=critical,CA:TRUE']
  await run('openssl', ['req', '-x509', ...ec, ...authority, '-keyout', path('ca.key'), '-out', path('ca.crt')])
  for (const name of ['server', 'client']) {
    const signed = ['-CA', path('ca.crt'), '-CAkey', path('ca.key'), '-addext', 'subjectAltName=IP:127.0.0.1']
    const files = ['-keyout', path(`${name}.key`), '-out', path(`${name}.crt`)]
    await run('openssl', ['req', '-x509', ...ec, '-subj', `/CN=${name}`, ...signed, ...files])
  }
  const pair = async (name: string): Promise<{ readonly cert: string; readonly key: string }> => ({
    cert: await readFile(path(`${name}.crt`), 'utf8'),
    key: await readFile(path(`${name}.key`), 'utf8'),
  })
  return {
    ca: await readFile(path('ca.crt'), 'utf8'),
    server: await pair('server'),
    client: await pair('client'),
    path,
  }
}
