import type { LookupAddress } from 'node:dns'
import { describe, expect, it } from 'vitest'
import { guardedLookup, isLocalAddress, type Resolve } from '../../../src/distribution/network/address-guard.ts'

/** A resolver with these names. */
const resolver =
  (names: Readonly<Record<string, readonly string[]>>): Resolve =>
  (hostname, _, done) => {
    const list = (names[hostname] ?? []).map(
      (address): LookupAddress => ({ address, family: address.includes(':') ? 6 : 4 }),
    )
    if (list.length === 0) done(Object.assign(new Error('ENOTFOUND'), { code: 'ENOTFOUND' }), [])
    else done(null, list)
  }

const lookup = (home: string, host: string, names: Readonly<Record<string, readonly string[]>>): Promise<unknown> =>
  new Promise((resolve, reject) => {
    guardedLookup(home, resolver(names))(host, {}, (error, address) =>
      error === null ? resolve(address) : reject(error),
    )
  })

describe('a host that a registry has chosen', () => {
  it('is not connected to when its name leads to this machine, a link-local or a metadata address', async () => {
    for (const address of [
      '127.0.0.1',
      '127.9.9.9',
      '0.0.0.0',
      '169.254.169.254',
      '::1',
      '::',
      'fe80::1',
      'fd00:ec2::254',
      '::ffff:127.0.0.1',
      '100.100.100.200',
    ]) {
      const names = { 'registry.test': ['198.51.100.1'], 'evil.test': ['198.51.100.2', address] }
      await expect(lookup('registry.test', 'evil.test', names)).rejects.toMatchObject({ code: 'ERR_OCI_ADDRESS_GUARD' })
    }
  })

  it('is connected to anywhere else', async () => {
    for (const address of ['198.51.100.2', '10.0.0.1', '2001:db8::1']) {
      const names = { 'registry.test': ['198.51.100.1'], 'cdn.test': [address] }
      expect(await lookup('registry.test', 'cdn.test', names)).toBe(address)
    }
  })

  it('may be on this machine when the registry is there, too', async () => {
    const names = { 'registry.test': ['127.0.0.1'], 'auth.test': ['127.0.0.1'] }
    expect(await lookup('registry.test', 'auth.test', names)).toBe('127.0.0.1')
  })

  it('that is not known is the usual error', async () => {
    await expect(lookup('registry.test', 'none.test', {})).rejects.toMatchObject({ code: 'ENOTFOUND' })
  })
})

describe('a local address', () => {
  it('is told from others at the edges', () => {
    for (const address of [
      '128.0.0.1',
      '126.255.255.255',
      '169.253.255.255',
      '169.255.0.0',
      '1.0.0.0',
      '::2',
      'fec0::1',
    ]) {
      expect(isLocalAddress(address)).toBe(false)
    }
  })
})
