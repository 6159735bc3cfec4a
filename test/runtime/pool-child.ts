import { readFileSync } from 'node:fs'
import { createPool, type PoolOptions } from '../../src/runtime/index.ts'

// A process of its own that fills a pool and does not close it. Usage: pool-child.ts <file with the options> [hold]
const pool = createPool(JSON.parse(readFileSync(process.argv[2] as string, 'utf8')) as PoolOptions)
await pool.full()
if (process.argv[3] === 'hold') setInterval(() => {}, 1000)
process.stdout.write('full\n')
