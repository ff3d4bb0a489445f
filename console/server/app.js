// The console as a web server: who may ask, and which question leads to which statement.
//
// What holds for every request, in one place each:
// - Host names that are not the console's are refused (names).
// - /api/ needs a login, but for the login itself (person).
// - All else comes with a token that the login alone has handed out (csrf).
// - What changes something is a POST, with that token, which another site
//   cannot know, and of JSON, which it cannot send (csrf).
// - Answers are never cached, and the page runs scripts of this console alone (helmet).

import { randomBytes } from 'node:crypto'

import cookie from '@fastify/cookie'
import csrf from '@fastify/csrf-protection'
import helmet from '@fastify/helmet'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import fastify from 'fastify'

import { filters, oneQueue, sorts } from './board.js'
import { changes, settingTypes } from './changing.js'
import { connect } from './database.js'
import { answerTo, ConsoleError } from './errors.js'
import * as looking from './looking.js'
import { readPages } from './pages.js'
import { People, SessionStore } from './people.js'

// Schemas of values.  A time is text, so that it keeps its microseconds.
const name = { type: 'string', minLength: 1, maxLength: 63 }
const time = { type: 'string', maxLength: 40, pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,6})?Z$' }
const orNull = (schema) => ({ anyOf: [schema, { type: 'null' }] })
const id = { type: 'string', pattern: '^\\d{1,19}$' }
const ids = { type: 'array', items: id, minItems: 1, maxItems: 1000 }
const filter = { type: 'string', maxLength: 8192 }
const number = (minimum, maximum, more = {}) => ({ type: 'integer', minimum, maximum, ...more })
const count = number(0, Number.MAX_SAFE_INTEGER)
const reason = { type: 'string', minLength: 1, maxLength: 1000, pattern: '\\S' }
const object = (properties, required = Object.keys(properties)) => ({ type: 'object', properties, required, additionalProperties: false })

const settings = object(Object.fromEntries(Object.entries(settingTypes).map(([key, type]) => [key,
  type === 'bool' ? { type: 'boolean' } : type === 'text' ? name : { type: 'integer' }])), [])

// What may be done with a queue, and what it needs to know.
const posts = {
  rewind: object({ start: orNull(time), expected: orNull(count), reason }),
  cancel: object({ reason }),
  restore: object({ start: time, end: orNull(time), filter: orNull(filter), expected: orNull(count), reason }),
  'restore-messages': object({ ids, reason }),
  replay: object({ into: name, start: time, end: orNull(time), filter: orNull(filter), expected: orNull(count), dedup: { type: 'boolean' }, reason }),
  redrive: object({ most: orNull(number(1, 1000000)), ids: orNull(ids), filter: orNull(filter), reason: orNull(reason) }),
  'delete-messages': object({ ids, reason: orNull(reason) }),
  pause: object({ reason }),
  resume: object({ reason: orNull(reason) }),
  clear: object({ name }),
  drop: object({ name }),
  unbind: object({}),
  create: settings,
  alter: settings
}
const method = (path) => path.replace(/-(.)/g, (_, letter) => letter.toUpperCase())

// Coerce what a query string says; bodies are taken as they are.
const ajv = { customOptions: { coerceTypes: false, removeAdditional: false, allErrors: false } }

export async function buildApp(given, log = false) {
  const app = fastify({
    logger: log,
    https: given.tls,
    trustProxy: given.proxied ? 'loopback' : false,
    bodyLimit: 256 * 1024,
    // for a request to come in: nobody holds a connection by sending slowly
    requestTimeout: 30000,
    ajv,
    // a 64-bit number in a body must not lose digits without a word
    onProtoPoisoning: 'error',
    routerOptions: { maxParamLength: 200 }
  })
  const people = new People(given.idleMs)
  const sessions = new SessionStore()
  const { pages, scriptHash } = readPages()
  app.addHook('onClose', () => people.close())

  app.addHook('onRequest', async (request) => {
    if (given.names !== null) {
      const host = (request.headers.host ?? '').toLowerCase().replace(/:\d+$/, '')
      if (!given.names.includes(host)) {
        throw new ConsoleError(421, 'wrong_name', 'This console does not answer to this host name.', {
          hint: 'Use localhost, or say --behind-proxy NAME when it is started.'
        })
      }
    }
    // Pages of others, those of another port of this machine too, cannot ask at all, not even
    // to use up the tries of a login.  Browsers say whose page asks.
    const whose = request.headers['sec-fetch-site']
    if (whose !== undefined && whose !== 'same-origin' && whose !== 'none' && request.url.startsWith('/api/')) {
      throw new ConsoleError(403, 'wrong_site', 'Another page has asked the console for this.')
    }
  })

  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        'default-src': ["'none'"],
        'script-src': ["'self'", scriptHash],
        'style-src': ["'self'"],
        'img-src': ["'self'"],
        'connect-src': ["'self'"],
        'form-action': ["'self'"],
        'base-uri': ["'none'"],
        'frame-ancestors': ["'none'"]
      }
    },
    crossOriginEmbedderPolicy: true,
    referrerPolicy: { policy: 'no-referrer' },
    xFrameOptions: { action: 'deny' },
    strictTransportSecurity: given.secure
  })
  await app.register(cookie)
  await app.register(session, {
    secret: randomBytes(32).toString('hex'),
    cookieName: 'cmq_console',
    saveUninitialized: false,
    rolling: false,
    store: sessions,
    cookie: { httpOnly: true, sameSite: 'strict', secure: given.secure, path: '/' }
  })
  await app.register(csrf, { sessionPlugin: '@fastify/session', getToken: (request) => request.headers['csrf-token'] })
  await app.register(rateLimit, { global: false })

  app.setErrorHandler((error, request, reply) => {
    if (/^FST_CSRF_/.test(error.code) && request.method === 'GET') {
      error = new ConsoleError(401, 'other_login', 'In this browser somebody has logged in anew.')
    }
    const known = answerTo(error, request.method !== 'GET' && request.url !== '/api/login')
    if (known) {
      return reply.code(known.status).send({ error: known.answer })
    }
    if (error.statusCode >= 400 && error.statusCode < 500) {
      return reply.code(error.statusCode).send({ error: { code: error.code ?? 'bad_request', message: error.message } })
    }
    request.log.error(error)
    console.error('cmq console:', error)
    return reply.code(500).send({ error: { code: 'internal', message: 'The console has failed.', hint: 'Its output says why.' } })
  })
  app.setNotFoundHandler((request, reply) => reply.code(404).send({ error: { code: 'not_found', message: 'There is nothing at this address.' } }))

  for (const [path, page] of Object.entries(pages)) {
    app.get(path, (request, reply) => reply.type(page.type).header('cache-control', 'no-cache').send(page.body))
  }

  app.register(async (api) => {
    api.addHook('onSend', async (request, reply) => { reply.header('cache-control', 'no-store') })

    const factsOf = (reply, person) => ({ ...person.database.facts, idle_minutes: given.idleMs / 60000, csrf_token: reply.generateCsrf() })

    // the person who asks, or 401
    const person = async (request) => {
      request.person = people.of(request.session.sessionId)
      if (request.person === undefined) {
        throw new ConsoleError(401, 'no_login', 'You are not logged in, or the login has ended.')
      }
    }

    api.post('/login', {
      schema: { body: object({ role: name, password: { type: 'string', maxLength: 1000 }, database: { type: 'string', maxLength: 63 } }) },
      config: { rateLimit: { max: 20, timeWindow: 60000 } },
      // no token yet: but another site's page cannot send JSON here, and gains nothing by a login
      preHandler: async () => people.checkRoom()
    }, async (request, reply) => {
      let database
      try {
        database = await connect(given, request.body)
      } catch (error) {
        if (['28P01', '28000'].includes(error.code)) {
          throw new ConsoleError(401, error.code, 'PostgreSQL does not let this role in with this password.', { detail: error.message })
        }
        throw error
      }
      const before = request.session.sessionId
      await people.leave(before)
      await request.session.regenerate()
      sessions.destroy(before, () => {})
      people.enter(request.session.sessionId, database)
      return factsOf(reply, people.of(request.session.sessionId))
    })

    api.get('/', async (request) => ({ database: given.server.database, logged_in: people.of(request.session.sessionId) !== undefined }))

    api.register(async (inside) => {
      inside.addHook('onRequest', person)
      inside.addHook('preHandler', async (request, reply) => {
        // Reads too: servers on other ports of this machine get the cookie, and never the token;
        // and another tab may have logged in anew, as another role or to another database.
        await new Promise((resolve, reject) => app.csrfProtection(request, reply, (error) => (error ? reject(error) : resolve())))
      })

      inside.post('/logout', async (request) => {
        await people.leave(request.session.sessionId)
        await request.session.destroy()
        return {}
      })

      inside.get('/session', async (request, reply) => factsOf(reply, request.person))

      const asked = (schema) => ({ schema: { querystring: schema } })
      const text = (schema) => ({ type: 'string', ...schema })
      const whole = () => ({ type: 'string', pattern: '^\\d{1,6}$' })
      const within = (value, least, most) => Math.min(Math.max(Number(value), least), most)

      inside.get('/queues', asked(object({
        sort: { enum: sorts }, order: { enum: ['up', 'down'] }, search: text({ maxLength: 63 }), show: { enum: Object.keys(filters) },
        offset: whole(), limit: whole()
      }, ['sort', 'order', 'show', 'offset', 'limit'])), async (request) => {
        const { sort, order, search = '', show, offset, limit } = request.query
        return request.person.board.page({
          sort, search, show, descending: order === 'down', offset: Number(offset), limit: within(limit, 1, 200)
        })
      })

      inside.get('/record', asked(object({ before: id }, [])), async (request) =>
        looking.record(request.person.database, null, request.query.before ?? null))

      const queueOf = '/queues/:queue'
      const found = async (request) => {
        const queue = await oneQueue(request.person.database, request.params.queue)
        if (queue === null) {
          throw new ConsoleError(404, '42704', `There is no queue ${JSON.stringify(request.params.queue)} that you may see.`, {
            detail: 'It was dropped, or your role has no right on it.'
          })
        }
        return queue
      }
      inside.get(queueOf, found)

      inside.get(`${queueOf}/timeline`, asked(object({ from: time, to: time, buckets: whole() })), async (request) =>
        looking.timeline(request.person.database, request.params.queue, request.query.from, request.query.to, within(request.query.buckets, 1, 400)))

      inside.get(`${queueOf}/count`, asked(object({ from: time, to: time, filter, seconds: text({ pattern: '^\\d{1,9}(\\.\\d{1,6})?$' }) }, ['from'])), async (request) =>
        looking.count(request.person.database, request.params.queue, request.query.from, request.query.to ?? null, request.query.filter ?? null,
          Number(request.query.seconds) || null))

      inside.get(`${queueOf}/messages`, asked(object({
        part: { enum: ['pending', 'history'] }, after_time: time, after_id: id, filter, order: { enum: ['up', 'down'] }, most: whole()
      }, ['part', 'order'])), async (request) => {
        const { part, after_time, after_id, filter, order, most } = request.query
        return looking.messages(request.person.database, request.params.queue, {
          part, after_time, after_id, filter, backwards: order === 'down', most: within(most ?? 50, 1, 200), looked: filter ? 10000 : 5000
        })
      })

      inside.get(`${queueOf}/messages/:id`, { schema: { params: object({ queue: text({}), id }) } }, async (request) =>
        looking.message(request.person.database, request.params.queue, request.params.id))

      inside.get(`${queueOf}/record`, asked(object({ before: id }, [])), async (request) =>
        looking.record(request.person.database, request.params.queue, request.query.before ?? null))

      for (const [path, body] of Object.entries(posts)) {
        inside.post(`${queueOf}/${path}`, { schema: { body } }, async (request) => {
          const done = await changes[method(path)](request.person.database, request.params.queue, request.body)
          request.person.board.forget()
          return done
        })
      }
    })
  }, { prefix: '/api' })

  return app
}
