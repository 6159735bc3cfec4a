import { createServer, type Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { InvalidArgumentError } from '../errors.ts'
import { type Bytes, type Duration, toBytes, toMilliseconds } from '../internal/units.ts'
import type { GarbageOptions, GarbageReport } from './garbage.ts'
import { createRegistryHandler, type RegistryHandlerOptions } from './handler.ts'
import { memoryStorage } from './memory-storage.ts'
import { serve } from './node-http.ts'
import type { RegistryStorage } from './storage.ts'

/** Options of {@link createRegistryServer}. */
export interface RegistryServerOptions extends Omit<RegistryHandlerOptions, 'storage'> {
  /** Where the content is kept; default `memoryStorage()`. */
  readonly storage?: RegistryStorage | undefined
  /** Address to listen on; default `127.0.0.1`. */
  readonly host?: string | undefined
  /** Port to listen on; default 0, a free one. */
  readonly port?: number | undefined
  /** Certificate and key to speak TLS with; default none: plain HTTP. */
  readonly tls?: RegistryTls | undefined
  /** Whether the process may end while the server listens; default false. */
  readonly unref?: boolean | undefined
  /** How long a client may leave a request or response in its middle; default one minute. */
  readonly idleTimeout?: Duration | undefined
  /**
   * Bytes per second that a client must send or take of a body, measured over `idleTimeout`; default
   * 1 KiB. Keeps clients from holding connections by sending a byte now and then; 0 for no minimum.
   */
  readonly minTransferRate?: Bytes | undefined
  /** How long `close()` lets requests finish that have begun; default one second. */
  readonly closeTimeout?: Duration | undefined
  /** Connections at a time; default 1000. Further ones are closed. */
  readonly maxConnections?: number | undefined
}

/** What a server needs for TLS; each in PEM form. */
export interface RegistryTls {
  /** The certificate, with those between it and its authority. */
  readonly cert: string | Uint8Array
  readonly key: string | Uint8Array
  /** The authority whose certificates clients must have; default clients need none. */
  readonly clientCa?: string | Uint8Array | undefined
}

/** A registry that listens. Closes when it is disposed of. */
export interface RegistryServer extends AsyncDisposable {
  /** Host and port, as the first part of a reference: `127.0.0.1:41233`. */
  readonly host: string
  readonly port: number
  /** `http://`, or `https://` with TLS, and the host. */
  readonly url: string
  /** As `RegistryHandler.collectGarbage`. */
  collectGarbage(options?: GarbageOptions): Promise<GarbageReport>
  /** Stops listening and ends all connections. Can be called again. */
  close(): Promise<void>
}

/**
 * Starts a registry by distribution-spec 1.1 on a Node HTTP server.
 * @throws InvalidArgumentError, or what `listen` of node:net gives: EADDRINUSE, EACCES.
 */
export async function createRegistryServer(options: RegistryServerOptions = {}): Promise<RegistryServer> {
  const port = options.port ?? 0
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new InvalidArgumentError('port must be an integer from 0 to 65535', { subject: 'port' })
  }
  const handler = createRegistryHandler({ ...options, storage: options.storage ?? memoryStorage() })
  const idle = toMilliseconds(options.idleTimeout ?? '1m', 'idleTimeout')
  const grace = toMilliseconds(options.closeTimeout ?? '1s', 'closeTimeout')
  const rate = toBytes(options.minTransferRate ?? '1k', 'minTransferRate')
  const server = makeServer(options.tls, idle)
  server.maxConnections = options.maxConnections ?? 1000
  const secure = options.tls !== undefined
  const exchanges = serve(server, { handler, pace: { idle, rate }, secure })
  await listen(server, port, options.host ?? '127.0.0.1')
  server.on('error', (error) => options.onError?.(error))
  if (options.unref) server.unref()
  const { address, family, port: actual } = server.address() as AddressInfo
  const host = `${family === 'IPv6' ? `[${address}]` : address}:${actual}`
  let closing: Promise<void> | undefined
  const close = (): Promise<void> => {
    closing ??= closeServer(server, grace).then(() => exchanges.settled())
    return closing
  }
  const url = `${secure ? 'https' : 'http'}://${host}`
  const { collectGarbage } = handler
  return { host, port: actual, url, collectGarbage, close, [Symbol.asyncDispose]: close }
}

function makeServer(tls: RegistryTls | undefined, idle: number): Server {
  // A blob may take hours: what ends a request is a client that does next to nothing.
  const timeouts = {
    requestTimeout: 0,
    headersTimeout: Math.max(idle, 1),
    connectionsCheckingInterval: Math.min(Math.max(idle, 100), 30_000),
    keepAliveTimeout: 30_000,
  }
  if (tls === undefined) return createServer(timeouts)
  const { cert, key, clientCa } = tls
  const client = clientCa === undefined ? {} : { ca: pem(clientCa), requestCert: true, rejectUnauthorized: true }
  try {
    const handshakeTimeout = Math.max(idle, 1)
    return createSecureServer({ ...timeouts, handshakeTimeout, cert: pem(cert), key: pem(key), ...client })
  } catch (error) {
    const message = `the certificate or key can't be used: ${error instanceof Error ? error.message : error}`
    throw new InvalidArgumentError(message, { subject: 'tls', cause: error })
  }
}

function pem(text: string | Uint8Array): Buffer {
  return Buffer.from(text)
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

function closeServer(server: Server, grace: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => server.closeAllConnections(), grace)
    server.close(() => {
      clearTimeout(timer)
      resolve()
    })
    server.closeIdleConnections()
  })
}
