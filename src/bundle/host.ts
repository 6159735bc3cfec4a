import { readdir } from 'node:fs/promises'

/**
 * Paths beyond the constant ones that Docker masks on this machine: the thermal counters of each CPU
 * (GHSA-6fw5-f8r9-fgfm). To be handed to `createSpec` as `host.maskedPaths`; the machine does not
 * change them, so one call in the life of a process will do. Empty where there are none.
 */
export async function hostMaskedPaths(): Promise<readonly string[]> {
  const cpus = '/sys/devices/system/cpu'
  const found = await Promise.all(
    (await list(cpus))
      .filter((name) => /^cpu\d+$/.test(name))
      .map(async (name) => ((await list(`${cpus}/${name}`)).includes(thermal) ? [`${cpus}/${name}/${thermal}`] : [])),
  )
  return found.flat().sort()
}

const thermal = 'thermal_throttle'

async function list(directory: string): Promise<readonly string[]> {
  return await readdir(directory).catch(() => [])
}
