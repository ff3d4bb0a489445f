// The whole accident, from the alarm to settled accounts: once by mouse, once by keyboard
// alone.  The services of console/demo run beside it; their accounts say whether it worked.

import assert from 'node:assert/strict'
import { after, test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'

let players

t.useConsole(async () => {
  players = new t.Process('demo/players.js', ['--quick'])
})

after(async () => {
  await players?.stop()
})

// Payments sent, booked, and booked without having been sent.  A payment is booked once at
// most: its id is the key of the ledger.
const accounts = async () => (await t.sql(`SELECT (SELECT count(*)::int FROM books.sent) AS sent, (SELECT count(*)::int FROM books.ledger) AS booked,
  (SELECT count(*)::int FROM books.sent WHERE msg_id NOT IN (SELECT msg_id FROM books.ledger)) AS missing,
  (SELECT count(*)::int FROM books.ledger WHERE msg_id NOT IN (SELECT msg_id FROM books.sent)) AS invented`))[0]

// When the consumer broke, in milliseconds.
const firstMissing = () => t.value('SELECT extract(epoch FROM min(cmq.enqueued_at(msg_id)))::float8 * 1000 FROM books.sent WHERE msg_id NOT IN (SELECT msg_id FROM books.ledger)')

const settled = async () => {
  await t.until('the accounts to be settled', async () => {
    const { sent, missing } = await accounts()
    return sent > 0 && missing === 0
  })
  const { sent, booked, invented } = await accounts()
  assert.ok(booked <= sent && invented === 0, 'nothing is booked that was not sent')
}

const left = () => t.value("SELECT left_of_rewind::int FROM cmq.status WHERE queue = 'payments'")
const paused = () => t.value("SELECT paused_since IS NOT NULL FROM cmq.status WHERE queue = 'payments'")

test('the accident by mouse', async () => {
  const { missing } = await accounts()
  assert.ok(missing > 20, 'the consumer has booked nothing for a while')

  const login = await t.newPage(console_)
  await login.goto('/')
  await login.getByLabel('Role').waitFor()
  await t.picture(login, '01-login')
  await t.login(login, 'oncall')
  const page = login
  const range = t.watchRange(page)

  // the list: the queue of the alarm is found, the rates move
  await page.getByRole('searchbox', { name: 'Search by name' }).waitFor()
  await t.says(page.locator('tr', { hasText: 'payments' }).first().locator('[data-name=Sent]'), /\d\/s/, 'a rate of what is sent')
  await t.picture(page, '02-queues')
  await page.getByRole('searchbox', { name: 'Search by name' }).fill('paym')
  await t.until('the list to be searched', async () => (await page.locator('table.queues tbody tr').count()) === 2)
  await page.getByRole('link', { name: 'payments', exact: true }).click()
  await page.locator('.u-over').waitFor()

  // pause, with a reason
  await page.getByRole('button', { name: 'Pause', exact: true }).click()
  const pausing = t.dialogOf(page, 'Pause payments')
  assert.equal(await paused(), false)
  await pausing.getByLabel('Reason').fill('ticket 4711: billing books nothing')
  await pausing.getByRole('button', { name: 'Pause', exact: true }).click()
  await page.getByText('The queue is paused.').waitFor()
  assert.equal(await paused(), true)
  await t.until('nothing to be in flight', async () => (await t.states('payments')).in_flight === undefined)

  // drag over the broken time, to the right edge
  const broken = await firstMissing()
  await drag(page, range, broken)
  const window = await t.chosen(page)
  assert.equal(window.to, null, 'to the right edge is no end')
  assert.ok(window.from <= broken, 'the window begins before the consumer broke')
  const count = await t.counted(page)
  assert.equal(count, await t.historyOf('payments', window.from), 'the preview counts what SQL counts')
  await page.locator('.samples li').first().waitFor()
  assert.match(await page.locator('.samples li').first().innerText(), /"account"/)
  await page.evaluate(() => scrollTo(0, 0))
  await t.picture(page, '03-timeline', { fullPage: true })

  // rewind, with a reason, for exactly that count
  await page.getByRole('button', { name: 'Rewind …' }).click()
  const rewinding = t.dialogOf(page, 'Rewind payments')
  assert.match(await rewinding.innerText(), new RegExp(`${new Intl.NumberFormat('en').format(count)} messages`))
  assert.ok(await rewinding.getByRole('button', { name: 'Rewind', exact: true }).isDisabled(), 'no rewind without a reason')
  await rewinding.getByLabel('Reason').fill('ticket 4711: booked nothing since release 2')
  await t.picture(page, '04-rewind')
  await rewinding.getByRole('button', { name: 'Rewind', exact: true }).click()
  await page.getByText(`The rewind is under way: ${new Intl.NumberFormat('en').format(count)} messages to receive.`).waitFor()

  // paused: it does not drain
  const draining = page.getByRole('region', { name: 'Rewind under way' })
  await t.says(draining, /The queue is paused: resume it/)
  await t.until('two more looks at the queue', async () => {
    for (let i = 0; i < 2; i++) await page.waitForResponse((response) => new URL(response.url()).pathname === '/api/queues/payments')
    return true
  })
  assert.equal(await left(), count, 'a paused queue does not drain')
  assert.equal(await t.numberIn(t.tile(page, 'Left of rewind')), count)
  assert.ok((await accounts()).missing >= missing, 'and nothing is booked')
  await t.until('the release that is mended', () => t.value('SELECT release = 3 FROM books.consumer'))
  await t.picture(page, '05-draining')

  // resume: it drains
  await page.getByRole('button', { name: 'Resume', exact: true }).click()
  const resuming = t.dialogOf(page, 'Resume payments')
  await resuming.getByLabel('Reason').fill('ticket 4711: release 3 is out')
  await resuming.getByRole('button', { name: 'Resume', exact: true }).click()
  await page.getByText('The queue is resumed.').waitFor()
  await page.getByText('All that the rewind brought back has been received.').waitFor()
  assert.equal(await t.numberIn(t.tile(page, 'Left of rewind')), 0)
  assert.equal(await left(), 0)
  await settled()

  // the record: who, what, why
  await page.getByRole('navigation', { name: 'Of this queue' }).getByRole('link', { name: 'Record' }).click()
  const rows = page.locator('table.record tbody tr')
  await t.says(rows, /resume.*oncall.*ticket 4711: release 3 is out/s)
  await t.says(rows, /rewind.*oncall.*cmq console.*ticket 4711: booked nothing since release 2/s)
  await t.says(rows, /pause.*oncall.*ticket 4711: billing books nothing/s)
  await t.picture(page, '06-record')
  const record = await t.sql(`SELECT kind, session_user_name, reason, application_name, start_time IS NOT NULL AS started FROM cmq.rewinds
    WHERE queue = 'payments' AND session_user_name = 'oncall' ORDER BY id`)
  assert.deepEqual(record.map((row) => [row.kind, row.reason]), [
    ['pause', 'ticket 4711: billing books nothing'],
    ['rewind', 'ticket 4711: booked nothing since release 2'],
    ['resume', 'ticket 4711: release 3 is out']])
  assert.ok(record.every((row) => row.application_name === 'cmq console'))
  t.sound(page)
  await page.context().close()
})

// Drag from a little before that time to the right edge.
async function drag(page, range, from) {
  const width = (await page.locator('.u-over').boundingBox()).width
  await t.drag(page, Math.max(0, (from - range.from) / (range.to - range.from) - 4 / width), 1.05)
  await page.getByRole('slider', { name: 'Start of the window' }).waitFor()
}

// Press a key until what has the keyboard is that.
async function tabTo(page, what, test_, key = 'Tab') {
  for (let i = 0; i < 150; i++) {
    if (await page.evaluate(`(${test_})(document.activeElement)`)) return
    await page.keyboard.press(key)
  }
  assert.fail(`the keyboard does not reach ${what}: it is at ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 300))}`)
}
const toButton = (page, name) => tabTo(page, `button ${name}`, `(element) => element.tagName === 'BUTTON' && element.textContent.trim() === ${JSON.stringify(name)}`)
const toLink = (page, name) => tabTo(page, `link ${name}`, `(element) => element.tagName === 'A' && element.textContent.trim() === ${JSON.stringify(name)}`)
const toField = (page, name) => tabTo(page, `field ${name}`, `(element) => [...(element.labels ?? [])].some((label) => label.textContent.trim().startsWith(${JSON.stringify(name)})) || (element.ariaLabel ?? '').startsWith(${JSON.stringify(name)})`)

// The keyboard stays in an open dialog, and sees each of its controls.
async function trapped(page) {
  const seen = new Set()
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press('Tab')
    const where = await page.evaluate(() => {
      const element = document.activeElement
      // from the last control to the first by way of the browser's own
      return element === document.body ? 'browser' : element.closest('dialog') ? 'dialog' : element.outerHTML
    })
    assert.ok(['browser', 'dialog'].includes(where), `the dialog has the keyboard: ${where}`)
    seen.add(where)
  }
  assert.ok(seen.has('dialog'))
}

const focused = (page) => page.evaluate(() => document.activeElement.textContent.trim())

test('the accident by keyboard', async () => {
  // the accounts as they are when the consumer has booked nothing for forty minutes
  await t.sql("DELETE FROM books.ledger WHERE cmq.enqueued_at(msg_id) > now() - interval '40 min'; UPDATE books.consumer SET release = 2")
  const { missing } = await accounts()
  assert.ok(missing > 20)

  const page = await t.newPage(console_)
  for (const device of ['mouse', 'touchscreen']) {
    for (const call of ['click', 'move', 'down', 'tap']) {
      if (page[device][call]) page[device][call] = () => { throw new Error('this test has no mouse') }
    }
  }
  const { keyboard } = page
  await page.goto('/')
  await page.getByLabel('Role').waitFor()
  await toField(page, 'Role')
  await keyboard.type('oncall')
  await toField(page, 'Password')
  await keyboard.type(t.PASSWORD)
  await keyboard.press('Enter')
  await page.getByRole('link', { name: 'payments', exact: true }).waitFor()

  // straight to the content, and to the queue
  await tabTo(page, 'the way to the content', "(element) => element.className === 'skip'")
  await keyboard.press('Enter')
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main')
  await toField(page, 'Search by name')
  await keyboard.type('payments')
  await toLink(page, 'payments')
  await keyboard.press('Enter')
  await page.getByRole('slider').first().waitFor({ state: 'detached' })
  await page.locator('.u-over').waitFor()

  // pause: the dialog has the keyboard, Escape gives it back
  await toButton(page, 'Pause')
  await keyboard.press('Enter')
  await t.dialogOf(page, 'Pause payments').waitFor()
  await trapped(page)
  await keyboard.press('Escape')
  await t.dialogOf(page, 'Pause payments').waitFor({ state: 'detached' })
  assert.equal(await focused(page), 'Pause', 'the keyboard is where it was before the dialog')
  assert.equal(await paused(), false, 'Escape does nothing')
  await keyboard.press('Enter')
  await t.dialogOf(page, 'Pause payments').waitFor()
  assert.equal(await page.evaluate(() => document.activeElement.labels?.[0]?.textContent), 'Reason, for the record', 'a dialog begins at its first field')
  await keyboard.type('ticket 4712: by keyboard')
  await keyboard.press('Enter')
  await page.getByText('The queue is paused.').waitFor()
  assert.equal(await paused(), true)
  await t.until('the keyboard to be where it was', async () => (await focused(page)) === 'Resume')
  await t.until('nothing to be in flight', async () => (await t.states('payments')).in_flight === undefined)

  // the window: all that is shown, then its start is moved by arrows
  const broken = await firstMissing()
  await toButton(page, 'Choose all that is shown')
  await keyboard.press('Enter')
  await page.getByRole('slider', { name: 'Start of the window' }).waitFor()
  const all = await t.chosen(page)
  await tabTo(page, 'the start of the window', "(element) => element.getAttribute('role') === 'slider' && element.ariaLabel === 'Start of the window'", 'Shift+Tab')
  const from = async () => (await t.chosen(page)).from
  await keyboard.press('PageUp')
  const step = (await t.until('the window to begin later', async () => (await from()) > all.from && (await from()) - all.from)) / 10
  assert.ok(step > 0)
  let at = await from()
  while (at + 10 * step < broken) {
    await keyboard.press('PageUp')
    at = await from()
  }
  while (at + step < broken) {
    await keyboard.press('ArrowRight')
    at = await from()
  }
  await keyboard.press('ArrowRight')
  await keyboard.press('ArrowLeft')
  await t.until('the arrows to move the window there and back', async () => Math.abs((await from()) - at) <= 2)
  const window = await t.chosen(page)
  assert.ok(window.from <= broken && window.from > broken - 2 * step, 'the window begins where the consumer broke')
  assert.equal(window.to, null)
  // the end is a slider, too
  await tabTo(page, 'the end of the window', "(element) => element.getAttribute('role') === 'slider' && element.ariaLabel === 'End of the window'")
  await keyboard.press('ArrowLeft')
  await t.until('the window to have an end', async () => (await t.chosen(page)).to !== null)
  await page.getByRole('button', { name: 'Rewind …' }).waitFor({ state: 'detached' })
  await keyboard.press('End')
  await t.until('the window to have no end', async () => (await t.chosen(page)).to === null)

  const count = await t.counted(page)
  assert.equal(count, await t.historyOf('payments', window.from))
  await toButton(page, 'Rewind …')
  await keyboard.press('Enter')
  await t.dialogOf(page, 'Rewind payments').waitFor()
  await trapped(page)
  await toField(page, 'Reason')
  await keyboard.type('ticket 4712: booked nothing')
  await keyboard.press('Enter')
  await page.getByText(/The rewind is under way: [\d,]+ messages to receive\./).waitFor()
  await t.until('the keyboard to be in the page', () => page.evaluate(() => document.activeElement !== document.body && document.activeElement.isConnected))
  assert.equal(await left(), count)
  await t.until('the release that is mended', () => t.value('SELECT release = 3 FROM books.consumer'))

  await toButton(page, 'Resume')
  await keyboard.press('Enter')
  await t.dialogOf(page, 'Resume payments').waitFor()
  await keyboard.type('ticket 4712: release 3')
  await keyboard.press('Enter')
  await page.getByText('All that the rewind brought back has been received.').waitFor()
  await settled()
  await toLink(page, 'Record')
  await keyboard.press('Enter')
  await page.getByText('ticket 4712: booked nothing').waitFor()
  await toButton(page, 'Log out')
  await keyboard.press('Enter')
  await page.getByLabel('Password').waitFor()
  t.sound(page)
})
