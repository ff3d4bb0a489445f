// A connection that breaks and comes back: PostgreSQL, the console, and the answer to a call.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'

t.useConsole()

// pg_ctl for the server of the tests
async function pgCtl(...args) {
  const child = spawn(process.env.CMQ_TEST_PG_CTL, ['-D', process.env.CMQ_TEST_PGDATA, '-s', '-w', ...args], { stdio: 'ignore' })
  const [code] = await once(child, 'exit')
  assert.equal(code, 0, `pg_ctl ${args.join(' ')}`)
}

const banner = (page) => page.locator('.trouble')

test('PostgreSQL goes away and comes back', async () => {
  const page = await t.enter(console_, 'oncall', t.queueAt('payments'))
  await page.locator('.u-over').waitFor()
  const before = await t.numberIn(t.tile(page, 'History'))
  assert.ok(before > 0)
  await t.endClients()
  await pgCtl('stop', '-m', 'immediate')
  await banner(page).waitFor()
  await t.says(banner(page), /may be old/)
  assert.equal(await t.numberIn(t.tile(page, 'History')), before, 'what was read stays')
  await pgCtl('start', '-l', `${process.env.CMQ_TEST_PGDATA}/restarted.log`)
  await banner(page).waitFor({ state: 'detached' })
  // it goes on by itself, with new numbers and without a new login
  await t.as('shop', "SELECT public.cmq_send('payments', 'after the crash')")
  await t.until('the new message to be seen', async () => await t.numberIn(t.tile(page, 'Ready')) === 1)
  t.sound(page)
  await page.context().close()
})

test('PostgreSQL comes back to a page that shows a refusal', async () => {
  const page = await t.enter(console_, 'oncall', t.queueAt('never_made'))
  await t.says(page.getByRole('alert'), /never_made/)
  await t.endClients()
  await pgCtl('stop', '-m', 'immediate')
  await banner(page).waitFor()
  await pgCtl('start', '-l', `${process.env.CMQ_TEST_PGDATA}/restarted.log`)
  await banner(page).waitFor({ state: 'detached' })
  t.sound(page)
  await page.context().close()
})

test('the console is started anew', async () => {
  const own = await t.startConsole()
  const page = await t.enter(own, 'oncall', t.queueAt('payments', 'record'))
  await page.getByRole('region', { name: 'Record' }).waitFor()
  await own.stop('SIGKILL')
  await banner(page).waitFor()
  const again = await t.startConsole({ port: own.port })
  await t.says(page.getByRole('alert'), /Your login has ended/)
  assert.equal(await page.getByLabel('Role').inputValue(), 'oncall')
  await page.getByLabel('Password').fill(t.PASSWORD)
  await page.getByRole('button', { name: 'Log in' }).click()
  // the same place as before
  await page.getByRole('region', { name: 'Record' }).waitFor()
  assert.equal(await page.evaluate(() => location.hash), `#${t.queueAt('payments', 'record')}`)
  t.sound(page)
  await page.context().close()
  await again.stop()
})

test('the answer to a call is lost', async () => {
  const page = await t.enter(console_, 'oncall', t.queueAt('mails'))
  const posts = []
  page.on('request', (sent) => { if (sent.method() === 'POST') posts.push(new URL(sent.url()).pathname) })
  await page.getByRole('button', { name: 'Pause', exact: true }).click()
  const dialog = t.dialogOf(page, 'Pause mails')
  await dialog.getByLabel('Reason').fill('ticket 2: whose answer is lost')
  // the call waits in the midst of its transaction, until its connection is cut
  const locker = await t.client()
  await locker.query("BEGIN; LOCK TABLE cmq.rewind_log IN ACCESS EXCLUSIVE MODE")
  await dialog.getByRole('button', { name: 'Pause', exact: true }).click()
  const waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'cmq console' AND wait_event_type = 'Lock' AND query LIKE '%cmq_pause_queue%'"
  const [{ pid }] = await t.until('the call to wait', async () => {
    const rows = await t.sql(waiting)
    return rows.length > 0 && rows
  })
  await t.sql('SELECT pg_terminate_backend($1)', [pid])
  await t.says(dialog.getByRole('alert'), /It is not known whether the call took effect/)
  await locker.query('ROLLBACK')
  await locker.end()
  assert.equal(await dialog.getByLabel('Reason').inputValue(), 'ticket 2: whose answer is lost', 'what was typed stays')
  // nothing is repeated by itself: some polls later there was one call, and it had no effect
  let polls = 0
  page.on('response', (answer) => { if (answer.request().method() === 'GET' && answer.ok()) polls++ })
  await t.until('some polls', async () => polls >= 4)
  assert.deepEqual(posts.filter((path) => path.endsWith('/pause')), ['/api/queues/mails/pause'])
  assert.equal(await t.value("SELECT count(*)::int FROM cmq.rewinds WHERE queue = 'mails'"), 0)
  // whoever sends it again has it done once
  await dialog.getByRole('button', { name: 'Pause', exact: true }).click()
  await t.says(page.getByRole('status'), /The queue is paused/)
  assert.equal(await t.value("SELECT count(*)::int FROM cmq.rewinds WHERE queue = 'mails'"), 1)
  t.sound(page)
  await page.context().close()
})
