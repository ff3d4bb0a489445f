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
 */
const { Client } = require('pg');

const WAIT = 20; // seconds a receive waits for a message
const RETRY = 10; // seconds until a message that failed is received again

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
    console.error(`message ${message.msg_id} failed: ${error.message}`);
    await client.query('ROLLBACK');
    await client.query('SELECT cmq_change_visibility($1, $2, $3)', [queue, message.receipt_handle, RETRY]);
  }
}

async function main(queue, drain) {
  const client = new Client();
  let stopping = false;
  const stop = async () => {
    stopping = true;
    // ends a receive that waits
    const other = new Client();
    await other.connect();
    await other.query('SELECT pg_cancel_backend($1)', [client.processID]);
    await other.end();
  };

  await client.connect();
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
  while (!stopping) {
    let rows;
    try {
      ({ rows } = await client.query(
        'SELECT * FROM cmq_receive($1, 10, polling_wait_seconds => $2)', [queue, drain ? 0 : WAIT]));
    } catch (error) {
      if (error.code === '57014') continue; // cancelled
      throw error;
    }
    if (drain && rows.length === 0) break;
    for (const message of rows) await consume(client, queue, message);
  }
  await client.end();
}

main(process.argv[2], process.argv.includes('--drain')).catch((error) => {
  console.error(error);
  process.exit(1);
});
