'use strict';
/* What arrives in node-postgres: native types; arrays go in; a waiting receive can be cancelled. */
const { Client } = require('pg');

const queue = process.argv[2];
const check = (ok, what) => console.log((ok ? 'ok - ' : 'not ok - ') + what);

async function main() {
  const client = new Client();
  await client.connect();
  const sent = await client.query('SELECT cmq_send_batch($1, $2, 0, $3::jsonb[]) AS id',
    [queue, ['a', 'quoted "b"', 'ü'], ['{"n": 1}', null, '{"list": [true]}']]);
  const ids = sent.rows.map((row) => row.id);
  check(ids.length === 3 && ids.every((id) => typeof id === 'string' && BigInt(id) > 0n), 'ids are strings, as node-postgres has bigint');
  const { rows } = await client.query('SELECT * FROM cmq_receive($1, 10)', [queue]);
  check(rows.map((row) => row.body).join() === 'a,quoted "b",ü', 'bodies');
  check(rows[0].headers.n === 1 && rows[1].headers === null && rows[2].headers.list[0] === true, 'headers are objects, or null');
  check(rows[0].enqueued_at instanceof Date && rows[0].enqueued_at.getTime() === Number(BigInt(ids[0]) / 1000n), 'times are Dates of the right instant');
  check(rows[0].receive_count === 1, 'counts are numbers');
  const gone = await client.query('SELECT cmq_delete_batch($1, $2)', [queue, rows.map((row) => row.receipt_handle)]);
  check(gone.rowCount === 3, 'an array of handles goes in');
  const back = await client.query('SELECT cmq_restore_messages($1, $2)', [queue, ids.slice(0, 2)]);
  check(back.rowCount === 2, 'an array of ids goes in');
  await client.query('SELECT cmq_clear_queue($1)', [queue]);

  const later = new Date(Date.now() + 3600000);
  await client.query('SELECT cmq_send($1, $2, deliver_at => $3)', [queue, 'later', later]);
  const live = await client.query(`SELECT state, visible_at FROM cmq.${client.escapeIdentifier(`q_${queue}_live`)}`);
  check(live.rows.length === 1 && live.rows[0].state === 'delayed' && live.rows[0].visible_at.getTime() === later.getTime(), 'a Date goes in');
  await client.query('SELECT cmq_clear_queue($1)', [queue]);

  await client.query('SELECT cmq_send($1, $2)', [queue, { item: 'apples' }]);
  await client.query('SELECT cmq_send($1, $2)', [queue, JSON.stringify({ item: 'pears' })]);
  await client.query('SELECT cmq_send($1, $2::jsonb::text)', [queue, { item: 'plums' }]);
  const items = await client.query('SELECT body::jsonb AS body FROM cmq_receive($1, 10)', [queue]);
  check(items.rows.map((row) => row.body.item).join() === 'apples,pears,plums', 'JSON bodies come back as objects');
  await client.query('SELECT cmq_clear_queue($1)', [queue]);

  const begun = Date.now();
  setTimeout(async () => {
    const other = new Client();
    await other.connect();
    await other.query('SELECT pg_cancel_backend($1)', [client.processID]);
    await other.end();
  }, 1000);
  try {
    await client.query('SELECT * FROM cmq_receive($1, polling_wait_seconds => 30)', [queue]);
    check(false, 'a waiting receive is cancelled');
  } catch (error) {
    check(error.code === '57014' && Date.now() - begun < 25000, 'a waiting receive is cancelled');
  }
  check((await client.query('SELECT 1 AS one')).rows[0].one === 1, 'and the connection goes on');
  await client.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
