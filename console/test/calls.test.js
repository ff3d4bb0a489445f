// Each call that the page offers: what it does to the queue, and that it does nothing when
// the queue has changed since it was looked at.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'

t.useConsole()

let page

const records = (queue) => t.sql('SELECT kind, session_user_name AS who, reason, messages, filter, into_queue FROM cmq.rewinds WHERE queue = $1 ORDER BY id', [queue])

// A button of a dialog, after the reason was typed if it has one.
async function perform(title, button, { reason, fields = {} } = {}) {
  const dialog = t.dialogOf(page, title)
  await dialog.waitFor()
  for (const [label, text] of Object.entries(fields)) await dialog.getByLabel(label).fill(text)
  if (reason) await dialog.getByLabel(/^Reason/).fill(reason)
  await dialog.getByRole('button', { name: button, exact: true }).click()
  return dialog
}
const done = (text) => page.locator('.done', { hasText: text }).waitFor()
const button = (name) => page.getByRole('button', { name })
const at = (queue, tab) => t.go(page, t.queueAt(queue, tab))

test('log in as the owner', async () => {
  page = await t.enter(console_, 'team', '/')
  await page.locator('table.queues').waitFor()
})

test('a window with an end and a header filter leads to a restore', async () => {
  await t.as('team', "SELECT cmq_pause_queue('payments', 'for tests')")
  const range = t.watchRange(page)
  await at('payments')
  await page.locator('.u-over').waitFor()
  await button('Choose all that is shown').waitFor()
  await t.drag(page, 0.3, 0.6)
  let window = await t.chosen(page)
  assert.ok(window.from > range.from && window.to !== null && window.to < range.to)
  const all = await t.counted(page)
  assert.equal(all, await t.historyOf('payments', window.from, window.to))
  assert.equal(await button('Rewind …').count(), 0, 'a window with an end is no rewind')

  // a filter that is none
  await page.getByLabel('Only messages whose headers contain').fill('{"shop": ')
  await page.getByText('A filter is a JSON object').waitFor()
  await t.until('nothing to be offered', async () => (await button('Restore …').isDisabled()) && (await button('Replay into').isDisabled()))
  await page.getByLabel('Only messages whose headers contain').fill('{"shop": 3}')
  const wanted = await t.historyOf('payments', window.from, window.to, '{"shop": 3}')
  await t.until('the count with the filter', async () => (await t.counted(page)) === wanted)
  assert.ok(wanted > 0 && wanted < all)
  await t.until('samples with the filter', async () => (await page.locator('.samples li').count()) > 0)

  // an end that is dragged
  const handle = await page.getByRole('slider', { name: 'End of the window' }).boundingBox()
  await page.mouse.move(handle.x + handle.width / 2, handle.y + handle.height / 2)
  await page.mouse.down()
  await page.mouse.move(handle.x - 60, handle.y + handle.height / 2, { steps: 4 })
  await page.mouse.up()
  await t.until('the end to be dragged', async () => (await t.chosen(page)).to < window.to)
  window = await t.chosen(page)
  const less = await t.historyOf('payments', window.from, window.to, '{"shop": 3}')
  await t.until('the count of the smaller window', async () => (await t.counted(page)) === less)
  assert.ok(less < wanted)

  // the times of the form are the same window
  assert.equal(await page.getByLabel('to before').inputValue(), new Date(window.to).toISOString().slice(0, 19))
  const end = new Date(Math.floor(window.to / 1000) * 1000 - 600000).toISOString().slice(0, 19)
  await page.getByLabel('to before').fill(end)
  await t.until('the time that was typed', async () => (await t.chosen(page)).to === Date.parse(`${end}Z`))
  window = await t.chosen(page)
  const count = await t.historyOf('payments', window.from, window.to, '{"shop": 3}')
  await t.until('the count of the window that was typed', async () => (await t.counted(page)) === count)

  await button('Restore …').click()
  await perform('Restore payments', 'Restore', { reason: 'shop 3 alone' })
  await done(`${count} messages restored.`)
  const brought = await t.value(`SELECT count(*)::int FROM cmq.q_payments_live WHERE rewind_count > 0 AND headers @> '{"shop": 3}'
    AND enqueued_at >= to_timestamp($1::float8 / 1000) AND enqueued_at < to_timestamp($2::float8 / 1000)`, [window.from, window.to])
  assert.equal(brought, count)
  assert.equal((await t.states('payments')).ready, count, 'and nothing else')
  assert.deepEqual((await records('payments')).at(-1), { kind: 'restore', who: 'team', reason: 'shop 3 alone', messages: String(count), filter: { shop: 3 }, into_queue: null })
  await t.says(page.locator('.legend'), new RegExp(`Brought back ${count}\\b`))
})

test('a backlog that forbids the rewind: the restore that does it is offered', async () => {
  // what was restored waits since the middle of the window: behind it no rewind may begin
  const range = t.watchRange(page)
  await at('')
  await at('payments')
  await page.locator('.u-over').waitFor()
  await button('Choose all that is shown').waitFor()
  await t.drag(page, 0.8, 1.05)
  const window = await t.chosen(page)
  assert.ok(range.from < window.from && window.to === null)
  const count = await t.counted(page)
  await page.getByText('A rewind cannot start here').waitFor()
  assert.equal(await button('Rewind …').count(), 0)
  await assert.rejects(t.as('team', 'SELECT cmq_rewind($1, to_timestamp($2::float8 / 1000))', ['payments', window.from]), 'PostgreSQL says the same')
  const before = (await t.states('payments')).ready
  await button('Restore …').click()
  await perform('Restore payments', 'Restore', { reason: 'in place of a rewind' })
  await done(`${new Intl.NumberFormat('en').format(count)} messages restored.`)
  assert.equal((await t.states('payments')).ready, before + count)
})

test('a cancel of a rewind that is under way', async () => {
  await t.makeQueue('team', 'cancelled', { consumed: 20 })
  await t.as('team', "SELECT cmq_pause_queue('cancelled', 'first')")
  await at('cancelled')
  await button('Choose all that is shown').click()
  assert.equal(await t.counted(page), 20)
  await button('Rewind …').click()
  await perform('Rewind cancelled', 'Rewind', { reason: 'a mistake' })
  await done('The rewind is under way: 20 messages to receive.')
  await page.getByText('20 messages are left to receive').waitFor()
  await t.as('team', "SELECT cmq_resume_queue('cancelled')")
  assert.equal((await t.as('team', "SELECT cmq_consume('cancelled', 7)")).length, 7)
  await page.getByText(/13 messages are left to receive, 7 received/).waitFor()
  assert.equal(await page.locator('.draining progress').getAttribute('value'), '7')
  await button('Cancel the rewind').click()
  await perform('Cancel the rewind of cancelled', 'Cancel the rewind', { reason: 'it was a mistake' })
  await done('The rewind is cancelled.')
  assert.deepEqual(await t.states('cancelled'), { deleted: 20 })
  assert.equal((await t.as('team', "SELECT cmq_consume('cancelled', 20)")).length, 0, 'nothing is delivered')
  assert.deepEqual((await records('cancelled')).map((row) => [row.kind, row.reason]).at(-1), ['cancel', 'it was a mistake'])
})

test('the count is no longer right: nothing happens, and the page says so', async () => {
  await t.makeQueue('team', 'moving', { consumed: 10, pending: 5 })
  await at('moving')
  await button('Choose all that is shown').click()
  assert.equal(await t.counted(page), 10)
  // five wait since behind the ten: a rewind may start at the beginning
  await button('Rewind …').click()
  await t.dialogOf(page, 'Rewind moving').waitFor()
  await t.dialogOf(page, 'Rewind moving').getByText('The queue is not paused').waitFor()
  assert.equal((await t.as('team', "SELECT cmq_consume('moving', 3)")).length, 3)
  await perform('Rewind moving', 'Rewind', { reason: 'too late' })
  await t.says(t.dialogOf(page, 'Rewind moving'), /would bring back 13 messages, not 10.*Nothing was changed.*Pause the queue/s)
  assert.deepEqual(await t.states('moving'), { deleted: 13, ready: 2 })
  assert.deepEqual(await records('moving'), [])
  await page.keyboard.press('Escape')
  await t.until('the count to be made again', async () => (await t.counted(page)) === 13)

  // the same with a restore
  await button('Restore …').click()
  await t.dialogOf(page, 'Restore moving').waitFor()
  assert.equal((await t.as('team', "SELECT cmq_consume('moving', 1)")).length, 1)
  await perform('Restore moving', 'Restore', { reason: 'too late again' })
  await t.says(t.dialogOf(page, 'Restore moving').locator('.problem'), /14.*13|13.*14/s)
  assert.deepEqual(await t.states('moving'), { deleted: 14, ready: 1 })
  assert.deepEqual(await records('moving'), [])

  // not bound to the count: it happens
  await t.dialogOf(page, 'Restore moving').getByLabel('only if it is exactly').uncheck()
  await perform('Restore moving', 'Restore')
  await done('14 messages restored.')
  assert.deepEqual(await t.states('moving'), { ready: 15 })
})

test('a replay into another queue', async () => {
  await t.makeQueue('team', 'source', { consumed: 12 })
  await t.makeQueue('team', 'copies', {})
  await at('source')
  await button('Choose all that is shown').click()
  assert.equal(await t.counted(page), 12)
  await button('Replay into another queue …').click()
  // into a queue that is not there: PostgreSQL's words, and the dialog stays
  await perform('Replay source', 'Replay', { reason: 'to try release 3', fields: { 'Into queue': 'nowhere' } })
  await t.says(t.dialogOf(page, 'Replay source').locator('.problem'), /nowhere/)
  await perform('Replay source', 'Replay', { fields: { 'Into queue': 'copies' } })
  await done('12 messages copied into copies.')
  assert.deepEqual(await t.states('source'), { deleted: 12 })
  assert.deepEqual(await t.states('copies'), { ready: 12 })
  const { kind, reason, into_queue: into } = (await records('source')).at(-1)
  assert.deepEqual([kind, reason, into], ['replay', 'to try release 3', 'copies'])
})

test('chosen messages: a restore, and a deletion', async () => {
  await t.makeQueue('team', 'chosen', { consumed: 5, pending: 4 })
  await at('chosen', 'messages')
  const rows = page.locator('table.messages tbody tr')
  await t.until('the pending messages', async () => (await rows.count()) === 4)
  await button('History').click()
  await t.until('the history', async () => (await rows.count()) === 5)
  await page.getByLabel('Text of this page').fill('old 2')
  await t.until('the text to be searched', async () => (await rows.count()) === 1)
  await rows.getByRole('checkbox').check()
  await page.getByLabel('Text of this page').fill('OLD 5')
  await t.says(rows, /old 5/)
  await rows.getByRole('checkbox').check()
  await page.getByText('2 messages chosen').waitFor()
  await button('Restore …').click()
  await perform('Restore 2 messages of chosen', 'Restore', { reason: 'these two' })
  await done('2 messages restored.')
  const live = async () => (await t.sql('SELECT body FROM cmq.q_chosen_live ORDER BY enqueued_at')).map((row) => row.body)
  assert.deepEqual(await live(), ['old 2', 'old 5', 'new 1', 'new 2', 'new 3', 'new 4'])
  assert.deepEqual((await records('chosen')).at(-1).reason, 'these two')

  await page.getByLabel('Text of this page').fill('')
  await page.getByRole('group', { name: 'Part' }).getByRole('button', { name: 'Pending' }).click()
  await t.until('the pending messages again', async () => (await rows.count()) === 6)
  await page.getByLabel('Text of this page').fill('new')
  await t.until('four of them', async () => (await rows.count()) === 4)
  await page.getByLabel('Choose all that are shown').check()
  await page.getByText('4 messages chosen').waitFor()
  // one is received meanwhile: a message in flight is not deleted
  await t.as('team', "SELECT cmq_receive('chosen', 3)")
  await button('Delete …').click()
  await perform('Delete 4 messages of chosen', 'Delete')
  await done('3 messages deleted; 1 had changed meanwhile')
  assert.deepEqual(await live(), ['old 2', 'old 5', 'new 1'])

  // one message and its life
  const id = await t.value("SELECT msg_id FROM cmq.q_chosen_history WHERE body = 'new 3'")
  await page.getByLabel('Message id').fill(id)
  await button('Show').click()
  const one = t.dialogOf(page, `Message ${id}`)
  await t.says(one, /produced.*deleted by team/s)
  await one.getByRole('button', { name: 'Restore …' }).click()
  await perform('Restore 1 message of chosen', 'Restore', { reason: 'and this one' })
  await t.says(one, /a restore reached it by team: and this one/)
  assert.ok((await live()).includes('new 3'))
  await page.keyboard.press('Escape')
  await one.waitFor({ state: 'detached' })
  // an id that is not there
  await page.getByLabel('Message id').fill('1')
  await button('Show').click()
  await t.says(t.dialogOf(page, 'Message 1'), /has no message 1/)
  await page.keyboard.press('Escape')
})

test('dead letters: one is sent back, then all', async () => {
  await at('payments', 'letters')
  const rows = page.locator('table.messages tbody tr')
  await t.until('the letters', async () => (await rows.count()) === 5)
  await t.says(rows, /payments.*received too often.*XTS/s)
  const waiting = async () => t.value("SELECT count(*)::int FROM cmq.q_payments_live WHERE body LIKE '%XTS%'")
  assert.equal(await waiting(), 0)
  await rows.first().getByRole('checkbox').check()
  await button('Redrive 1 chosen letter …').click()
  await perform('Redrive 1 message of payments_dead', 'Redrive')
  await done('1 message sent back.')
  assert.equal(await waiting(), 1)
  await t.until('four letters', async () => (await rows.count()) === 4)
  // none of this shop's
  await page.getByLabel('Headers contain').fill('{"shop": 1}')
  await button('Search').click()
  await page.getByText('Nothing here.').waitFor()
  await page.getByLabel('Headers contain').fill('')
  await button('Search').click()
  await t.until('four letters again', async () => (await rows.count()) === 4)
  await button('Redrive all …').click()
  await perform('Redrive from payments_dead', 'Redrive', { fields: { 'At most': '1' } })
  await done('1 letter sent back.')
  assert.equal(await waiting(), 2)
  // from the side of the letters
  await at('payments_dead', 'letters')
  await page.getByText('Dead letters of payments come here.').waitFor()
  await button('Redrive all …').click()
  await perform('Redrive from payments_dead', 'Redrive')
  await done('3 letters sent back.')
  assert.equal(await waiting(), 5)
  assert.deepEqual(await t.states('payments_dead'), { deleted: 5 })
})

test('create, alter, clear, drop', async () => {
  await t.go(page, '/')
  await page.getByRole('link', { name: 'New queue' }).click()
  await page.getByLabel('Name', { exact: true }).fill('Fresh-1')
  await page.getByLabel('Most receives').fill('4')
  await button('Create').click()
  // a policy needs a queue for the letters: PostgreSQL's words
  await page.locator('.problem').waitFor()
  await page.getByLabel('Dead-letter queue').fill('payments_dead')
  await page.getByLabel('Visibility timeout').fill('77')
  await button('Create').click()
  await page.getByRole('heading', { name: 'Fresh-1' }).waitFor()
  const setting = (name) => t.value(`SELECT ${name} FROM cmq.queues WHERE queue = 'Fresh-1'`)
  assert.equal(await setting('visibility_timeout'), 77)
  assert.equal(await setting('rewind_seconds'), 345600)
  assert.equal(await setting('owner'), 'team')

  await at('Fresh-1', 'settings')
  await page.getByLabel('Visibility timeout').fill('88')
  await page.getByLabel('Rewind (s)').fill('0')
  await page.getByText('This switches rewind off').waitFor()
  await page.getByLabel('Rewind (s)').fill('600')
  await page.getByText('What is older than the new rewind time').waitFor()
  await button('Change').click()
  await done('The settings are changed.')
  assert.deepEqual([await setting('visibility_timeout'), await setting('rewind_seconds'), await setting('max_receive_count')], [88, 600, 4])
  await t.until('nothing more to change', () => button('Change').isDisabled())

  await button('End the dead-letter policy …').click()
  await perform('End the dead-letter policy', 'End it')
  await done('The dead-letter policy has ended.')
  assert.equal(await setting('dead_letter_queue'), null)

  await t.as('team', "SELECT cmq_send_batch('Fresh-1', '{a,b,c}')")
  await button('Clear …').click()
  let dialog = t.dialogOf(page, 'Clear Fresh-1')
  assert.ok(await dialog.getByRole('button', { name: 'Clear for good' }).isDisabled())
  await dialog.getByLabel('Type the name').fill('fresh-1')
  assert.ok(await dialog.getByRole('button', { name: 'Clear for good' }).isDisabled(), 'another name')
  await dialog.getByLabel('Type the name').fill('Fresh-1')
  await dialog.getByRole('button', { name: 'Clear for good' }).click()
  await done('3 messages removed.')
  assert.deepEqual(await t.states('Fresh-1'), {})

  await button('Drop …').click()
  dialog = t.dialogOf(page, 'Drop Fresh-1')
  await dialog.getByLabel('Type the name').fill('Fresh-1')
  await dialog.getByRole('button', { name: 'Drop for good' }).click()
  await page.getByRole('heading', { name: 'Queues' }).waitFor()
  assert.equal(await setting('queue'), undefined)
  await t.until('the list without it', async () => (await page.getByRole('link', { name: 'Fresh-1' }).count()) === 0)
})

test('nothing went wrong in the page', () => t.sound(page))
