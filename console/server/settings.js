// What the console is told when it is started: where to listen, which server to ask.
//
// Options of the command line alone.  Where PostgreSQL is comes from PGHOST, PGPORT and
// PGDATABASE, as for every client; who asks is said at the login, never here.

import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { checkServerIdentity } from 'node:tls'
import { parseArgs } from 'node:util'

export const usage = `Usage: cmq-console [options]

The web console of cmq.  PGHOST, PGPORT and PGDATABASE say which PostgreSQL server to ask.

  --host ADDRESS         listen here (default 127.0.0.1: this machine alone)
  --port NUMBER          ... and on this port (default 8432; 0: any that is free)
  --cert FILE --key FILE use TLS: required to listen on other than this machine
  --behind-proxy NAME    a proxy on this machine has TLS, and is reached by this host name
  --plain-http           listen on other machines without TLS: passwords can be read
  --trust-server         let in roles from which the server wants no password
  --idle-minutes NUMBER  a login ends when it was not used for so long (default 30)
  --help                 show this
`

export class BadSettings extends Error {}

// of this machine: not any name that begins with 127
export const loopback = (host) => host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))

function number(text, name, least, most) {
  const value = Number(text)
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new BadSettings(`--${name} must be a number from ${least} to ${most}`)
  }
  return value
}

export function readSettings(args, env) {
  let given
  try {
    given = parseArgs({
      args,
      options: {
        host: { type: 'string', default: '127.0.0.1' },
        port: { type: 'string', default: '8432' },
        cert: { type: 'string' },
        key: { type: 'string' },
        'behind-proxy': { type: 'string' },
        'plain-http': { type: 'boolean', default: false },
        'trust-server': { type: 'boolean', default: false },
        'idle-minutes': { type: 'string', default: '30' },
        help: { type: 'boolean', default: false }
      }
    }).values
  } catch (error) {
    throw new BadSettings(error.message)
  }
  const tls = given.cert !== undefined || given.key !== undefined
  if (tls && (given.cert === undefined || given.key === undefined)) {
    throw new BadSettings('--cert and --key go together')
  }
  const proxy = given['behind-proxy']
  if (!loopback(given.host) && !tls && !given['plain-http']) {
    throw new BadSettings(`--host ${given.host} is reached from other machines: give --cert and --key, ` +
      'or stay on 127.0.0.1 behind a proxy that has TLS (--behind-proxy)')
  }
  return {
    help: given.help,
    host: given.host,
    port: number(given.port, 'port', 0, 65535),
    tls: tls ? { cert: readFileSync(given.cert), key: readFileSync(given.key) } : null,
    // cookies are for TLS alone where there is TLS
    secure: tls || proxy !== undefined,
    proxied: proxy !== undefined,
    // Names by which browsers may ask for this console; null: any.  A page of another
    // site cannot reach a console on loopback by a name that it makes resolve to it.
    names: loopback(given.host)
      ? ['localhost', '127.0.0.1', '[::1]', isIP(given.host) === 6 ? `[${given.host}]` : given.host, ...(proxy ? [proxy.toLowerCase()] : [])]
      : null,
    trustServer: given['trust-server'],
    idleMs: number(given['idle-minutes'], 'idle-minutes', 1, 1440) * 60000,
    server: {
      host: env.PGHOST || undefined,
      port: env.PGPORT ? number(env.PGPORT, 'PGPORT', 1, 65535) : undefined,
      database: env.PGDATABASE || 'postgres',
      ssl: sslOf(env)
    }
  }
}

// What libpq's PGSSLMODE says, as far as node-postgres can do it.
//
// The certificate must be for PGHOST, a name or an address.  node-postgres tells Node.js
// names alone, and Node.js would take 'localhost' for every address.
function sslOf(env) {
  const ca = env.PGSSLROOTCERT ? readFileSync(env.PGSSLROOTCERT, 'utf8') : undefined
  const full = { ca, rejectUnauthorized: true, checkServerIdentity: (_, certificate) => checkServerIdentity(env.PGHOST || 'localhost', certificate) }
  switch (env.PGSSLMODE) {
    case undefined:
    case '':
    case 'disable':
      return undefined
    case 'require':
      return ca ? full : { rejectUnauthorized: false }
    case 'verify-ca':
      return { ca, rejectUnauthorized: true, checkServerIdentity: () => undefined }
    case 'verify-full':
      return full
    default:
      throw new BadSettings(`PGSSLMODE=${env.PGSSLMODE}: the console knows disable, require, verify-ca and verify-full`)
  }
}
