// Rights: which buttons a role sees, that none of them fails for want of a right, and that
// what is not offered fails when it is asked for by hand.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'

// Each role has a queue of the owner's with a dead-letter queue, and these rights on both.
const roles = {
  team: 'owner',
  oncall: 'SELECT, UPDATE',
  accountant: 'SELECT',
  shop: 'INSERT',
  taker: 'DELETE'
}
const queueOf = (role) => `of_${role}`

t.useConsole(async () => {
  await t.sql(`CREATE ROLE taker LOGIN PASSWORD '${t.PASSWORD}'; GRANT USAGE ON SCHEMA cmq TO taker`)
  // rights of the story would mix with those of this test
  await t.sql('REVOKE ALL ON cmq.q_payments, cmq.q_payments_dead, cmq.q_mails, cmq.q_movements, cmq.q_reminders, cmq.q_imports FROM oncall, accountant, shop')
  for (const [role, rights] of Object.entries(roles)) {
    const queue = queueOf(role)
    await t.makeQueue('team', `${queue}_dead`)
    await t.makeQueue('team', queue, { settings: `rewind_seconds => 3600, visibility_timeout => 43200, dead_letter_queue => '${queue}_dead', max_receive_count => 1` })
    // three letters, four messages of history, two that wait
    await t.as('team', `SELECT cmq_send_batch('${queue}', ARRAY(SELECT 'dead ' || i FROM generate_series(1, 3) i), headers => ARRAY(SELECT '{"n": 1}'::jsonb FROM generate_series(1, 3)))`)
    await t.as('team', `SELECT cmq_release('${queue}', ARRAY(SELECT receipt_handle FROM cmq_receive('${queue}', 3)), 0)`)
    await t.as('team', `SELECT cmq_maintain('${queue}')`)
    await t.as('team', `SELECT cmq_send_batch('${queue}', ARRAY(SELECT 'old ' || i FROM generate_series(1, 4) i), headers => ARRAY(SELECT '{"n": 1}'::jsonb FROM generate_series(1, 4)))`)
    await t.as('team', `SELECT cmq_consume('${queue}', 4)`)
    await t.as('team', `SELECT cmq_send_batch('${queue}', '{new 1,new 2}')`)
    assert.deepEqual([await t.states(queue), await t.states(`${queue}_dead`)], [{ deleted: 4, ready: 2 }, { ready: 3 }])
    if (role !== 'team') await t.as('team', `GRANT ${rights} ON cmq."q_${queue}", cmq."q_${queue}_dead" TO ${role}`)
  }
})

// What would change something, as the page calls it.
const acts = /^(New queue|Pause|Resume|Cancel the rewind|Rewind …|Restore …|Replay into another queue …|Delete …|Redrive all …|Redrive the chosen …|Redrive 1 chosen letter …|Change|End the dead-letter policy …|Clear …|Drop …)$/

async function offered(page) {
  return new Set((await page.locator('main button, main a.button').allInnerTexts()).map((text) => text.trim()).filter((text) => acts.test(text)))
}

const buttons = {
  team: ['New queue', 'Pause', 'Rewind …', 'Restore …', 'Replay into another queue …', 'Delete …', 'Redrive all …', 'Redrive 1 chosen letter …', 'Change', 'End the dead-letter policy …', 'Clear …', 'Drop …'],
  // may send to no other queue: no replay
  oncall: ['Pause', 'Rewind …', 'Restore …', 'Delete …', 'Redrive all …', 'Redrive 1 chosen letter …', 'Change', 'End the dead-letter policy …', 'Clear …'],
  accountant: []
}

for (const [role, wanted] of Object.entries(buttons)) {
  test(`the buttons of ${role} (${roles[role]})`, async () => {
    const queue = queueOf(role)
    const page = await t.enter(console_, role, '/')
    await page.getByRole('link', { name: queue, exact: true }).waitFor()
    const seen = await offered(page)
    const add = async () => { for (const name of await offered(page)) seen.add(name) }
    await page.getByRole('link', { name: queue, exact: true }).click()
    await page.getByRole('button', { name: 'Choose all that is shown' }).click()
    await t.counted(page)
    await add()
    const chooseFirst = async () => {
      const box = page.locator('table.messages tbody tr').first().getByRole('checkbox')
      await page.locator('table.messages tbody tr').first().waitFor()
      // where nothing could be done with them there is nothing to choose
      if (await box.count()) await box.check()
    }
    await t.go(page, t.queueAt(queue, 'messages'))
    await chooseFirst()
    await add()
    await page.getByRole('button', { name: 'History' }).click()
    await t.says(page.locator('table.messages'), /old 1/)
    await chooseFirst()
    await add()
    await t.go(page, t.queueAt(queue, 'letters'))
    await t.says(page.locator('table.messages'), /dead 1/)
    await chooseFirst()
    await t.until('the button to know what was chosen', async () => wanted.length === 0 || (await page.getByRole('button', { name: 'Redrive 1 chosen letter …' }).count()) === 1)
    await add()
    await t.go(page, t.queueAt(queue, 'settings'))
    await page.getByText(/^Made /).waitFor()
    await add()
    seen.delete('Redrive the chosen …')
    assert.deepEqual([...seen].sort(), [...wanted].sort())
    t.sound(page)
    await page.context().close()
  })
}

for (const role of ['shop', 'taker']) {
  test(`${role} (${roles[role]}) sees the name of the queue, and nothing in it`, async () => {
    const page = await t.enter(console_, role, '/')
    await page.getByRole('link', { name: queueOf(role), exact: true }).waitFor()
    assert.deepEqual(await page.locator('table.queues tbody th a').allInnerTexts(), [queueOf(role), `${queueOf(role)}_dead`])
    assert.equal(await page.locator('table.queues [data-name=Ready]').first().innerText(), '–')
    assert.deepEqual([...await offered(page)], [])
    for (const tab of ['', 'messages', 'letters', 'record', 'settings']) {
      await t.go(page, t.queueAt(queueOf(role), tab))
      await page.getByText('Your role may not read this queue').waitFor()
      await page.getByText('Your role may not read the settings').waitFor()
      assert.deepEqual([...await offered(page)], [])
    }
    await t.go(page, t.queueAt('payments'))
    await t.says(page.locator('.problem'), /There is no queue/)
    t.sound(page)
    await page.context().close()
  })
}

// Each call by hand, and who may make it.
const ago = () => new Date(Date.now() - 1800000).toISOString()
const calls = [
  ['pause', () => ({ reason: 'x' }), ['team', 'oncall']],
  ['resume', () => ({ reason: null }), ['team', 'oncall']],
  ['rewind', () => ({ start: ago(), expected: null, reason: 'x' }), ['team', 'oncall']],
  ['cancel', () => ({ reason: 'x' }), ['team', 'oncall']],
  ['restore', () => ({ start: ago(), end: null, filter: null, expected: null, reason: 'x' }), ['team', 'oncall']],
  ['restore', () => ({ start: ago(), end: null, filter: '{"n": 1}', expected: null, reason: 'x' }), ['team', 'oncall']],
  ['restore-messages', (ids) => ({ ids: [ids.message], reason: 'x' }), ['team', 'oncall']],
  ['delete-messages', (ids) => ({ ids: [ids.message], reason: null }), ['team', 'oncall']],
  ['replay', () => ({ into: 'mails', start: ago(), end: null, filter: null, expected: null, dedup: false, reason: 'x' }), ['team']],
  ['letters/redrive', (ids) => ({ most: null, ids: [ids.letter], filter: null, reason: null }), ['team', 'oncall']],
  ['letters/redrive', () => ({ most: 1, ids: null, filter: '{"n": 1}', reason: null }), ['team', 'oncall']],
  ['letters/redrive', () => ({ most: 1, ids: null, filter: null, reason: null }), ['team', 'taker']],
  ['alter', () => ({ visibility_timeout: 600 }), ['team', 'oncall']],
  ['unbind', () => ({}), ['team', 'oncall']],
  ['clear', (ids, queue) => ({ name: queue }), ['team', 'oncall']],
  ['fresh/create', () => ({}), ['team']],
  ['drop', (ids, queue) => ({ name: queue }), ['team']]
]

for (const role of Object.keys(roles)) {
  test(`each call by hand as ${role}`, async () => {
    const queue = queueOf(role)
    const visitor = new t.Visitor(console_)
    assert.equal((await visitor.login(role)).status, 200)
    const ids = {
      message: await t.value(`SELECT msg_id FROM cmq."q_${queue}_live" LIMIT 1`),
      letter: await t.value(`SELECT msg_id FROM cmq."q_${queue}_dead_live" LIMIT 1`)
    }
    const state = async () => [await t.states(queue), await t.states(`${queue}_dead`),
      await t.value('SELECT count(*)::int FROM cmq.rewinds'), await t.value(`SELECT row_to_json(q)::text FROM cmq.queues q WHERE queue = '${queue}'`)]
    const before = await state()
    const made = []
    for (const [path, body, allowed] of calls) {
      const place = path.startsWith('letters/') ? `${queue}_dead/redrive` : path.startsWith('fresh/') ? `fresh_${role}/create` : `${queue}/${path}`
      const answer = await visitor.post(`/api/queues/${place}`, body(ids, queue))
      if (allowed.includes(role)) {
        assert.equal(answer.status, 200, `${path}: ${answer.text}`)
        made.push(path)
      } else {
        assert.equal(answer.status, 403, `${path}: ${answer.text}`)
        assert.equal(answer.json.error.code, '42501', path)
        assert.ok(answer.json.error.message.length > 10)
      }
    }
    if (made.length === 0) assert.deepEqual(await state(), before, 'nothing has changed')
    // reads of what one may not read
    if (['shop', 'taker'].includes(role)) {
      const window = `from=${encodeURIComponent(ago())}&to=${encodeURIComponent(new Date().toISOString())}`
      for (const path of [`timeline?${window}&buckets=10`, `count?${window}`, 'messages?part=pending&order=up', `messages/${ids.message}`]) {
        const answer = await visitor.get(`/api/queues/${queue}/${path}`)
        assert.ok([403, 404].includes(answer.status), `${path}: ${answer.text}`)
        assert.ok(!answer.text.includes('new 1'), path)
      }
      assert.deepEqual((await visitor.get(`/api/queues/${queue}/record`)).json.rows, [])
      assert.deepEqual((await visitor.get('/api/record')).json.rows, [])
    }
    await visitor.post('/api/logout')
  })
}
