'use strict';
/*
 * A consumer of a cmq queue with node-postgres: books each order once.
 *
 *     node consumer.js <queue> [--drain]
 *
 * Connects as node-postgres does (PGHOST, PGDATABASE, ...).  Runs until it gets
 * SIGINT or SIGTERM, or with --drain until the queue has nothing ready.
 *
 * Receives are committed at once, so a message that this consumer cannot handle,
 * or was handling when it died, comes back when its visibility timeout is over,
 * and goes to the dead-letter queue if there is one.  The work and the delete are
 * one transaction: a message is deleted if and only if it is booked.
 *
 * When the server restarts it connects again, with growing pauses.  What it had
 * received by then, and not yet deleted, comes back when the visibility timeout is
 * over.  If the connection was lost during a commit nobody knows whether the message
 * was booked: it comes back if it was not.
 */
const { Client } = require('pg');

const WAIT = 20; // seconds a receive waits for a message
const RETRY = 10; // seconds until a message that failed is received again
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

// Book one order.  A message can come twice: the second time changes nothing.
async function handle(client, message) {
  const order = JSON.parse(message.body);
  await client.query(
    'INSERT INTO ledger (msg_id, item, amount) VALUES ($1, $2, $3) ON CONFLICT (msg_id) DO NOTHING',
    [message.msg_id, order.item, order.amount]);
}

async function consume(client, queue, message) {
  try {
    await client.query('BEGIN');
    await handle(client, message);
    const { rows } = await client.query('SELECT cmq_delete($1, $2) AS deleted', [queue, message.receipt_handle]);
    // if not, it took too long and somebody else has it
    await client.query(rows[0].deleted ? 'COMMIT' : 'ROLLBACK');
  } catch (error) {
    await client.query('ROLLBACK'); // fails if the connection is lost
    console.error(`message ${message.msg_id} failed: ${error.message}`);
    await client.query('SELECT cmq_release($1, $2, $3)', [queue, [message.receipt_handle], RETRY]);
  }
}

async function work(client, queue, drain, state) {
  while (!state.stopping) {
    let rows;
    try {
      ({ rows } = await client.query(
        'SELECT * FROM cmq_receive($1, 10, polling_wait_seconds => $2)', [queue, drain ? 0 : WAIT]));
    } catch (error) {
      if (error.code === '57014') continue; // cancelled
      throw error;
    }
    if (drain && rows.length === 0) return;
    for (const message of rows) await consume(client, queue, message);
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
      // ends a receive that waits
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
