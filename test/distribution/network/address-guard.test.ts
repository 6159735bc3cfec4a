import type { LookupAddress } from 'node:dns'
import { describe, expect, it } from 'vitest'
import {
  guardedLookup,
  HomeAddresses,
  notingLookup,
  type Resolve,
} from '../../../src/distribution/network/address-guard.ts'
import { isMachineAddress, isMetadataAddress } from '../../../src/distribution/network/local-addresses.ts'
import { refusalOf } from '../../../src/distribution/origin.ts'

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

type Names = Readonly<Record<string, readonly string[]>>

const connect = (lookup: ReturnType<typeof notingLookup>, host: string): Promise<unknown> =>
  new Promise((resolve, reject) => {
    lookup(host, {}, (error, address) => (error === null ? resolve(address) : reject(error)))
  })

/** Connects to a registry, and then to a host that it has chosen. */
async function lookup(home: string, host: string, names: Names, later: Names = names): Promise<unknown> {
  const homes = new HomeAddresses()
  await connect(notingLookup(homes, resolver(names)), home)
  return connect(guardedLookup(home, homes, resolver(later)), host)
}

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
      '64:ff9b::169.254.169.254',
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

  it('is not a metadata address even then', async () => {
    const names = { 'registry.test': ['127.0.0.1'], 'evil.test': ['169.254.169.254'] }
    await expect(lookup('registry.test', 'evil.test', names)).rejects.toMatchObject({ code: 'ERR_OCI_ADDRESS_GUARD' })
  })

  it('is not on this machine because the registry says, afterwards or beside another address, that it is there', async () => {
    const evil = { 'evil.test': ['127.0.0.1'] }
    const outside = { 'registry.test': ['198.51.100.1'], ...evil }
    const inside = { 'registry.test': ['127.0.0.1'], ...evil }
    const both = { 'registry.test': ['127.0.0.1', '198.51.100.1'], ...evil }
    for (const [first, later] of [
      [outside, inside],
      [both, both],
    ] as const) {
      const refused = lookup('registry.test', 'evil.test', first, later)
      await expect(refused).rejects.toMatchObject({ code: 'ERR_OCI_ADDRESS_GUARD' })
    }
  })

  it('is refused by its address, too, for which nothing is looked up', () => {
    const home = new URL('https://registry.test')
    for (const host of [
      '169.254.169.254',
      '100.100.100.200',
      '[fd00:ec2::254]',
      '[::ffff:169.254.169.254]',
      '[fe80::1]',
      '127.1',
      '0x7f000001',
      '[::]',
      '[::ffff:7f00:1]',
      'localhost.',
    ]) {
      expect(refusalOf(home, new URL(`https://${host}/`)), host).toMatch(/is (?:this machine|a link-local or metadata)/)
    }
    expect(refusalOf(home, new URL('https://198.51.100.1/'))).toBeUndefined()
  })

  it('that is not known is the usual error', async () => {
    await expect(lookup('registry.test', 'none.test', { 'registry.test': ['198.51.100.1'] })).rejects.toMatchObject({
      code: 'ENOTFOUND',
    })
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
      expect(isMachineAddress(address) || isMetadataAddress(address)).toBe(false)
    }
  })
})
