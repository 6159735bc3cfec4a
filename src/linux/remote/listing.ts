/** One instruction: its bytes in hexadecimal, the text a disassembler prints for it, and what it is for. */
export type Instruction = readonly [bytes: string, text: string, purpose?: string]

/** A program as its author wrote it; a test compares every text with what `objdump` says of the bytes. */
export type Listing = readonly Instruction[]

/** The machine code of a listing. */
export function machineCode(listing: Listing): Uint8Array {
  return Buffer.from(listing.map(([bytes]) => bytes.replaceAll(' ', '')).join(''), 'hex')
}
