export { OciError } from './errors.ts'
