import { describe, expect, it } from 'vitest'
import { LayerError } from '../../../src/errors.ts'
import { lines, plan } from '../support/apply.ts'
import { tar } from '../support/tar.ts'

describe('whiteouts in the plan of a layer', () => {
  const whiteout = (path: string): string => `mknodat ${path} 20000 0`

  it('may be entries of any type', async () => {
    const types = ['0', '2', '3', '5', '6'] as const
    const entries = types.map((type) => ({
      name: `d/.wh.gone${type}`,
      type,
      linkName: '/etc',
      device: [1, 3] as const,
    }))
    const calls = await lines(tar({ name: 'd/', type: '5' }, ...entries))
    expect(calls.filter((line) => line.startsWith('mknodat'))).toEqual(types.map((type) => whiteout(`d/gone${type}`)))
    expect(calls.join()).not.toMatch(/symlinkat|openat/)
  })

  it('become character devices 0:0, after everything else', async () => {
    const calls = await lines(tar({ name: 'd/.wh.gone' }, { name: 'd/kept' }))
    expect(calls).toContain(whiteout('d/gone'))
    expect(calls.indexOf(whiteout('d/gone'))).toBeGreaterThan(calls.indexOf('openat d/kept 644'))
  })

  it.each([
    ['before', [{ name: '.wh.f' }, { name: 'f' }]],
    ['behind', [{ name: 'f' }, { name: '.wh.f' }]],
  ])('do not touch what the same layer brings %s them', async (_, entries) => {
    const calls = await lines(tar(...entries))
    expect(calls).toContain('openat f 644')
    expect(calls.join()).not.toMatch(/mknodat|unlinkat/)
  })

  it.each([
    ['before', [{ name: '.wh.d' }, { name: 'd/', type: '5' }]],
    ['behind', [{ name: 'd/', type: '5' }, { name: '.wh.d' }]],
  ])('of a name that is a directory in the same layer %s it make that opaque', async (_, entries) => {
    const calls = await lines(tar(...entries))
    expect(calls).toContain('lsetxattr d trusted.overlay.opaque')
    expect(calls).not.toContain(whiteout('d'))
  })

  it.each([
    ['before', [{ name: 'd/.wh..wh..opq' }, { name: 'd/f' }]],
    ['behind', [{ name: 'd/f' }, { name: 'd/.wh..wh..opq' }]],
  ])('that are opaque mark the directory, %s its content', async (_, entries) => {
    const calls = await lines(tar(...entries))
    expect(calls).toContain('lsetxattr d trusted.overlay.opaque')
    expect(calls).toContain('openat d/f 644')
    expect(calls.join()).not.toContain('unlinkat')
  })

  it('below an opaque directory are left out: there is nothing to hide, and readdir would show them', async () => {
    const archive = tar(
      { name: 'd/.wh.a' },
      { name: 'd/e/.wh.b' },
      { name: 'd/e/.wh..wh..opq' },
      { name: 'd/.wh..wh..opq' },
    )
    expect((await lines(archive)).filter((line) => /mknodat|setxattr/.test(line))).toEqual([
      'lsetxattr d trusted.overlay.opaque',
    ])
  })

  it('mean nothing in the bottom layer', async () => {
    const archive = tar({ name: '.wh.a' }, { name: 'd/.wh..wh..opq' })
    expect(await lines(archive, { bottom: true })).toEqual(['mkdirat d'])
  })

  it('that are opaque in the root hide all lower layers', async () => {
    const { applied, lines: calls } = await plan(tar({ name: '.wh..wh..opq' }, { name: 'f' }, { name: '.wh.x' }))
    expect(applied.opaqueRoot).toBe(true)
    expect(calls.join()).not.toMatch(/mknodat|overlay/)
    expect((await plan(tar({ name: 'f' }))).applied.opaqueRoot).toBe(false)
  })

  it('may be devices 0:0, as in the upper directory they come from', async () => {
    expect(await lines(tar({ name: 'gone', type: '3', device: [0, 0] }))).toEqual([whiteout('gone')])
  })

  it('carry the mark of unprivileged overlayfs in a user namespace', async () => {
    const rights = { userNamespace: true, singleOwner: true }
    expect(await lines(tar({ name: 'd/.wh..wh..opq' }), { rights })).toContain('lsetxattr d user.overlay.opaque')
  })

  it.each(['.wh.', 'd/.wh.', '.wh..', 'd/.wh...', '.wh.x/f'])('as %s are refused', async (name) => {
    await expect(plan(tar({ name }))).rejects.toThrow(LayerError)
  })

  it('of AUFS for its own use are passed over', async () => {
    const archive = tar({ name: '.wh..wh.plnk/', type: '5' }, { name: '.wh..wh.plnk/1.2' }, { name: '.wh..wh.aufs' })
    expect(await lines(archive)).toEqual([])
  })
})
