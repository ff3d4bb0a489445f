'use strict';
/*
 * A consumer of a cmq queue with node-postgres: books each order once.
 *
 *     node consumer.js <queue> [--drain]
 *
 * Needs node-postgres: "npm install" gets it, or on Debian the package node-pg has it.
 * Bodies are JSON, {"item": "apples", "amount": 2}, and are booked in
 *
 *     CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);
 *
 * Connects as node-postgres does (PGHOST, PGDATABASE, ...).  Runs until it gets
 * SIGINT or SIGTERM, or with --drain until the queue has nothing ready.
 *
 * The work is in the same database, so a message and its work are one transaction: it
 * is consumed if and only if it is booked, exactly once, and what this consumer was
 * handling when it died is ready at once.  A message that it cannot handle is rolled
 * back, and then received by its id and released: that is counted, so that it comes
 * again later, and goes to the dead-letter queue in the end if there is one.
 *
 * Work that takes long, or is done elsewhere, does not go into a transaction: then
 * receive, commit, work, and delete (docs/applications.md, Receive and delete).
 *
 * When the server restarts it connects again, with growing pauses.  If the connection
 * was lost during a commit nobody knows whether the message was booked: it is ready
 * again if it was not.
 */
const { Client } = require('pg');

const WAIT = 20; // seconds a call waits for a message
const RETRY = 10; // seconds until a message that failed is ready again
const MAX_PAUSE = 30; // seconds between two tries to connect, at most

async function connect() {
  const client = new Client({ connectionTimeoutMillis: 10000 });
  // a lost connection would end the process; whatever is under way fails, too
  client.on('error', () => {});
  await client.connect();
  return client;
}

async function isLost(client) {
  return client.query('SELECT 1').then(() => false, () => true);
}

// Book one order.  A message that is brought back changes nothing.
async function handle(client, message) {
  const order = JSON.parse(message.body);
  await client.query(
    'INSERT INTO ledger (msg_id, item, amount) VALUES ($1, $2, $3) ON CONFLICT (msg_id) DO NOTHING',
    [message.msg_id, order.item, order.amount]);
}

// Have a message come again later.  Nothing happens if somebody else has it by now.
async function countFailure(client, queue, message) {
  await client.query(
    `SELECT cmq_release($1, ARRAY(SELECT receipt_handle
       FROM cmq_receive_messages($1, ARRAY[$2::bigint])), $3)`,
    [queue, message.msg_id, RETRY]);
}

// Consume one message, if there is any: true.  Waits for so many seconds.
async function consume(client, queue, wait) {
  let message;
  try {
    await client.query('BEGIN');
    ({ rows: [message] } = await client.query(
      'SELECT * FROM cmq_consume($1, polling_wait_seconds => $2)', [queue, wait]));
    if (message) await handle(client, message);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK'); // fails if the connection is lost
    if (!message) throw error;
    console.error(`message ${message.msg_id} failed: ${error.message}`);
    await countFailure(client, queue, message);
  }
  return message !== undefined;
}

async function work(client, queue, drain, state) {
  while (!state.stopping) {
    try {
      if (!await consume(client, queue, drain ? 0 : WAIT) && drain) return;
    } catch (error) {
      if (error.code !== '57014') throw error; // not cancelled
    }
  }
}

// Connect again; null if we are to stop.  Not all consumers at the same moment.
async function reconnect(state) {
  for (let pause = 1; !state.stopping;) {
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause * 1000 * (0.5 + Math.random() / 2));
      state.wake = () => { clearTimeout(timer); resolve(); };
    });
    if (state.stopping) break;
    try {
      return await connect();
    } catch (error) {
      pause = Math.min(2 * pause, MAX_PAUSE);
      console.error(`no connection, again in ${pause} s at most: ${error.message || error.code}`);
    }
  }
  return null;
}

async function main(queue, drain) {
  let client = await connect(); // what is wrong from the start is an error
  const state = { stopping: false, wake: () => {} };
  const stop = async () => {
    state.stopping = true;
    state.wake();
    try {
      // ends a call that waits
      const other = await connect();
      await other.query('SELECT pg_cancel_backend($1)', [client.processID]);
      await other.end();
    } catch (error) {
      // no server, and nobody waits
    }
  };

  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  while (client) {
    try {
      await work(client, queue, drain, state);
      await client.end();
      return;
    } catch (error) {
      if (!await isLost(client)) throw error;
      console.error(`connection lost: ${error.message}`);
    }
    client = await reconnect(state);
  }
}

main(process.argv[2], process.argv.includes('--drain')).catch((error) => {
  console.error(error);
  process.exit(1);
});
