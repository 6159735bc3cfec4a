/** Made at the first use, and kept. */
export function lazy<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

/** Keeps what was made last: for arguments with the same key the same again. */
export function lastOf<Arguments extends readonly unknown[], T>(
  keyOf: (...args: Arguments) => string,
  make: (...args: Arguments) => T,
): (...args: Arguments) => T {
  let last: { readonly key: string; readonly value: T } | undefined
  return (...args) => {
    const key = keyOf(...args)
    if (last?.key !== key) last = { key, value: make(...args) }
    return last.value
  }
}
