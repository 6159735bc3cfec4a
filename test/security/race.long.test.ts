import { it } from 'vitest'
import { raceRounds } from './race-rounds.ts'
import { attack } from './support.ts'

attack('two processes that exchange what a container is made of', (sandbox) => {
  it('change nothing of the host by it, in 2000 rounds', () => raceRounds(sandbox(), 2000))
})
