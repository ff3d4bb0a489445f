// Many queues, and many messages: what is read in slices and pieces is whole.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'
import { settingTypes } from '../server/changing.js'

const MANY = 130
const DEEP = 70000
let visitor

t.useConsole(async () => {
  // more queues than slices of the board have, with different numbers of messages
  await t.as('team', `DO $$ BEGIN
    FOR i IN 1 .. ${MANY} LOOP
      PERFORM public.cmq_create_queue('many-' || to_char(i, 'FM000'));
      IF i % 10 <> 0 THEN PERFORM public.cmq_send_batch('many-' || to_char(i, 'FM000'), ARRAY(SELECT 'm' FROM generate_series(1, (i * 37) % ${MANY} + 1))); END IF;
      EXECUTE format('GRANT SELECT ON cmq.%I TO accountant', 'q_many-' || to_char(i, 'FM000'));
    END LOOP; END $$`)
  // a history of several pieces, sent in one burst; the last message has a header of its own
  await t.makeQueue('team', 'deep', { settings: 'rewind_seconds => 3600' })
  await t.as('team', `SELECT public.cmq_send_batch('deep', ARRAY(SELECT 'm' || i FROM generate_series(1, ${DEEP} - 1) i))`)
  await t.as('team', `SELECT public.cmq_send('deep', 'the last one', headers => '{"needle": true}')`)
  await t.as('team', `DO $$ BEGIN FOR i IN 1 .. ${DEEP} / 1000 LOOP PERFORM FROM public.cmq_consume('deep', 1000); END LOOP; END $$`)
  await t.as('team', 'GRANT SELECT, UPDATE ON cmq.q_deep TO oncall')
  visitor = new t.Visitor(console_)
})

test('each queue stands once in the pages of the list, in order', async () => {
  await visitor.login('accountant')
  for (const [sort, order] of [['queue', 'up'], ['ready', 'down'], ['ready', 'up'], ['dead_letters', 'down']]) {
    const names = []
    const numbers = []
    let total = 1
    for (let offset = 0; offset < total; offset += 50) {
      const { json } = await visitor.get(`/api/queues?sort=${sort}&order=${order}&show=all&offset=${offset}&limit=50`)
      total = json.total
      assert.equal(json.counts.all, total)
      for (const row of json.rows) {
        names.push(row.queue)
        numbers.push(row[sort])
      }
    }
    const wanted = (await t.as('accountant', 'SELECT queue FROM cmq.queues')).map((row) => row.queue)
    assert.ok(wanted.length >= MANY)
    assert.deepEqual([...names].sort(), wanted.sort(), `${sort} ${order}`)
    // what has no number is last, whichever way
    const known = numbers.filter((number) => number !== null).map((number) => (sort === 'queue' ? number : Number(number)))
    assert.ok(numbers.slice(known.length).every((number) => number === null), `${sort} ${order}`)
    assert.ok(known.every((number, i) => i === 0 || (order === 'up' ? known[i - 1] <= number : known[i - 1] >= number)), `${sort} ${order}: ${known}`)
  }
  await visitor.post('/api/logout')
})

test('the list is sorted, turned over and searched in the browser', async () => {
  const page = await t.enter(console_, 'accountant', '/')
  const first = page.locator('table.queues tbody tr').first()
  await page.getByRole('button', { name: 'Ready', exact: true }).click()
  await t.says(first.locator('[data-name=Ready]'), new RegExp(`^${MANY}$`), 'the deepest queue comes first')
  assert.equal(await page.locator('th.ready').getAttribute('aria-sort'), 'descending')
  await t.says(page.locator('.pager'), /1 to 50 of/)
  await page.getByRole('button', { name: 'Next' }).click()
  await t.says(page.locator('.pager'), /51 to 100 of/)
  await page.getByRole('searchbox', { name: 'Search by name' }).fill('MANY-07')
  await t.says(page.locator('.pager'), /1 to 10 of 10/)
  t.sound(page)
  await page.context().close()
})

test('a window of several pieces is counted whole, and brought back by that count', async () => {
  const page = await t.enter(console_, 'oncall', t.queueAt('deep'))
  await page.locator('.u-over').waitFor()
  const pieces = []
  page.on('response', async (answer) => {
    if (new URL(answer.url()).pathname.endsWith('/count')) pieces.push(Number((await answer.json()).messages))
  })
  await page.getByRole('button', { name: 'Choose all that is shown' }).click()
  assert.equal(await t.counted(page), DEEP)
  assert.ok(pieces.length >= 3 && Math.max(...pieces) <= 45000, `pieces: ${pieces}`)
  await page.getByRole('button', { name: 'Rewind …' }).click()
  const dialog = t.dialogOf(page, 'Rewind deep')
  await dialog.getByLabel('Reason').fill('ticket 3: all of it')
  await dialog.getByLabel(`only if it is exactly ${DEEP.toLocaleString('en')} messages`).waitFor()
  await dialog.getByRole('button', { name: 'Rewind', exact: true }).click()
  await t.until('all to be brought back', async () => await t.numberIn(t.tile(page, 'Left of rewind')) === DEEP)
  await t.as('team', "SELECT public.cmq_cancel_rewind('deep')")
  t.sound(page)
  await page.context().close()
})

test('a search by headers says when it has not looked at all, and goes on', async () => {
  const page = await t.enter(console_, 'oncall', t.queueAt('deep', 'messages'))
  await page.getByRole('button', { name: 'History', exact: true }).click()
  await page.getByLabel('Headers contain').fill('{"needle": true}')
  await page.getByRole('button', { name: 'Search' }).click()
  const found = page.locator('table.messages tbody tr', { hasText: 'the last one' })
  const tired = page.getByText('As many messages were looked at as one page allows')
  let pages = 1
  for (;; pages++) {
    await t.until('a page', async () => await found.count() > 0 || await tired.count() > 0)
    if (await found.count() > 0) break
    const answer = page.waitForResponse((response) => response.url().includes('/messages?'))
    await page.getByRole('button', { name: /^On/ }).click()
    await answer
    assert.ok(pages < 20, 'the search comes to an end')
  }
  assert.ok(pages >= 5, `${pages} pages`)
  // by time: nothing is later than now
  await page.getByLabel('Headers contain').fill('')
  await page.getByRole('button', { name: 'Search' }).click()
  await t.says(page.locator('table.messages tbody td'), /m1$/)
  await page.getByLabel('From', { exact: true }).fill('2099-01-01T00:00:01')
  await t.says(page.locator('main'), /Nothing here/)
  t.sound(page)
  await page.context().close()
})

test('the settings of the page are those of the server, and those that need DELETE are for roles that have it', async () => {
  const named = await t.value(`SELECT string_agg(n || ' ' || type, ', ' ORDER BY n COLLATE "C") FROM pg_proc p, unnest(p.proargnames, p.proargtypes::oid[]) u(n, typed),
      LATERAL (SELECT CASE format_type(typed, NULL) WHEN 'integer' THEN 'int' WHEN 'boolean' THEN 'bool' ELSE format_type(typed, NULL) END AS type) f
    WHERE p.proname = 'cmq_create_queue' AND n <> 'queue'`)
  assert.equal(Object.entries(settingTypes).map(([name, type]) => `${name} ${type}`).sort().join(', '), named)
  const labels = ['Most receives', 'Time to live (s)', 'Dead-letter queue']
  for (const [role, may] of [['oncall', false], ['team', true]]) {
    const page = await t.enter(console_, role, t.queueAt('deep', 'settings'))
    for (const label of labels) assert.equal(await page.getByLabel(label).isEnabled(), may, `${role}: ${label}`)
    assert.equal(await page.getByLabel('Visibility timeout (s)').isEnabled(), true)
    t.sound(page)
    await page.context().close()
  }
  await visitor.login('oncall')
  assert.equal((await visitor.post('/api/queues/deep/alter', { dead_letter_queue: 'payments_dead', max_receive_count: 3 })).status, 403)
  await visitor.post('/api/logout')
})
