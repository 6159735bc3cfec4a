import { describe, expect, it } from 'vitest'
import { resolveUser } from '../../src/bundle/index.ts'
import { InvalidArgumentError, LimitError, NotFoundError, OciError } from '../../src/errors.ts'

const passwd = Buffer.from(
  [
    '# accounts',
    'root:x:0:0:root:/root:/bin/bash',
    '1000:x:0:0:a name of digits:/evil:/bin/sh',
    'daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin',
    'app:x:1001:1001::/home/app:/bin/sh',
    'relative:x:1002:1002::home:/bin/sh',
    'wrap:x:4294967296:0::/:/bin/sh',
    'minus:x:-1:0::/:/bin/sh',
    'short:x',
    '',
  ].join('\n'),
)
const group = Buffer.from(
  ['root:x:0:', 'daemon:x:1:app', 'video:x:44:other,app', '44:x:0:', 'app:x:1001:', 'huge:x:99999999999:app'].join(
    '\n',
  ),
)
const files = { passwd, group }

describe('resolveUser', () => {
  it('finds names in the files of the image', () => {
    expect(resolveUser('app', files)).toEqual({
      uid: 1001,
      gid: 1001,
      additionalGids: [1001, 1, 44],
      home: '/home/app',
    })
    expect(resolveUser('app:video', files)).toEqual({ uid: 1001, gid: 44, additionalGids: [44], home: '/home/app' })
    expect(resolveUser('1:app', files)).toMatchObject({ uid: 1, gid: 1001, home: '/usr/sbin' })
    expect(resolveUser('app', files, ['video', '7'])).toMatchObject({ additionalGids: [1001, 1, 44, 7] })
  })

  it('is root when nothing is said', () => {
    const root = { uid: 0, gid: 0, additionalGids: [0], home: '/root' }
    expect(resolveUser('', files)).toEqual(root)
    expect(resolveUser('0', files)).toEqual(root)
    expect(resolveUser('', {})).toEqual({ ...root, home: '/' })
    expect(resolveUser(':44', files)).toMatchObject({ uid: 0, gid: 44 })
  })

  it('takes digits for an id and never for a name (CVE-2016-3697)', () => {
    expect(resolveUser('1000', files)).toEqual({ uid: 1000, gid: 0, additionalGids: [0], home: '/' })
    expect(resolveUser('1000:44', files)).toMatchObject({ uid: 1000, gid: 44 })
    expect(resolveUser('4294967294', {})).toMatchObject({ uid: 4294967294, gid: 0 })
  })

  it('gives an id its group and home when the image has an account for it', () => {
    expect(resolveUser('1001', files)).toMatchObject({
      uid: 1001,
      gid: 1001,
      additionalGids: [1001, 1, 44],
      home: '/home/app',
    })
    expect(resolveUser('relative', files).home).toBe('/')
  })

  it('refuses numbers that would wrap around or mean something else elsewhere (CVE-2024-40635)', () => {
    for (const user of [
      '4294967295',
      '4294967296',
      '18446744073709551616',
      '-1',
      '+1',
      '01',
      '00',
      '0:4294967295',
      '0:-1',
      'root:01',
      '1:2:3',
      'a\nb',
    ]) {
      expect(() => resolveUser(user, files), user).toThrow(InvalidArgumentError)
    }
  })

  it('does not find accounts whose ids are none', () => {
    for (const user of ['wrap', 'minus', 'short', 'nobody', '1e3', '0x10', ' 1', 'root ', 'app:huge', 'app:nogroup']) {
      expect(() => resolveUser(user, files), user).toThrow(NotFoundError)
    }
    expect(() => resolveUser('app', {})).toThrow(NotFoundError)
    expect(() => resolveUser('app', files, ['nogroup'])).toThrow(NotFoundError)
  })

  it('reads files of bounded size only', () => {
    const large = Buffer.alloc(4 * 1024 * 1024 + 1, '#')
    expect(() => resolveUser('app', { passwd: large })).toThrow(LimitError)
    expect(() => resolveUser('0:app', { group: large })).toThrow(LimitError)
  })

  it('yields ids in range, or an error of ours, whatever the files and the text are', () => {
    let state = 5
    const next = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    const alphabet = ['0', '1', '9', '4294967295', 'a', 'root', ':', ':', '\n', ',', '-', '+', ' ', '\0', 'é', '\ufffd']
    const text = (length: number): string =>
      Array.from({ length: next(length) }, () => alphabet[next(alphabet.length)]).join('')
    let resolved = 0
    for (let round = 0; round < 5000; round++) {
      const user = text(6)
      try {
        const found = resolveUser(user, { passwd: Buffer.from(text(60)), group: Buffer.from(text(60)) })
        resolved++
        for (const id of [found.uid, found.gid, ...found.additionalGids]) {
          expect(Number.isInteger(id) && id >= 0 && id <= 4294967294, user).toBe(true)
        }
        if (/^[1-9]\d*(:|$)/.test(user)) expect(found.uid).toBe(Number.parseInt(user, 10))
      } catch (error) {
        expect(error, user).toBeInstanceOf(OciError)
      }
    }
    expect(resolved).toBeGreaterThan(500)
  })
})
