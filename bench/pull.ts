import type { Part } from './result.ts'
export async function benchPull(_directory: string, _quick: boolean, _image: string | undefined): Promise<Part> {
  return { title: 'Pull', rows: [], notes: ['not yet'] }
}
