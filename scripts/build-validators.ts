/**
 * Compiles the JSON Schemas of spec-schemas/ to TypeScript modules without imports, so that nothing
 * is compiled when the library runs and ajv is not loaded by its users.
 *
 *   tsx scripts/build-validators.ts
 *
 * The table says which schemas become which module. Every schema of a folder can refer to the others
 * of the folder, and to those of the folders named in `with`.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020, type AnySchemaObject } from 'ajv/dist/2020.js'
import standalone from 'ajv/dist/standalone/index.js'

interface Target {
  /** Folder of spec-schemas/. */
  readonly folder: string
  /** Further folders that its schemas refer to. */
  readonly with?: readonly string[]
  /** Module to write, from the root of the repository. */
  readonly output: string
  /** Exported function -> schema file of the folder. */
  readonly validators: Readonly<Record<string, string>>
}

const targets: readonly Target[] = [
  {
    folder: 'image',
    output: 'src/image/validators.generated.ts',
    validators: {
      validateManifest: 'manifest.json',
      validateIndex: 'index.json',
      validateConfig: 'config.json',
      validateLayout: 'layout.json',
    },
  },
  {
    folder: 'runtime',
    output: 'src/bundle/validators.generated.ts',
    validators: {
      validateConfig: 'config.json',
      validateProcess: 'process.json',
      validateResources: 'resources.json',
      validateState: 'state.json',
      validateFeatures: 'features.json',
    },
  },
]

/** Functions of ajv's that compiled code would import, and what stands in for them. */
const replacements: Readonly<Record<string, string>> = {
  'ajv/dist/runtime/ucs2length': '((text) => Array.from(text).length)',
}

/**
 * ajv joins the faults of parts with `concat`, which takes minutes for a document of megabytes that is
 * wrong everywhere. A thousand are enough: nobody reads more, and one makes the document invalid.
 */
const append = `
function append(faults, more) {
  for (const fault of more) if (faults.length < 1000) faults.push(fault);
  return faults;
}
`

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

for (const target of targets) build(target)

function build(target: Target): void {
  const schemas = [target.folder, ...(target.with ?? [])].flatMap(readFolder)
  const ajv = new Ajv2020({
    schemas,
    allErrors: true,
    allowUnionTypes: true,
    code: { source: true, esm: true },
  })
  const ids = Object.fromEntries(
    Object.entries(target.validators).map(([name, file]) => [name, idOf(join(target.folder, file))]),
  )
  writeIfChanged(join(root, target.output), render(target, standalone.default(ajv, ids)))
}

function readFolder(folder: string): readonly AnySchemaObject[] {
  const path = join(root, 'spec-schemas', folder)
  return readdirSync(path)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => readSchema(join(folder, name)))
}

function readSchema(file: string): AnySchemaObject {
  const schema: unknown = JSON.parse(readFileSync(join(root, 'spec-schemas', file), 'utf8'))
  if (typeof schema !== 'object' || schema === null) throw new Error(`${file} is not a JSON Schema`)
  return schema as AnySchemaObject
}

function idOf(file: string): string {
  const { $id } = readSchema(file)
  if (typeof $id !== 'string') throw new Error(`${file} has no $id`)
  return $id
}

function render(target: Target, code: string): string {
  let typed = code.replace(/^"use strict";/, '')
  for (const [module, own] of Object.entries(replacements))
    typed = typed.replaceAll(`require("${module}").default`, own)
  typed = typed.replaceAll('vErrors.concat(', 'append(vErrors, ') + append
  const needed = /\brequire\(("[^"]+")\)|^import .*$/m.exec(typed)
  if (needed !== null) {
    throw new Error(
      `${target.output} would need ${needed[1] ?? needed[0]} at run time: avoid the keyword that asks for it`,
    )
  }
  for (const name of Object.keys(target.validators)) {
    const declaration = new RegExp(`export const ${name} = (\\w+);`)
    if (!declaration.test(typed)) throw new Error(`${target.output}: ajv did not export ${name}`)
    typed = typed.replace(declaration, `export const ${name}: SchemaValidator = $1;\n`)
  }
  const types = relative(dirname(target.output), 'src/internal/schema.ts').replaceAll('\\', '/')
  return `// @ts-nocheck
// Written by scripts/build-validators.ts from spec-schemas/${target.folder}. Do not edit.
import type { SchemaValidator } from '${types}'
${typed}
`
}

/** An unchanged file keeps its time, so that watchers do not start again. */
function writeIfChanged(path: string, text: string): void {
  try {
    if (readFileSync(path, 'utf8') === text) return
  } catch {
    // It is not there yet.
  }
  writeFileSync(path, text)
}
