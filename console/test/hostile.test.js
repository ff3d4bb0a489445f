// What others write, into names, bodies, headers, reasons and settings of their own, is
// shown as text, and runs nothing: not in the browser, and not in the database as the person
// who looks.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'

let page

const nasty = [
  '<img src=x onerror="alert(1)">', '<script>alert(2)</script>', '</script><script>alert(3)</script>', '"><svg onload=alert(4)>', "'-alert(5)-'",
  '${alert(6)} {{alert(7)}} <%= 8 %>', 'javascript:alert(9)', '\u202eevil\u202c rtl \u2066\u2067', 'tab\tbell\u0007 escape\u001b[31m null-ish \u0001', '<!-- --> ]]> &amp; &lt;b&gt;', '🦀 ﷽ ก็็็็็็'
]
const headers = [
  '{"__proto__": {"polluted": 1}, "constructor": {"prototype": {"polluted": 1}}}',
  '{"n": 12345678901234567890123, "f": 1.00000000000000000001}',
  '{"<b>": "</td><script>alert(10)</script>", "cmq_dead_letter": {"queue": "<i>", "reason": {"a": 1}, "receive_count": "NaN"}}',
  '{"cmq_dead_letter": "text"}', '{"cmq_dead_letter": {"queue": null, "reason": "__proto__"}}', '{"toString": 1, "hasOwnProperty": 2}',
  '{"\\u202e": "\\u0001"}', '{}', '{"deep": {"deep": {"deep": ["<script>"]}}}', '{"a": "x"}', '{"b": true}'
]
const strangers = ['<b>"bold"</b>', "o'hara", 'quote"d', '\u202eelor', '{{constructor}}']

t.useConsole(async () => {
  await t.sql(`CREATE ROLE boss LOGIN SUPERUSER PASSWORD '${t.PASSWORD}'; CREATE ROLE attacker LOGIN PASSWORD '${t.PASSWORD}';
    GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker; CREATE SCHEMA evil AUTHORIZATION attacker; GRANT USAGE ON SCHEMA evil TO public;
    CREATE TABLE public.ran_as (role text, what text); GRANT INSERT ON public.ran_as TO public`)
  await t.makeQueue('attacker', 'nasty_dead')
  await t.makeQueue('attacker', 'nasty', { settings: "rewind_seconds => 3600, dead_letter_queue => 'nasty_dead', max_receive_count => 5" })
  for (const queue of ['nasty', 'nasty_dead']) {
    for (const [i, body] of nasty.entries()) {
      for (const text of [body, JSON.stringify({ text: body, number: 1 })]) await t.as('attacker', 'SELECT cmq_send($1, $2, headers => $3::jsonb)', [queue, text, headers[i % headers.length]])
    }
  }
  // half of them become history, and are deleted by strangers, for strange reasons
  for (const [i, role] of strangers.entries()) {
    const ident = `"${role.replaceAll('"', '""')}"`
    await t.sql(`CREATE ROLE ${ident}; GRANT USAGE ON SCHEMA cmq TO ${ident}`)
    await t.as('attacker', `GRANT SELECT, UPDATE, DELETE ON cmq.q_nasty TO ${ident}`)
    await t.sql(`BEGIN; SET LOCAL SESSION AUTHORIZATION ${ident}`)
    await t.sql(`SELECT set_config('cmq.reason', $1, true), set_config('application_name', $1, true)`, [nasty[i]])
    await t.sql("SELECT cmq_consume('nasty', 2)")
    await t.sql("SELECT cmq_pause_queue('nasty', $1)", [nasty[i + 5]])
    await t.sql("SELECT cmq_resume_queue('nasty')")
    await t.sql('COMMIT')
  }
  await t.sql("SELECT set_config('application_name', 'test', false)")
  // a body of a megabyte, and one line of it
  await t.as('attacker', "SELECT cmq_send('nasty', repeat('<b>x</b>', 131072)), cmq_send('nasty', '{\"a\": ' || repeat('[', 50000) || repeat(']', 50000) || '}')")
})

// No element that text of others has made, and no script of theirs.
async function clean(what) {
  const found = await page.evaluate(() => ({
    elements: document.querySelectorAll('main b, main script, main img, main i, main iframe, main svg:not(.spark), main [onload], main [onerror], main a[href^="javascript" i]').length,
    // an object that is empty has no properties, not even those of a prototype
    polluted: (() => { const names = []; for (const name in {}) names.push(`${name}: ${({})[name]}`); return names })()
  }))
  assert.deepEqual(found, { elements: 0, polluted: [] }, what)
  t.sound(page)
}

test('every tab of a queue that is full of it', async () => {
  page = await t.enter(console_, 'boss', '/')
  await page.getByRole('link', { name: 'nasty', exact: true }).waitFor()
  await clean('list')
  for (const tab of ['', 'messages', 'letters', 'record', 'settings']) {
    await t.go(page, t.queueAt('nasty', tab))
    await t.until('the tab', async () => (await page.locator('.tabs [aria-current=page]').count()) === 1 && (await page.locator('.loading').count()) === 0)
    await clean(tab)
  }
  // as text, whole
  await t.go(page, t.queueAt('nasty', 'messages'))
  await t.says(page.locator('table.messages'), /"hasOwnProperty"/)
  const texts = await page.locator('table.messages tbody .body').allInnerTexts()
  assert.ok(texts.length >= 10)
  await page.getByRole('button', { name: 'History' }).click()
  await t.says(page.locator('table.messages tbody .body'), /<img src=x onerror="alert\(1\)">/)
  await t.says(page.locator('table.messages tbody .headers'), /"__proto__"/)
  await t.says(page.locator('table.messages tbody .body'), /<script>alert\(2\)<\/script>/)
  await clean('history')
  await t.go(page, t.queueAt('nasty', 'letters'))
  await t.go(page, t.queueAt('nasty_dead', 'letters'))
  await t.says(page.locator('table.messages'), /no dead letter/)
  await clean('letters')
})

test('each message and its life', async () => {
  await t.go(page, t.queueAt('nasty', 'messages'))
  for (const { msg_id: id, body, headers: given } of await t.sql('SELECT msg_id, body, headers::text AS headers FROM cmq.q_nasty_all WHERE length(body) < 1000 ORDER BY enqueued_at')) {
    await t.go(page, t.queueAt('nasty', `messages/${id}`))
    const dialog = t.dialogOf(page, `Message ${id}`)
    const [, shown] = [await dialog.locator('pre').first().waitFor(), await dialog.locator('pre').allTextContents()]
    // pretty or not, it is the same text but for spaces
    const squeezed = (text) => text.replaceAll(/\s/g, '')
    assert.equal(squeezed(shown[0]), squeezed(given))
    assert.equal(squeezed(shown[1]), squeezed(body))
    await clean(body)
  }
  await t.go(page, t.queueAt('nasty', 'messages'))
})

test('a body of a megabyte', async () => {
  for (const { msg_id: id } of await t.sql('SELECT msg_id FROM cmq.q_nasty_all WHERE length(body) > 1000')) {
    await t.go(page, t.queueAt('nasty', `messages/${id}`))
    const dialog = t.dialogOf(page, `Message ${id}`)
    await dialog.locator('pre').nth(1).waitFor()
    const { length, wide } = await dialog.locator('pre').nth(1).evaluate((element) => ({ length: element.textContent.length, wide: document.documentElement.scrollWidth > innerWidth }))
    assert.ok(length > 90000 && length <= 200000)
    assert.equal(wide, false)
    await clean('a megabyte')
  }
  const [{ msg_id: id }] = await t.sql('SELECT msg_id FROM cmq.q_nasty_all WHERE length(body) > 1000000')
  await t.go(page, t.queueAt('nasty', `messages/${id}`))
  await t.dialogOf(page, `Message ${id}`).getByText('Only the beginning is shown.').waitFor()
  await page.keyboard.press('Escape')
})

test('long numbers keep their digits, in what is shown and in what is searched', async () => {
  await t.go(page, t.queueAt('nasty', 'messages'))
  await page.getByRole('button', { name: 'History', exact: true }).click()
  for (const [number, there] of [['12345678901234567890123', true], ['12345678901234567890124', false]]) {
    const count = await t.value('SELECT count(*)::int FROM cmq.q_nasty_history WHERE headers @> $1::jsonb', [`{"n": ${number}}`])
    await page.getByLabel('Headers contain').fill(`{"n": ${number}}`)
    await page.getByRole('button', { name: 'Search' }).click()
    await t.until(`${count} with ${number}`, async () => (await page.locator('table.messages tbody tr').count()) === count && (await page.locator('.loading').count()) === 0)
    assert.equal(count > 0, there)
    if (there) await t.says(page.locator('table.messages .headers'), new RegExp(number))
  }
})

test('roles, reasons and applications in the record', async () => {
  for (const where of [t.queueAt('nasty', 'record'), '/record']) {
    await t.go(page, where)
    const rows = page.locator('table.record tbody tr')
    await t.until('the record', async () => (await rows.count()) >= 10)
    const text = (await rows.allTextContents()).join('\n')
    for (const wanted of [...strangers, nasty[5], nasty[9], nasty[1]]) assert.ok(text.includes(wanted), wanted)
    // a text that runs from right to left turns nothing but itself
    for (const role of await rows.locator('bdi.foreign').all()) assert.equal(await role.evaluate((element) => getComputedStyle(element).unicodeBidi), 'isolate')
    await clean('record')
  }
})

test('names in addresses', async () => {
  for (const name of ['<img src=x onerror=alert(1)>', '%3Cscript%3E', '..', 'a/b', '%', '__proto__', 'constructor', '\u202e']) {
    await t.go(page, t.queueAt(name))
    await page.getByText(/There is no queue|There is nothing at this address|^Queues$/).first().waitFor()
    await clean(name)
  }
  await page.evaluate(() => { location.hash = '#/queue/%E0%A4%A/<script>alert(1)</script>' })
  await t.until('words', async () => (await page.locator('main').innerText()).length > 10)
  await clean('an address that is none')
})

test("views and functions of a queue's owner run nothing as the person who looks", async () => {
  const live = (await t.sql("SELECT relname FROM pg_class WHERE relnamespace = 'cmq'::regnamespace AND relkind = 'v' AND relname LIKE 'q_bait%'")).length
  assert.equal(live, 0)
  await t.makeQueue('attacker', 'bait_dead', { pending: 2 })
  await t.makeQueue('attacker', 'bait', { settings: "rewind_seconds => 3600, dead_letter_queue => 'bait_dead', max_receive_count => 5", consumed: 5, pending: 3 })
  await t.as('attacker', `
    CREATE FUNCTION evil.grab(what text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO public.ran_as VALUES (current_user, what);
      RETURN true;
    END $$;
    DO $do$
    DECLARE
      q text;
      v text;
      columns text;
    BEGIN
      FOREACH q IN ARRAY '{bait,bait_dead}'::text[] LOOP
        FOREACH v IN ARRAY '{live,history,all}'::text[] LOOP
          SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) INTO columns
            FROM pg_attribute WHERE attrelid = format('cmq.%I', 'q_' || q || '_' || v)::regclass AND attnum > 0;
          EXECUTE format('CREATE OR REPLACE VIEW cmq.%I AS SELECT %s FROM (%s) old WHERE evil.grab(%L)', 'q_' || q || '_' || v, columns,
            rtrim(pg_get_viewdef(format('cmq.%I', 'q_' || q || '_' || v)::regclass), ';'), q || '_' || v);
        END LOOP;
        EXECUTE format('CREATE OR REPLACE VIEW cmq.%I AS SELECT * FROM (%s) old WHERE evil.grab(%L)', 'q_' || q,
          rtrim(pg_get_viewdef(format('cmq.%I', 'q_' || q)::regclass), ';'), q);
      END LOOP;
    END $do$`)
  // the alarm is one: a superuser who reads a view sets it off
  await t.sql('SELECT count(*) FROM cmq.q_bait_live')
  assert.equal((await t.sql("DELETE FROM public.ran_as RETURNING role")).length > 0, true)

  for (const tab of ['', 'messages', 'letters', 'record', 'settings']) {
    await t.go(page, t.queueAt('bait', tab))
    await page.getByRole('heading', { name: 'bait' }).waitFor()
    await t.until('the tab', async () => (await page.locator('.tabs [aria-current=page]').count()) === 1 && (await page.locator('.loading').count()) === 0)
    if (tab === '') {
      await page.getByRole('button', { name: 'Choose all that is shown' }).click()
      assert.equal(await t.counted(page), 5)
      await page.getByLabel('Only messages whose headers contain').fill('{"a": 1}')
      await t.until('the count with a filter', async () => (await t.counted(page)) === 0)
    }
    if (tab === 'messages') {
      await t.says(page.locator('table.messages'), /new 1/)
      await page.getByRole('button', { name: 'History' }).click()
      await t.says(page.locator('table.messages'), /old 1/)
      await page.locator('table.messages tbody th a').first().click()
      await page.getByRole('dialog').locator('pre').first().waitFor()
      await page.keyboard.press('Escape')
    }
  }
  await t.go(page, '/')
  await page.getByRole('link', { name: 'bait', exact: true }).waitFor()
  await t.go(page, t.queueAt('bait_dead', 'letters'))
  await t.says(page.locator('table.messages'), /new 1/)
  assert.deepEqual(await t.sql('SELECT * FROM public.ran_as'), [], 'nothing of the owner has run')
  await clean('bait')
})
