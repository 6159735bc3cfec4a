#!/usr/bin/env node
import * as module from 'node:module'
import { homedir } from 'node:os'

/**
 * Has Node keep what it compiles, where nobody else may write: who can write there decides what we run. Node 22
 * and newer can; its own place for that is below /tmp.
 */
function keepCompiled(): void {
  const { enableCompileCache } = module as { enableCompileCache?: (directory: string) => unknown }
  if (process.env.NODE_COMPILE_CACHE !== undefined || process.env.NODE_DISABLE_COMPILE_CACHE !== undefined) return
  const { XDG_CACHE_HOME } = process.env
  const own = process.geteuid?.() === 0 ? '/var/cache' : (XDG_CACHE_HOME ?? `${homedir()}/.cache`)
  enableCompileCache?.(`${own}/oci-ts/compiled`)
}

keepCompiled()
void import('./command-line.ts').then(({ main }) => main(process.argv.slice(2)))
