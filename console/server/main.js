#!/usr/bin/env node
// cmq-console: start the console, say where it is, stop when told.

import { buildApp } from './app.js'
import { BadSettings, loopback, readSettings, usage } from './settings.js'

let settings
try {
  settings = readSettings(process.argv.slice(2), process.env)
} catch (error) {
  if (!(error instanceof BadSettings) && error.code !== 'ENOENT' && error.code !== 'EACCES') throw error
  console.error(`cmq-console: ${error.message}`)
  process.exit(2)
}
if (settings.help) {
  process.stdout.write(usage)
  process.exit(0)
}

const app = await buildApp(settings)
try {
  await app.listen({ host: settings.host, port: settings.port })
} catch (error) {
  console.error(`cmq-console: ${error.message}`)
  process.exit(1)
}
const { port } = app.server.address()
const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host
console.log(`The console is at http${settings.tls ? 's' : ''}://${host}:${port}/`)
if (settings.trustServer) {
  console.log('It lets in every role from which the server wants no password.')
}

const { host: server, ssl } = settings.server
if (server !== undefined && !server.startsWith('/') && !loopback(server) && ssl === undefined) {
  console.log(`Between the console and PostgreSQL on ${server} nothing is encrypted, and nobody checks which server answers: PGSSLMODE=verify-full does both.`)
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await app.close()
    process.exit(0)
  })
}
