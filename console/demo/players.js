// The services of the story, live: a shop that sends payments, and billing, which consumes
// them and, in release 2, books nothing.  When the queue is paused the team deploys
// release 3, which books each payment once.
//
//   node players.js [--quick]      to the server of PGHOST, PGPORT, PGDATABASE
//
// Prints what reconciliation says whenever it changes.

import pg from 'pg'

const quick = process.argv.includes('--quick')
const password = process.env.DEMO_PASSWORD || 'demo'
const connect = async (user) => {
  const client = new pg.Client({ user, password, database: process.env.PGDATABASE || 'postgres', application_name: `demo ${user}` })
  // the server is gone: so is the story
  client.on('error', () => { over = true })
  await client.connect()
  return client
}
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

let over = false
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { over = true })

async function shop() {
  const client = await connect('shop')
  const names = ['anna', 'bert', 'carla', 'dora', 'emil', 'fritz']
  for (let i = 0; !over; i++) {
    const body = JSON.stringify({ account: names[i % names.length], amount: (1 + (i * 37) % 300) + 0.5 })
    await client.query("WITH m AS (SELECT public.cmq_send('payments', $1, headers => $2) AS id) INSERT INTO books.sent SELECT id FROM m",
      [body, { shop: 1 + i % 5 }])
    await pause(quick ? 200 : 900)
  }
  await client.end()
}

async function billing() {
  const client = await connect('billing')
  while (!over) {
    await client.query('BEGIN')
    const { rows: [{ release }] } = await client.query('SELECT release FROM books.consumer')
    const { rows } = await client.query("SELECT msg_id, body FROM public.cmq_consume('payments', $1)", [quick ? 50 : 5])
    for (const { msg_id: id, body } of rows) {
      const payment = JSON.parse(body)
      // the bug of release 2: it looks for another name, finds none, and skips the payment
      const amount = release === 2 ? payment.total : payment.amount
      if (amount === undefined) continue
      await client.query('INSERT INTO books.ledger (msg_id, account, amount) VALUES ($1, $2, $3) ON CONFLICT (msg_id) DO NOTHING', [id, payment.account, amount])
    }
    await client.query('COMMIT')
    await pause(rows.length ? (quick ? 50 : 120) : 400)
  }
  await client.end()
}

async function team() {
  const client = await connect('team')
  let before = ''
  let pausedFor = 0
  while (!over) {
    const { rows: [now] } = await client.query(`
      SELECT (SELECT count(*) FROM books.sent) AS sent, (SELECT count(*) FROM books.ledger) AS booked,
             (SELECT release FROM books.consumer) AS release,
             (SELECT paused_since IS NOT NULL FROM cmq.status WHERE queue = 'payments') AS paused`)
    pausedFor = now.paused ? pausedFor + 1 : 0
    if (now.release === 2 && pausedFor > (quick ? 1 : 3)) {
      await client.query('UPDATE books.consumer SET release = 3')
      console.log('team: release 3 of billing is deployed; it books each payment once')
    }
    const text = `reconciliation: ${now.sent} payments sent, ${now.booked} booked, ${now.sent - now.booked} missing` +
      (now.paused ? ' (the queue is paused)' : '')
    if (text !== before) console.log(text)
    before = text
    await pause(quick ? 500 : 2000)
  }
  await client.end()
}

await Promise.all([shop(), billing(), team()]).catch((error) => {
  if (!over) throw error
})
process.exit(0)
