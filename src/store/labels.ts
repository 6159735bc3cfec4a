/** Labels that something must have, and must not have. */
export interface LabelFilters {
  /** Only what has all these labels; `true` for any value. */
  readonly labels?: Readonly<Record<string, string | true>> | undefined
  /** Only what has none of these labels. */
  readonly withoutLabels?: Readonly<Record<string, string | true>> | undefined
}

/** Whether labels pass the filters. */
export function hasLabels(
  labels: Readonly<Record<string, string>>,
  { labels: wanted = {}, withoutLabels = {} }: LabelFilters,
): boolean {
  const has = ([name, value]: readonly [string, string | true]): boolean =>
    Object.hasOwn(labels, name) && (value === true || labels[name] === value)
  return Object.entries(wanted).every(has) && !Object.entries(withoutLabels).some(has)
}
