// tsup builds the two formats at once, so neither may empty the directory that both write to.
import { rmSync } from 'node:fs'

rmSync(new URL('../dist', import.meta.url), { recursive: true, force: true })
