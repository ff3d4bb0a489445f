// How the console looks, and how it is read: on a phone, in the dark, by a screen reader.
// Every page is opened, and checked by what a browser can measure.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as t from './lib.js'
import { console_ } from './lib.js'

t.useConsole()

const places = {
  queues: ['/', 'table.queues tbody tr'],
  record: ['/record', 'table.record tbody tr'],
  'new queue': ['/new', 'form'],
  timeline: [t.queueAt('payments'), '.u-over'],
  messages: [t.queueAt('payments', 'messages'), 'table.messages'],
  letters: [t.queueAt('payments', 'letters'), 'table.messages tbody tr'],
  'record of a queue': [t.queueAt('imports', 'record'), 'table.record tbody tr'],
  settings: [t.queueAt('payments', 'settings'), '.settings']
}

// Open each page in turn.
async function everywhere(page, look) {
  for (const [name, [where, there]] of Object.entries(places)) {
    await t.go(page, where)
    await page.locator(there).first().waitFor()
    await look(name)
  }
}

// Names that are missing, tables without heads and headings out of order, as text.
const unnamed = () => {
  const faults = []
  const seen = (element) => element.getClientRects().length > 0
  const named = (element) => element.getAttribute('aria-label') || element.textContent.trim() || element.getAttribute('title')
  for (const element of document.querySelectorAll('input, select, textarea')) {
    if (seen(element) && !element.labels?.length && !element.getAttribute('aria-label')) faults.push(`no label: ${element.outerHTML.slice(0, 120)}`)
  }
  for (const element of document.querySelectorAll('button, a[href], [role=slider], dialog')) {
    if (!seen(element)) continue
    if (!named(element) && !element.getAttribute('aria-labelledby')) faults.push(`no name: ${element.outerHTML.slice(0, 120)}`)
  }
  for (const table of document.querySelectorAll('table')) {
    if ([...table.querySelectorAll('thead th')].some((th) => th.scope !== 'col')) faults.push('a head of a column that is none')
    if ([...table.querySelectorAll('tbody tr')].some((tr) => !tr.querySelector('th[scope=row]'))) faults.push('a row without a head')
  }
  const levels = [...document.querySelectorAll('h1, h2, h3, h4')].filter(seen).map((heading) => Number(heading.tagName[1]))
  if (levels.filter((level) => level === 1).length !== 1) faults.push(`headings of the first level: ${levels}`)
  if (levels.some((level, i) => i > 0 && level > levels[i - 1] + 1)) faults.push(`headings skip a level: ${levels}`)
  return faults
}

test('every page can be read aloud', async () => {
  const page = await t.enter(console_, 'oncall', '/')
  await everywhere(page, async (name) => assert.deepEqual(await page.evaluate(unnamed), [], name))
  // a check that finds nothing proves nothing
  await page.evaluate(() => document.querySelector('main').insertAdjacentHTML('beforeend', '<input><button></button><h4>x</h4>'))
  assert.equal((await page.evaluate(unnamed)).length, 3, 'faults are found')
  t.sound(page)
  await page.context().close()
})

test('what changes is said', async () => {
  const page = await t.enter(console_, 'oncall', t.queueAt('mails'))
  await page.getByRole('button', { name: 'Pause', exact: true }).click()
  const dialog = t.dialogOf(page, 'Pause mails')
  await dialog.getByLabel('Reason').fill('ticket 1: a test')
  await dialog.getByRole('button', { name: 'Pause', exact: true }).click()
  await t.says(page.getByRole('status'), /The queue is paused/)
  await page.getByRole('button', { name: 'Resume', exact: true }).click()
  await t.dialogOf(page, 'Resume mails').getByRole('button', { name: 'Resume', exact: true }).click()
  await t.says(page.getByRole('status'), /The queue is resumed/)
  t.sound(page)
  await page.context().close()
})

test('a phone shows every page without scrolling to the side', async () => {
  const page = await t.enter(console_, 'oncall', '/', { width: 390, height: 844, hasTouch: true })
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  await everywhere(page, async (name) => {
    assert.ok(await wide() <= 0, `${name} is ${await wide()} pixels too wide`)
    // all that can be pressed is within reach
    const out = await page.evaluate(() => [...document.querySelectorAll('main > * button, .top button, .tabs a')]
      .filter((element) => !element.closest('.scroll') && element.getClientRects().length > 0)
      .map((element) => [element.textContent, element.getBoundingClientRect()]).filter(([, box]) => box.left < 0 || box.right > innerWidth).map(([text]) => text))
    assert.deepEqual(out, [], name)
  })
  await t.go(page, '/')
  await page.locator(places.queues[1]).first().waitFor()
  await t.picture(page, '11-phone-queues')
  await t.go(page, places.timeline[0])
  await page.locator('.u-over').waitFor()
  await page.getByRole('button', { name: 'Choose all that is shown' }).click()
  await t.counted(page)
  assert.ok(await wide() <= 0, `the window is ${await wide()} pixels too wide`)
  await t.picture(page, '12-phone-window', { fullPage: true })
  t.sound(page)
  await page.context().close()
})

// The contrast of two colours, as WCAG has it: 1 to 21.
function contrast(one, other) {
  const light = (colour) => {
    const parts = colour.match(/[\da-f]{2}/gi).map((part) => parseInt(part, 16) / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
  }
  const [a, b] = [light(one), light(other)].sort((x, y) => y - x)
  return (a + 0.05) / (b + 0.05)
}

test('text stands out in the light and in the dark', async () => {
  assert.ok(Math.abs(contrast('#000000', '#ffffff') - 21) < 0.01)
  assert.ok(contrast('#777777', '#ffffff') < 4.5)
  const pairs = [['--ink', '--paper'], ['--ink', '--card'], ['--faint', '--paper'], ['--faint', '--card'], ['--blue', '--card'], ['--blue', '--paper'],
    ['--blue-ink', '--blue'], ['--red', '--card'], ['--red', '--paper'], ['--ink', '--red-paper'], ['--amber-ink', '--amber-paper'], ['--green-ink', '--green-paper']]
  for (const colorScheme of ['light', 'dark']) {
    const page = await t.enter(console_, 'oncall', '/', { colorScheme })
    const colours = await page.evaluate((names) => Object.fromEntries(names.map((name) => [name, getComputedStyle(document.documentElement).getPropertyValue(name).trim()])), [...new Set(pairs.flat())])
    for (const [ink, paper] of pairs) {
      assert.ok(contrast(colours[ink], colours[paper]) >= 4.5, `${colorScheme}: ${ink} on ${paper} has ${contrast(colours[ink], colours[paper]).toFixed(2)}`)
    }
    // chosen by hand it is the same
    await page.getByLabel('Colours').selectOption(colorScheme === 'light' ? 'dark' : 'light')
    await t.until('the other colours', async () => (await page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue('--ink').trim())) !== colours['--ink'])
    await page.getByLabel('Colours').selectOption(colorScheme)
    if (colorScheme === 'dark') {
      await t.go(page, places.timeline[0])
      await page.locator('.u-over').waitFor()
      await t.drag(page, 0.68, 1)
      await t.counted(page)
      await t.picture(page, '13-dark')
    }
    t.sound(page)
    await page.context().close()
  }
})

test('what cannot be drawn says so, and leaves the rest of the console', async () => {
  const page = await t.enter(console_, 'oncall', '/')
  await page.route('**/api/queues/payments', (route) => route.fulfill({ json: { queue: 'payments' } }))
  await t.go(page, t.queueAt('payments'))
  await t.says(page.getByRole('alert'), /This page cannot be shown/)
  await t.go(page, '/')
  await page.locator(places.queues[1]).first().waitFor()
  await page.unroute('**/api/queues/payments')
  await t.go(page, t.queueAt('payments'))
  await page.locator('.u-over').waitFor()
  t.sound(page)
  await page.context().close()
})

test('pictures of the other pages', async () => {
  const page = await t.enter(console_, 'oncall', places.messages[0])
  await page.getByRole('button', { name: 'History', exact: true }).click()
  await t.says(page.locator('table.messages tbody td'), /history/)
  await t.picture(page, '07-messages')
  await page.locator('table.messages tbody a').first().click()
  await page.getByRole('heading', { name: 'Its life' }).waitFor()
  await t.picture(page, '08-message')
  for (const [name, place] of [['09-letters', 'letters'], ['10-settings', 'settings']]) {
    await t.go(page, places[place][0])
    await page.locator(places[place][1]).first().waitFor()
    await t.picture(page, name)
  }
  t.sound(page)
  await page.context().close()
})
