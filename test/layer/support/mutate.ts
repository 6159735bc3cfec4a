/** A copy of an archive with some bytes changed, perhaps cut off; the same for the same `seed`. */
export function mutate(archive: Buffer, seed: number): Buffer {
  let state = (seed + 1) * 2_654_435_761
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const mutant = Buffer.from(archive)
  for (let i = random(3); i >= 0; i -= 1) mutant[random(mutant.length)] = random(256)
  fixChecksums(mutant)
  return random(8) === 0 ? mutant.subarray(0, random(mutant.length)) : mutant
}

/** Makes headers valid again, so that a mutation gets past the checksum. */
function fixChecksums(archive: Buffer): void {
  for (let at = 0; at + 512 <= archive.length; at += 512) {
    if (archive.toString('latin1', at + 257, at + 262) !== 'ustar') continue
    archive.fill(' ', at + 148, at + 156)
    const sum = archive.subarray(at, at + 512).reduce((total, byte) => total + byte, 0)
    archive.write(`${sum.toString(8).padStart(6, '0')}\0`, at + 148, 'latin1')
  }
}
