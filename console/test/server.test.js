// The console as a web server: what it tells browsers, whom it lets in, what it refuses,
// and where passwords are not.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { request as requestTls } from 'node:https'
import { connect, createServer as createRelay } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { TLSSocket } from 'node:tls'

import { buildApp } from '../server/app.js'
import { readSettings } from '../server/settings.js'
import * as t from './lib.js'
import { console_ } from './lib.js'

t.useConsole()

async function visitor(role = 'oncall', of = console_) {
  const made = new t.Visitor(of)
  const answer = await made.login(role)
  assert.equal(answer.status, 200, answer.text)
  return made
}

const connections = (role) => t.value("SELECT count(*)::int FROM pg_stat_activity WHERE usename = $1 AND application_name = 'cmq console'", [role])
const paused = () => t.value("SELECT paused_since IS NOT NULL FROM cmq.status WHERE queue = 'payments'")

test('headers of the page and of answers', async () => {
  for (const where of ['/', '/app.js', '/style.css', '/lib/preact.js', '/api/', '/api/queues', '/nowhere']) {
    const { headers } = await t.ask(`${console_.url}${where}`)
    const policy = Object.fromEntries(headers['content-security-policy'].split(';').map((part) => { const [name, ...rest] = part.trim().split(' '); return [name, rest.join(' ')] }))
    assert.equal(policy['default-src'], "'none'", where)
    assert.match(policy['script-src'], /^'self' 'sha256-[A-Za-z0-9+/=]+'$/)
    for (const name of ['style-src', 'img-src', 'connect-src', 'form-action']) assert.equal(policy[name], "'self'", name)
    for (const name of ['base-uri', 'frame-ancestors']) assert.equal(policy[name], "'none'", name)
    assert.ok(!/unsafe|\*|http:|data:/.test(headers['content-security-policy']))
    assert.equal(headers['x-content-type-options'], 'nosniff')
    assert.equal(headers['x-frame-options'], 'DENY')
    assert.equal(headers['referrer-policy'], 'no-referrer')
    assert.equal(headers['cross-origin-opener-policy'], 'same-origin')
    assert.equal(headers['cross-origin-resource-policy'], 'same-origin')
    assert.equal(headers['access-control-allow-origin'], undefined)
    assert.equal(headers['x-powered-by'], undefined)
    assert.equal(headers.server, undefined)
    if (where.startsWith('/api/')) assert.equal(headers['cache-control'], 'no-store', where)
  }
})

test('no other files are served', async () => {
  for (const where of ['/server/app.js', '/package.json', '/../package.json', '/..%2fpackage.json', '/lib/../../package.json', '/web/app.js', '/%2e%2e/server/main.js', '//etc/passwd', '/lib/pg.js', '/node_modules/pg/package.json']) {
    assert.equal((await t.ask(`${console_.url}${where}`)).status, 404, where)
  }
})

test('cookies', async () => {
  const stranger = await t.ask(`${console_.url}/`)
  assert.equal(stranger.headers['set-cookie'], undefined, 'no cookie without a login')
  const made = new t.Visitor(console_)
  const answer = await made.login('oncall')
  assert.equal(answer.headers['set-cookie'].length, 1)
  const [cookie] = answer.headers['set-cookie']
  assert.match(cookie, /^cmq_console=/)
  assert.match(cookie, /; HttpOnly/)
  assert.match(cookie, /; SameSite=Strict/)
  assert.match(cookie, /; Path=\//)
  assert.doesNotMatch(cookie, /Secure|Domain/)
  // a login gives another session: one that was planted before is worth nothing
  const first = made.cookie
  await made.login('team')
  assert.notEqual(made.cookie, first)
  assert.equal((await t.ask(`${console_.url}/api/session`, { headers: { cookie: first } })).status, 401)
  await made.post('/api/logout')
})

test('TLS: the cookie is for TLS alone', async () => {
  const dir = mkdtempSync(path.join(tmpdir(), 'cmq-tls-'))
  const [key, cert] = [path.join(dir, 'key.pem'), path.join(dir, 'cert.pem')]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=localhost', '-days', '2', '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const secure = await t.startConsole({ args: ['--cert', cert, '--key', key] })
  assert.match(secure.url, /^https:/)
  const answer = await new Promise((resolve, reject) => {
    const sent = requestTls(`${secure.url}/api/login`, { method: 'POST', rejectUnauthorized: false, headers: { 'content-type': 'application/json' } }, (response) => { response.resume(); resolve(response) })
    sent.on('error', reject)
    sent.end(JSON.stringify({ role: 'oncall', password: t.PASSWORD, database: '' }))
  })
  assert.equal(answer.statusCode, 200)
  assert.match(answer.headers['set-cookie'][0], /; Secure/)
  assert.match(answer.headers['strict-transport-security'], /max-age=\d+/)
  await secure.stop()
  // behind a proxy with TLS: for TLS alone, too, and by the proxy's name
  const proxied = await t.startConsole({ args: ['--behind-proxy', 'Queues.example'] })
  const login = (headers) => t.ask(`${proxied.url}/api/login`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify({ role: 'oncall', password: t.PASSWORD, database: '' }) })
  const good = await login({ host: 'queues.example', 'x-forwarded-proto': 'https', 'x-forwarded-for': '192.0.2.7' })
  assert.equal(good.status, 200, good.text)
  assert.match(good.headers['set-cookie'][0], /; Secure/)
  assert.equal((await login({ host: 'other.example', 'x-forwarded-proto': 'https' })).status, 421)
  await proxied.stop()
})

// The server behind TLS with this certificate, at an address; without one it has no TLS.
async function behindTls(address, names) {
  const dir = mkdtempSync(path.join(tmpdir(), 'cmq-tls-'))
  const [key, cert] = [path.join(dir, 'key.pem'), path.join(dir, 'cert.pem')]
  if (names) execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=of a test', '-addext', `subjectAltName=${names}`, '-days', '2', '-keyout', key, '-out', cert], { stdio: 'ignore' })
  const ends = new Set()
  const server = createRelay((socket) => {
    ends.add(socket.on('error', () => {}))
    // the client's request for TLS has 8 bytes, and it waits for the answer
    socket.once('data', () => {
      socket.write(names ? 'S' : 'N')
      if (!names) return
      const inside = new TLSSocket(socket, { isServer: true, key: readFileSync(key), cert: readFileSync(cert) })
      const there = connect(`${process.env.PGHOST}/.s.PGSQL.${process.env.PGPORT}`)
      for (const end of [inside, there]) ends.add(end.on('error', () => { inside.destroy(); there.destroy() }))
      inside.pipe(there).pipe(inside)
    })
  })
  await once(server.listen(0, address), 'listening')
  return { cert, port: String(server.address().port), close: () => { for (const end of ends) end.destroy(); server.close() } }
}

test('TLS to PostgreSQL: a certificate must be for PGHOST, name or address, and of an authority', async () => {
  for (const [host, names, mode, trusted, wanted] of [
    ['127.0.0.1', 'IP:127.0.0.1', 'verify-full', true, 200],
    // what Node.js takes for the name of every address
    ['127.0.0.1', 'DNS:localhost', 'verify-full', true, /IP: 127\.0\.0\.1 is not in the cert's list/],
    ['127.0.0.1', 'IP:127.0.0.2', 'verify-full', true, /IP: 127\.0\.0\.1 is not in the cert's list/],
    ['localhost', 'DNS:localhost', 'verify-full', true, 200],
    ['localhost', 'IP:127.0.0.1,DNS:db.example.com', 'verify-full', true, /Host: localhost\. is not in the cert's altnames/],
    ['127.0.0.1', 'IP:127.0.0.1', 'verify-full', false, /self-signed certificate/],
    ['127.0.0.1', 'DNS:localhost', 'verify-ca', true, 200],
    ['127.0.0.1', 'IP:127.0.0.1', 'verify-ca', false, /self-signed certificate/],
    ['127.0.0.1', 'DNS:localhost', 'require', false, 200],
    ['127.0.0.1', 'DNS:localhost', 'require', true, /IP: 127\.0\.0\.1 is not in the cert's list/],
    ['127.0.0.1', null, 'verify-full', false, /does not support SSL/]
  ]) {
    const what = `${mode}, ${host} with ${names}, authority ${trusted}`
    const server = await behindTls(host, names)
    const there = await t.startConsole({ env: { PGHOST: host, PGPORT: server.port, PGSSLMODE: mode, PGSSLROOTCERT: trusted ? server.cert : '' } })
    const answer = await new t.Visitor(there).login('oncall')
    if (wanted === 200) {
      assert.equal(answer.status, 200, `${what}: ${answer.text}`)
    } else {
      assert.equal(answer.status, 502, `${what}: ${answer.text}`)
      assert.equal(answer.json.error.code, 'untrusted', what)
      assert.match(answer.json.error.detail, wanted, what)
      assert.match(answer.json.error.hint, /PGSSLROOTCERT/, what)
    }
    await there.stop()
    server.close()
  }
})

const everything = [
  ['GET', '/api/session'], ['GET', '/api/queues?sort=queue&order=up&show=all&offset=0&limit=10'], ['GET', '/api/record'], ['POST', '/api/logout'],
  ['GET', '/api/queues/payments'], ['GET', '/api/queues/payments/record'], ['GET', '/api/queues/payments/messages?part=pending&order=up'], ['GET', '/api/queues/payments/messages/1'],
  ['GET', '/api/queues/payments/timeline?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&buckets=10'], ['GET', '/api/queues/payments/count?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z'],
  ...['rewind', 'cancel', 'restore', 'restore-messages', 'replay', 'redrive', 'delete-messages', 'pause', 'resume', 'clear', 'drop', 'unbind', 'create', 'alter'].map((call) => ['POST', `/api/queues/payments/${call}`])
]

test('without a login there is nothing', async () => {
  // these are all routes that there are: the source names no other
  const source = readFileSync(new URL('../server/app.js', import.meta.url), 'utf8')
  const posts = /const posts = \{([^]*?)\n\}/.exec(source)[1].match(/^ {2}'?[a-z-]+'?:/gm).map((line) => line.replace(/[ ':]/g, ''))
  assert.deepEqual(posts.sort(), everything.filter(([, where]) => where.startsWith('/api/queues/payments/')).filter(([method]) => method === 'POST').map(([, where]) => where.split('/').at(-1)).sort())
  assert.equal(source.match(/inside\.(get|post|put|delete|patch|all)\(/g).length, everything.length - posts.length + 1)
  for (const [method, where] of everything) {
    for (const cookie of [undefined, 'cmq_console=', 'cmq_console=abc.def', 'cmq_console=%00']) {
      const answer = await t.ask(`${console_.url}${where}`, {
        method, headers: { ...(method === 'POST' ? { 'content-type': 'application/json' } : {}), ...(cookie ? { cookie } : {}) }, body: method === 'POST' ? '{}' : undefined
      })
      assert.equal(answer.status, 401, `${method} ${where} with ${cookie}: ${answer.text}`)
    }
  }
})

test('what changes something needs the token of this login', async () => {
  const one = await visitor('oncall')
  const other = await visitor('oncall')
  const body = JSON.stringify({ reason: 'not by me' })
  const pause = (headers, text = body) => t.ask(`${one.url}/api/queues/payments/pause`, { method: 'POST', headers: { cookie: one.cookie, 'content-type': 'application/json', ...headers }, body: text })
  const refused = {
    'no token': await pause({}),
    'an empty token': await pause({ 'csrf-token': '' }),
    'a token that is made up': await pause({ 'csrf-token': `${one.token.slice(0, -2)}xx` }),
    "another login's token": await pause({ 'csrf-token': other.token }),
    'the token elsewhere': await pause({}, JSON.stringify({ reason: 'x', _csrf: one.token })),
    'in the address': await t.ask(`${one.url}/api/queues/payments/pause?_csrf=${one.token}`, { method: 'POST', headers: { cookie: one.cookie, 'content-type': 'application/json' }, body }),
    'a form': await pause({ 'content-type': 'application/x-www-form-urlencoded', 'csrf-token': one.token }, 'reason=x'),
    'plain text': await pause({ 'content-type': 'text/plain', 'csrf-token': one.token }),
    'several parts': await pause({ 'content-type': 'multipart/form-data; boundary=x', 'csrf-token': one.token }, '--x--'),
    'another site': await pause({ 'csrf-token': one.token, origin: 'http://evil.example', 'sec-fetch-site': 'cross-site' }),
    'another port of this machine': await pause({ 'csrf-token': one.token, 'sec-fetch-site': 'same-site' })
  }
  for (const [what, answer] of Object.entries(refused)) assert.ok([400, 403, 415].includes(answer.status), `${what}: ${answer.status} ${answer.text}`)
  assert.equal(await paused(), false)
  // and no other method leads to a call
  for (const method of ['PUT', 'PATCH', 'DELETE', 'GET']) {
    assert.equal((await t.ask(`${one.url}/api/queues/payments/pause`, { method, headers: { cookie: one.cookie, 'csrf-token': one.token } })).status, 404, method)
  }
  assert.equal((await pause({ 'csrf-token': one.token })).status, 200, 'the same with the token')
  assert.equal(await paused(), true)
  await t.as('team', "SELECT cmq_resume_queue('payments')")
  await Promise.all([one.post('/api/logout'), other.post('/api/logout')])
})

test('a page of another site, in a browser', async () => {
  const page = await t.enter(console_, 'oncall', t.queueAt('payments'))
  await page.locator('.u-over').waitFor()
  const target = `${console_.url}/api/queues/payments/pause`
  const evil = createServer((request, response) => {
    response.setHeader('content-type', 'text/html')
    response.end(`<title>evil</title><form method="post" enctype="text/plain" action="${target}"><input name='{"reason":"' value='"}'></form><iframe src="${console_.url}/"></iframe>`)
  })
  await new Promise((resolve) => evil.listen(0, '127.0.0.1', resolve))
  for (const host of ['127.0.0.1', 'localhost']) {
    const other = await page.context().newPage()
    await other.goto(`http://${host}:${evil.address().port}/`)
    const said = await other.evaluate(async (where) => {
      const tries = [
        fetch(where, { method: 'POST', mode: 'no-cors', credentials: 'include', body: '{"reason":"x"}' }),
        fetch(where, { method: 'POST', credentials: 'include', headers: { 'content-type': 'application/json' }, body: '{"reason":"x"}' }),
        fetch(where.replace('/payments/pause', ''), { credentials: 'include' }).then((answer) => answer.text())
      ]
      return (await Promise.allSettled(tries)).map((one) => `${one.status} ${one.value?.type ?? one.value ?? ''}`)
    }, target)
    assert.deepEqual(said, ['fulfilled opaque', 'rejected ', 'rejected '], host)
    // a frame of the console shows nothing, nor does a form reach it
    assert.equal(await other.frameLocator('iframe').locator('#app').count(), 0, 'no frame of the console')
    await other.evaluate(() => document.forms[0].submit())
    await other.waitForURL(target)
    assert.match(await other.locator('body').innerText(), /error/)
    await other.close()
  }
  assert.equal(await paused(), false)
  evil.close()
  evil.closeAllConnections()
  t.sound(page)
  await page.context().close()
})

test('the cookie alone, which other ports of this machine see, reads nothing and gets no token', async () => {
  const one = await visitor()
  for (const [method, where] of everything) {
    if (method !== 'GET') continue
    const answer = await t.ask(`${console_.url}${where}`, { headers: { cookie: one.cookie } })
    assert.equal(answer.status, 401, where)
    assert.doesNotMatch(answer.text, /csrf_token|oncall/)
  }
  assert.equal((await one.get('/api/session')).status, 200)
  await one.post('/api/logout')
})

test('other host names are refused', async () => {
  const one = await visitor()
  for (const host of ['evil.example', `evil.example:${console_.port}`, '127.0.0.1.evil.example', 'localhost.evil.example', '[::2]', '0.0.0.0']) {
    for (const where of ['/', '/api/session']) {
      const answer = await t.ask(`${console_.url}${where}`, { headers: { host, cookie: one.cookie } })
      assert.ok([400, 421].includes(answer.status), `${host}: ${answer.status}`)
      assert.doesNotMatch(answer.text, /oncall/)
    }
  }
  for (const host of ['localhost', `LocalHost:${console_.port}`, '127.0.0.1']) {
    assert.equal((await t.ask(`${console_.url}/api/session`, { headers: { host, cookie: one.cookie, 'csrf-token': one.token } })).status, 200, host)
  }
  await one.post('/api/logout')
})

test('who is let in', async () => {
  const nobody = new t.Visitor(console_)
  const wrong = await nobody.login('oncall', 'wrong')
  assert.deepEqual([wrong.status, wrong.json.error.code], [401, '28P01'])
  const unknown = await nobody.login('no such role', 'wrong')
  assert.equal(unknown.status, 401)
  assert.equal(nobody.cookie, null)
  // the superuser needs no password on this server: so anybody could be it
  const trusted = await nobody.login(process.env.PGUSER, '')
  assert.deepEqual([trusted.status, trusted.json.error.code], [403, 'no_password'])
  assert.equal((await nobody.login(process.env.PGUSER, 'anything')).status, 403)
  await t.until('its connection to be closed', async () => (await connections(process.env.PGUSER)) === 0)
  const elsewhere = await nobody.post('/api/login', { role: 'oncall', password: t.PASSWORD, database: 'template1' })
  assert.deepEqual([elsewhere.status, elsewhere.json.error.code], [400, 'no_extension'])
  assert.equal((await nobody.post('/api/login', { role: 'oncall', password: t.PASSWORD, database: 'nowhere' })).json.error.code, '3D000')
  for (const body of ['', '[]', 'null', '{}', '{"role":1}', '{"role":"oncall","password":"demo","database":"","more":1}', '{"__proto__":{"role":"oncall"},"password":"x","database":""}']) {
    assert.equal((await nobody.post('/api/login', body)).status, 400, body)
  }
  const open = await t.startConsole({ args: ['--trust-server'] })
  assert.match(open.out, /lets in every role/)
  assert.equal((await new t.Visitor(open).login(process.env.PGUSER, '')).status, 200)
  await open.stop()
})

test('tries of a login are limited', async () => {
  const limited = await t.startConsole()
  const guesser = new t.Visitor(limited)
  const statuses = []
  for (let i = 0; i < 22; i++) statuses.push((await guesser.login('oncall', `guess ${i}`)).status)
  assert.equal(statuses[0], 401)
  assert.deepEqual(statuses.slice(-2), [429, 429])
  assert.equal((await guesser.login('oncall')).status, 429, 'the right password, too')
  await limited.stop()
})

test('logout closes the connections', async () => {
  assert.equal(await connections('accountant'), 0)
  // another console: the tries of this one are used up
  const own = await t.startConsole()
  const one = await visitor('accountant', own)
  await one.get('/api/queues?sort=queue&order=up&show=all&offset=0&limit=10')
  assert.ok(await connections('accountant') > 0)
  const cookie = one.cookie
  assert.equal((await one.post('/api/logout')).status, 200)
  await t.until('no connection', async () => (await connections('accountant')) === 0)
  assert.equal((await t.ask(`${one.url}/api/session`, { headers: { cookie, 'csrf-token': one.token } })).status, 401, 'the cookie is worth nothing any more')
  await own.stop()
})

test('a login that is not used ends, and so do its connections', async () => {
  const given = readSettings(['--port', '0'], process.env)
  const app = await buildApp({ ...given, idleMs: 1500 })
  await app.listen({ host: '127.0.0.1', port: 0 })
  const one = await visitor('accountant', { url: `http://127.0.0.1:${app.server.address().port}` })
  assert.equal((await one.get('/api/session')).status, 200)
  assert.ok(await connections('accountant') > 0)
  await t.until('no connection', async () => (await connections('accountant')) === 0)
  assert.equal((await one.get('/api/session')).status, 401)
  // the end of the process ends all
  const two = await visitor('accountant', one)
  assert.ok(await connections('accountant') > 0)
  await app.close()
  assert.equal(await connections('accountant'), 0)
  assert.ok(two.cookie)
})

test('the password is nowhere', async () => {
  const secret = 'S3cret-of-the-test'
  await t.sql(`CREATE ROLE keeper LOGIN PASSWORD '${secret}'; GRANT USAGE ON SCHEMA cmq TO keeper`)
  const own = await t.startConsole()
  const answers = []
  const one = new t.Visitor(own)
  answers.push(await one.login('keeper', `${secret}x`), await one.login('keeper', secret))
  assert.equal(answers.at(-1).status, 200)
  for (const [method, where] of everything) if (method === 'GET') answers.push(await one.get(where))
  answers.push(await one.post('/api/queues/payments/pause', { reason: 'x' }), await one.post('/api/login', `{"role":"keeper","password":"${secret}",`))
  for (const answer of answers) assert.ok(!(answer.text + JSON.stringify(answer.headers)).includes(secret), answer.text)
  for (const file of ['cmdline', 'environ']) assert.ok(!readFileSync(`/proc/${own.child.pid}/${file}`, 'latin1').includes(secret), file)
  assert.equal(await t.value("SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE '%S3cret-of-%' AND pid <> pg_backend_pid()"), 0)
  await own.stop()
  assert.ok(!own.out.includes(secret), 'not in what it prints')
})

test('where it listens', async () => {
  const refuses = async (args, pattern) => {
    const child = new t.Process('server/main.js', args)
    assert.equal(await child.ended, 2)
    assert.match(child.out, pattern)
  }
  await Promise.all([
    ...['0.0.0.0', '::', '192.0.2.1', 'console.example', '1270.0.0.1', '127.0.0.1.example', '127.example'].map((host) => refuses(['--host', host, '--port', '0'], /give --cert and --key/)),
    refuses(['--cert', '/nowhere'], /go together/),
    refuses(['--port', '99999'], /--port must be a number/),
    refuses(['--password', 'x'], /--password/)])
  // by default this machine alone
  const sockets = execFileSync('sh', ['-c', 'cat /proc/net/tcp /proc/net/tcp6'], { encoding: 'utf8' })
  const port = console_.port.toString(16).toUpperCase().padStart(4, '0')
  const listening = sockets.split('\n').filter((line) => new RegExp(`:${port} [0-9A-F]+:0000 0A`).test(line)).map((line) => line.trim().split(/ +/)[1])
  assert.deepEqual(listening, [`0100007F:${port}`])
  const plain = await t.startConsole({ args: ['--host', '0.0.0.0', '--plain-http'] })
  await plain.stop()
})

test('requests that are too much, or no requests', async () => {
  // another console: the tries of this one are used up
  const own = await t.startConsole()
  const one = await visitor('oncall', own)
  assert.equal((await one.post('/api/queues/payments/pause', JSON.stringify({ reason: 'x'.repeat(300000) }))).status, 413)
  assert.equal((await one.post('/api/queues/payments/pause', { reason: 'x'.repeat(1001) })).status, 400)
  assert.equal((await one.post('/api/queues/payments/pause', { reason: '  ' })).status, 400)
  assert.equal((await one.post('/api/queues/payments/pause', { reason: 'x', queue: 'mails' })).status, 400)
  assert.equal((await one.post('/api/queues/payments/pause', '{"reason":"x","__proto__":{"a":1}}')).status, 400)
  assert.equal((await one.post('/api/queues/payments/rewind', { start: 'now', expected: null, reason: 'x' })).status, 400)
  assert.equal((await one.post('/api/queues/payments/rewind', { start: null, expected: '1; DROP', reason: 'x' })).status, 400)
  assert.equal((await one.post('/api/queues/payments/restore-messages', { ids: ['1 OR 1'], reason: 'x' })).status, 400)
  for (const name of ["x'; DROP TABLE books.ledger; --", 'a"b', '%00', 'q'.repeat(150), 'payments%20', 'PAYMENTS']) {
    const answer = await one.get(`/api/queues/${name.startsWith('%') || name.endsWith('%20') ? name : encodeURIComponent(name)}`)
    assert.ok([400, 404, 409].includes(answer.status), `${name}: ${answer.status} ${answer.text}`)
  }
  assert.equal((await one.get('/api/queues?sort=ready;drop&order=up&show=all&offset=0&limit=1')).status, 400)
  assert.equal((await one.get('/api/queues?sort=__proto__&order=up&show=all&offset=0&limit=1')).status, 400)
  assert.equal((await one.get('/api/queues?sort=queue&order=up&show=constructor&offset=0&limit=1')).status, 400)
  assert.equal(await paused(), false)
  await own.stop()
})
