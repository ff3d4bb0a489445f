// What the tests of the console share: a console on a port that is free, a browser, pages
// that remember what went wrong in them, and ways to PostgreSQL beside the console.
//
// PGHOST, PGPORT, PGDATABASE and PGUSER name a server with the story of console/demo in it,
// on which PGUSER is a superuser without a password and everybody else has the password demo.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before } from 'node:test'
import { fileURLToPath } from 'node:url'

import pg from 'pg'
import { chromium } from 'playwright-core'

export const PASSWORD = 'demo'
// no test waits for longer
export const LIMIT = 30000

// all tests of a file together
setTimeout(() => { console.error('the tests take too long'); process.exit(1) }, 240000).unref()

const top = fileURLToPath(new URL('..', import.meta.url))
const children = new Set()
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')))

// Ask until the answer is true, and return it.
export async function until(what, ask, limit = LIMIT) {
  const end = Date.now() + limit
  let last
  for (;;) {
    try {
      last = await ask()
      if (last) return last
    } catch (error) {
      last = error
    }
    if (Date.now() > end) assert.fail(`waited in vain for: ${what}; last: ${last?.stack ?? last}`)
    await new Promise((resolve) => setTimeout(resolve, 40))
  }
}

//
// PostgreSQL
//

export async function client(role = process.env.PGUSER) {
  const made = new pg.Client({ user: role, password: PASSWORD, application_name: `test ${role}` })
  made.on('error', () => {})
  await made.connect()
  return made
}

const clients = new Map()
function clientOf(role) {
  if (!clients.has(role)) clients.set(role, client(role))
  return clients.get(role)
}

// Rows of a statement of a role.  64-bit numbers are text.
export async function as(role, text, values = []) {
  return (await (await clientOf(role)).query(text, values)).rows
}

export const sql = (text, values) => as(process.env.PGUSER, text, values)

// ... and the one value of it.
export const value = async (text, values) => Object.values((await sql(text, values))[0] ?? { none: undefined })[0]
export const valueAs = async (role, text, values) => Object.values((await as(role, text, values))[0] ?? { none: undefined })[0]

export async function endClients() {
  const all = [...clients.values()]
  clients.clear()
  await Promise.all(all.map(async (one) => (await one).end().catch(() => {})))
}

// A queue of a role, with so many messages that were consumed and so many that wait.
export async function makeQueue(owner, queue, { settings = 'rewind_seconds => 3600', consumed = 0, pending = 0 } = {}) {
  await as(owner, `SELECT public.cmq_create_queue('${queue}', ${settings})`)
  if (consumed) {
    await as(owner, 'SELECT public.cmq_send_batch($1, ARRAY(SELECT \'old \' || i FROM generate_series(1, $2::int) i))', [queue, consumed])
    await as(owner, 'SELECT public.cmq_consume($1, $2)', [queue, consumed])
  }
  if (pending) await as(owner, 'SELECT public.cmq_send_batch($1, ARRAY(SELECT \'new \' || i FROM generate_series(1, $2::int) i))', [queue, pending])
}

// How many messages of a queue have each state: { ready: 3, deleted: 5 }.
export async function states(queue) {
  const rows = await sql(`SELECT state, count(*)::int AS n FROM cmq."q_${queue}_all" GROUP BY state`)
  return Object.fromEntries(rows.map((row) => [row.state, row.n]))
}

//
// The console
//

export class Process {
  constructor(file, args = [], env = {}) {
    this.out = ''
    this.child = spawn(process.execPath, [path.join(top, file), ...args], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    children.add(this.child)
    this.ended = once(this.child, 'exit').then(([code, signal]) => { children.delete(this.child); return code ?? signal })
    for (const stream of [this.child.stdout, this.child.stderr]) stream.on('data', (data) => { this.out += data })
  }

  async stop(signal = 'SIGTERM') {
    this.child.kill(signal)
    return this.ended
  }
}

// Start a console, and wait until it says where it is.
export async function startConsole({ args = [], env = {}, port = 0 } = {}) {
  const console_ = new Process('server/main.js', ['--port', String(port), ...args], { PGUSER: '', ...env })
  await until('the console to start', () => /The console is at (\S+)\//.test(console_.out) || console_.child.exitCode !== null)
  console_.url = /The console is at (\S+)\//.exec(console_.out)?.[1]
  assert.ok(console_.url, `the console starts: ${console_.out}`)
  console_.port = Number(new URL(console_.url).port)
  return console_
}

// The console of a file of tests: started before them, ended with the browser after them.
// What else is to be there is prepared then.  Not by a hook of its own: hooks of a file
// run at the same time, and it could be there before the console.
export let console_
export function useConsole(prepare = async () => {}) {
  before(async () => {
    console_ = await startConsole()
    await prepare()
  })
  after(async () => {
    await closeBrowser()
    await console_?.stop()
    await endClients()
  })
}

// A request as a program sends it, with any headers: { status, headers, text, json }.
export function ask(url, { method = 'GET', headers = {}, body, agent } = {}) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, agent }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (data) => { text += data })
      response.on('end', () => {
        let json
        try { json = JSON.parse(text) } catch { /* no JSON */ }
        resolve({ status: response.statusCode, headers: response.headers, text, json })
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

// A person without a browser: keeps the cookie and the token as the page does.
export class Visitor {
  constructor(console_) {
    this.url = console_.url
    this.cookie = null
    this.token = null
  }

  async ask(method, where, body, more = {}) {
    const answer = await ask(`${this.url}${where}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(this.cookie ? { cookie: this.cookie } : {}),
        ...(this.token ? { 'csrf-token': this.token } : {}),
        ...more
      },
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body)
    })
    for (const set of answer.headers['set-cookie'] ?? []) this.cookie = set.split(';')[0]
    return answer
  }

  get(where) { return this.ask('GET', where) }

  post(where, body = {}, more = {}) { return this.ask('POST', where, body, more) }

  async login(role, password = PASSWORD) {
    const answer = await this.post('/api/login', { role, password, database: '' })
    this.token = answer.json?.csrf_token ?? null
    return answer
  }
}

//
// The browser
//

let browser = null

export function openBrowser() {
  browser ??= chromium.launch({
    executablePath: process.env.CMQ_TEST_CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync', '--hide-scrollbars', '--force-color-profile=srgb']
  })
  return browser
}

export async function closeBrowser() {
  await (await browser)?.close()
  browser = null
}

// A page of its own person.  What goes wrong in it is in page.faults: errors of scripts,
// violations of the policy for content, dialogs of scripts, requests to other places.
export async function newPage(console_, { width = 1280, height = 900, ...options } = {}) {
  const context = await (await openBrowser()).newContext({
    viewport: { width, height }, timezoneId: 'UTC', locale: 'en-GB', colorScheme: 'light', reducedMotion: 'reduce', baseURL: console_.url, ...options
  })
  context.setDefaultTimeout(LIMIT)
  const page = await context.newPage()
  page.faults = []
  page.on('pageerror', (error) => page.faults.push(`script: ${error.stack ?? error}`))
  page.on('dialog', (dialog) => { page.faults.push(`dialog: ${dialog.message()}`); dialog.dismiss() })
  page.on('request', (sent) => { if (!sent.url().startsWith(console_.url) && !/^(data|blob|about):/.test(sent.url())) page.faults.push(`request: ${sent.url()}`) })
  page.on('console', (said) => {
    // a refused request is on the console, too: those are told by what the page shows
    if (said.type() === 'error' && !/Failed to load resource/.test(said.text())) page.faults.push(`console: ${said.text()}`)
  })
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`))
  })
  return page
}

// Nothing has gone wrong in the page.
export function sound(page) {
  assert.deepEqual(page.faults, [], 'nothing goes wrong in the page')
}

export async function login(page, role, where = '/') {
  await page.goto(`/#${where}`)
  await page.getByLabel('Role').fill(role)
  await page.getByLabel('Password').fill(PASSWORD)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('button', { name: 'Log out' }).waitFor()
}

// A page of a person who has logged in.
export async function enter(console_, role, where, options) {
  const page = await newPage(console_, options)
  await login(page, role, where)
  return page
}

// Go to another place of the console.
export async function go(page, where) {
  await page.evaluate((hash) => { location.hash = hash }, where)
}

export const queueAt = (queue, tab) => `/queue/${encodeURIComponent(queue)}${tab ? `/${tab}` : ''}`

export const dialogOf = (page, title) => page.getByRole('dialog', { name: title })

// The number in a tile.
export const tile = (page, name) => page.locator('.tile', { has: page.getByText(name, { exact: true }) }).locator('dd')
export const numberIn = async (locator) => Number((await locator.innerText()).replaceAll(',', ''))

// Wait until the place says that.
export async function says(locator, pattern, what = `${pattern}`) {
  return until(what, async () => {
    const text = await locator.allInnerTexts()
    return text.some((one) => pattern.test(one)) || Promise.reject(new Error(text.join('\n').slice(0, 2000)))
  })
}

// Drag a window over the chart: from one place of it to another, 0 to 1, or beyond.
export async function drag(page, from, to) {
  const box = await page.locator('.u-over').boundingBox()
  const y = box.y + box.height / 2
  const x = (place) => box.x + place * box.width
  await page.mouse.move(x(from), y)
  await page.mouse.down()
  await page.mouse.move(x((from + to) / 2), y, { steps: 3 })
  await page.mouse.move(x(to), y, { steps: 3 })
  await page.mouse.up()
}

// What the chart shows: the edges of its range, by the last question for it.
export function watchRange(page) {
  const range = { from: null, to: null }
  page.on('request', (sent) => {
    const url = new URL(sent.url())
    if (!url.pathname.endsWith('/timeline')) return
    range.from = Date.parse(url.searchParams.get('from'))
    range.to = Date.parse(url.searchParams.get('to'))
  })
  return range
}

// The chosen window, as the sliders say it: milliseconds, to is null without an end.
export async function chosen(page) {
  const slider = (name) => page.getByRole('slider', { name })
  const end = await slider('End of the window').getAttribute('aria-valuetext')
  return {
    from: Number(await slider('Start of the window').getAttribute('aria-valuenow')),
    to: end === 'no end' ? null : Number(await slider('End of the window').getAttribute('aria-valuenow'))
  }
}

// How many the preview has counted, when it is through.
export async function counted(page) {
  const messages = page.locator('.window dd.messages')
  await says(messages, /^[\d,]+$/, 'the count of the window')
  return numberIn(messages)
}

// How many messages of the history are of the window, by SQL.
export const historyOf = (queue, from, to = null, filter = null) => value(
  `SELECT count(*)::int FROM cmq."q_${queue}_history" WHERE enqueued_at >= to_timestamp($1::float8 / 1000)
     AND ($2::float8 IS NULL OR enqueued_at < to_timestamp($2::float8 / 1000)) AND ($3::jsonb IS NULL OR headers @> $3)`, [from, to, filter])

// Where pictures go.
export const pictures = process.env.CMQ_SCREENSHOTS || mkdtempSync(path.join(tmpdir(), 'cmq-pictures-'))
export const picture = (page, name, options = {}) => page.screenshot({ path: path.join(pictures, `${name}.png`), animations: 'disabled', caret: 'hide', ...options })
