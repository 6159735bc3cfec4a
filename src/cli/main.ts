#!/usr/bin/env node
import { join } from 'node:path'
import { loadCompiled } from './compiled.ts'

loadCompiled<typeof import('./command-line.ts')>(join(__dirname, 'command-line.cjs')).main(process.argv.slice(2))
