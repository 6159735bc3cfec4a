import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { LayerError } from '../../../src/errors.ts'
import { applyLayer } from '../../../src/layer/apply/apply.ts'
import { type Scratch, stream } from './apply.ts'
import { type TestEntry, tar } from './tar.ts'
import { tree } from './tree.ts'

/** Applies random layers: none may make the plan disagree with the disk, or touch anything outside. */
export async function applyRandomLayers(scratch: Scratch, rounds: number): Promise<void> {
  for (let round = 0; round < rounds; round += 1) {
    const entries = randomEntries(round)
    const place = scratch.directory()
    const target = join(place, 'target')
    mkdirSync(target)
    mkdirSync(join(place, 'a'))
    writeFileSync(join(place, 'a', 'b'), 'untouched')
    const before = tree(join(place, 'a'))
    const failure = await applyLayer(stream(tar(...entries)), target).catch((error: unknown) => error)
    // A refusal is fine; a system call that fails would mean that the plan took the disk for something else.
    if (failure instanceof Error && !(failure instanceof LayerError)) {
      throw new Error(`round ${round}: ${JSON.stringify(entries)}`, { cause: failure })
    }
    expect(tree(join(place, 'a'))).toEqual(before)
    expect(readdirSync(place).sort()).toEqual(['a', 'target'])
  }
}

/** A few names that collide with each other, through every kind of entry. */
export function randomEntries(seed: number): readonly TestEntry[] {
  let state = (seed + 1) * 2_654_435_761
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T
  const part = (): string => pick(['a', 'b', 'c', 'a', 'b', '.', '..'])
  const path = (): string => Array.from({ length: 1 + random(4) }, part).join('/')
  const inside = (): string => path().replaceAll('..', 'c')
  return Array.from({ length: 3 + random(25) }, (): TestEntry => {
    const name = random(12) === 0 ? path() : inside()
    switch (random(9)) {
      case 0:
      case 1:
        return { name: `${name}/`, type: '5', mode: 0o755 }
      case 2:
      case 3:
        return { name, type: '2', linkName: pick(['', '/', '../']) + path() }
      case 4:
        return { name, type: '1', linkName: inside() }
      case 5:
        return { name: `${name}/.wh.${pick(['a', 'b', 'c'])}` }
      case 6:
        return { name: `${name}/.wh..wh..opq` }
      case 7:
        return { name, type: '6' }
      default:
        return { name, content: 'x'.repeat(random(3) === 0 ? 70_000 : random(100)) }
    }
  })
}
