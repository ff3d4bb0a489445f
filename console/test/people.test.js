// Two people at once with the same queue: the second sees what has happened, in words, and
// nothing happens twice.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'

let ann // oncall
let ben // team

t.useConsole(async () => {
  await t.makeQueue('team', 'shared', { consumed: 30 })
  await t.as('team', 'GRANT SELECT, UPDATE ON cmq.q_shared TO oncall')
})

const record = async () => (await t.sql("SELECT kind, session_user_name AS who FROM cmq.rewinds WHERE queue = 'shared' ORDER BY id")).map((row) => `${row.kind} ${row.who}`)

async function open(page, button, title) {
  await page.getByRole('button', { name: button }).click()
  const dialog = t.dialogOf(page, title)
  await dialog.waitFor()
  return dialog
}

test('both look at the same queue', async () => {
  [ann, ben] = await Promise.all([t.enter(console_, 'oncall', t.queueAt('shared')), t.enter(console_, 'team', t.queueAt('shared'))])
  for (const page of [ann, ben]) await page.locator('.u-over').waitFor()
})

test('both pause it', async () => {
  const dialogs = [await open(ann, 'Pause', 'Pause shared'), await open(ben, 'Pause', 'Pause shared')]
  await dialogs[0].getByLabel('Reason').fill('I am first')
  await dialogs[1].getByLabel('Reason').fill('I am second')
  await dialogs[0].getByRole('button', { name: 'Pause', exact: true }).click()
  await ann.getByText('The queue is paused.').waitFor()
  // the dialog of the second still says what it was opened for
  await ben.getByText(/Paused since/).waitFor()
  assert.equal(await ben.locator('dialog h2').innerText(), 'Pause shared', 'an open dialog does not become another one')
  await dialogs[1].getByRole('button', { name: 'Pause', exact: true }).click()
  await ben.getByText('Somebody else had paused the queue already.').waitFor()
  assert.equal(await t.value("SELECT paused_since IS NOT NULL FROM cmq.status WHERE queue = 'shared'"), true)
  assert.deepEqual(await record(), ['pause oncall'])
})

test('both rewind it', async () => {
  const dialogs = []
  for (const page of [ann, ben]) {
    await page.getByRole('button', { name: 'Choose all that is shown' }).click()
    assert.equal(await t.counted(page), 30)
    const dialog = await open(page, 'Rewind …', 'Rewind shared')
    await dialog.getByLabel('Reason').fill('booked nothing')
    dialogs.push(dialog)
  }
  // at the same moment: both are sent before one is answered
  await Promise.all(dialogs.map((dialog) => dialog.getByRole('button', { name: 'Rewind', exact: true }).click()))
  // The first brings back 30.  To the second as many are left of a rewind, since it begins
  // where the first began, or the count is another one: both are told in words.
  for (const page of [ann, ben]) {
    await t.until('words', async () => (await page.getByText(/The rewind is under way/).count()) + (await page.locator('dialog .problem').count()) > 0)
    await page.getByText(/30 messages are left to receive/).waitFor()
  }
  assert.equal(await t.value("SELECT left_of_rewind::int FROM cmq.status WHERE queue = 'shared'"), 30)
  assert.equal(await t.value('SELECT max(rewind_count)::int FROM cmq.q_shared_live'), 1, 'no message comes back twice')
  for (const page of [ann, ben]) if (await page.getByRole('dialog').count()) await page.keyboard.press('Escape')
})

test('both cancel it', async () => {
  const dialogs = [await open(ann, 'Cancel the rewind', 'Cancel the rewind of shared'), await open(ben, 'Cancel the rewind', 'Cancel the rewind of shared')]
  for (const dialog of dialogs) await dialog.getByLabel('Reason').fill('a mistake')
  await dialogs[0].getByRole('button', { name: 'Cancel the rewind' }).click()
  await ann.getByText('The rewind is cancelled.').waitFor()
  // the second sees that it is over: with its dialog still there, or without
  await t.until('the end of the rewind on the page of the second', async () => (await t.numberIn(t.tile(ben, 'Left of rewind'))) === 0)
  assert.equal(await t.dialogOf(ben, 'Cancel the rewind of shared').count(), 1, 'what was typed does not vanish')
  await dialogs[1].getByRole('button', { name: 'Cancel the rewind' }).click()
  await t.says(ben.locator('dialog .problem'), /No rewind of queue shared is under way/)
  await ben.keyboard.press('Escape')
  assert.equal((await record()).filter((row) => row.startsWith('cancel')).length, 1)
  assert.equal((await t.states('shared')).deleted, 30)
  await ben.getByText('The rewind was cancelled by oncall.').waitFor()
})

test('both change its settings', async () => {
  for (const page of [ann, ben]) {
    await t.go(page, t.queueAt('shared', 'settings'))
    await page.getByLabel('Visibility timeout').waitFor()
  }
  await ann.getByLabel('Visibility timeout').fill('41')
  await ben.getByLabel('Polling wait').fill('3')
  await ann.getByRole('button', { name: 'Change' }).click()
  await ann.getByText('The settings are changed.').waitFor()
  await ben.getByRole('button', { name: 'Change' }).click()
  await ben.getByText('The settings are changed.').waitFor()
  const [row] = await t.sql("SELECT visibility_timeout, polling_wait_seconds FROM cmq.queues WHERE queue = 'shared'")
  assert.deepEqual({ ...row }, { visibility_timeout: 41, polling_wait_seconds: 3 }, 'the second does not undo what the first has changed')
})

test('one drops it while the other looks', async () => {
  await t.sql('GRANT team TO oncall')
  const dialogs = []
  for (const page of [ben, ann]) {
    const dialog = await open(page, 'Drop …', 'Drop shared')
    await dialog.getByLabel('Type the name').fill('shared')
    dialogs.push(dialog)
  }
  await dialogs[0].getByRole('button', { name: 'Drop for good' }).click()
  await ben.getByRole('heading', { name: 'Queues' }).waitFor()
  await t.says(ann.locator('.problem'), /There is no queue "shared" that you may see.*dropped/s)
  await ann.getByRole('link', { name: 'All queues' }).click()
  await ann.getByRole('heading', { name: 'Queues' }).waitFor()
  assert.equal(await ann.getByRole('link', { name: 'shared', exact: true }).count(), 0)
  for (const page of [ann, ben]) t.sound(page)
})
