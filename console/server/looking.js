// What the console reads of one queue: its timeline, counts, messages and record.
//
// Each statement is bounded: cmq_timeline estimates what is much, cmq_messages looks at
// so many messages and no more, and a count is made of pieces of the window.

import { ConsoleError } from './errors.js'

// Messages in a piece of a count: some tenth of a second of the server's time, because the
// size of each body is looked up.
const PIECE = 30000

// Bytes of a body in a list, characters of one that is shown whole.
const EXCERPT = 240
const WHOLE = 200000
// Headers may be as long as bodies.
const HEADERS = 1000

// left counts characters, of which those beyond the first plane have two parts here
const cut = (text) => text !== null && text.length >= WHOLE

export async function timeline(database, queue, from, to, buckets) {
  const rows = await database.rows(
    `SELECT bucket_start, bucket_end, history, ready, in_flight, delayed, brought_back, exact
       FROM ${database.fn('cmq_timeline')}($1::text, $2::timestamptz, $3::timestamptz, $4::int)`, [queue, from, to, buckets])
  return { buckets: rows }
}

// Where a piece of the history that begins at from ends, so that it has no more than
// PIECE messages, by the timeline's estimates.
async function pieceEnd(database, queue, from, to, most) {
  let end = to
  for (let finer = 0; finer < 8; finer++) {
    const { buckets } = await timeline(database, queue, from, end, 100)
    let messages = 0
    let last = null
    for (const bucket of buckets) {
      messages += Number(bucket.history)
      if (messages > most) break
      last = bucket.bucket_end
    }
    if (messages <= most) return end
    if (last !== null) return last
    // the first bucket alone is too much: look into it
    if (buckets.length < 2 || buckets[0].bucket_end === end) return end
    end = buckets[0].bucket_end
  }
  return end
}

// Count a piece of what would come back from a window: what the browser adds up.  Without an
// end, pieces are cut up to now by the clock of the server, and the last of them has no end:
// the browser's clock may be hours off.  seconds is how much time the piece before had, twice
// that where it had few messages: to look for the end of this one in all of the window
// would cost as much again.
export async function count(database, queue, from, to, filter, seconds) {
  const [{ now, guess }] = await database.rows(`
    SELECT now, COALESCE(least(now, $1::timestamptz + make_interval(secs => $3)), now) AS guess
      FROM (SELECT COALESCE($2::timestamptz, greatest(clock_timestamp(), $1::timestamptz) + interval '1 minute') AS now) n`, [from, to, seconds])
  const pieceTo = await pieceEnd(database, queue, from, guess, PIECE)
  const end = pieceTo === now ? to : pieceTo
  const [piece] = await database.rows(
    `SELECT messages, body_bytes, first_enqueued_at, last_enqueued_at
       FROM ${database.fn('cmq_rewind_preview')}($1::text, $2::timestamptz, $3::timestamptz, $4::jsonb)`, [queue, from, end, filter])
  const took = (Date.parse(pieceTo) - Date.parse(from)) / 1000
  return { ...piece, next: end === to ? null : end, seconds: Math.min(Number(piece.messages) < PIECE / 2 ? 2 * took : took, 1e8) }
}

const MESSAGE = `msg_id, enqueued_at, state, first_received_at, visible_at, deleted_at, deleted_by, receive_count, rewind_count,
  message_group, octet_length(body) AS body_bytes`

// A page of the messages that wait (pending), or of the history.
export async function messages(database, queue, { part, after_time, after_id, filter, backwards, most, looked }) {
  const rows = await database.rows(
    `SELECT ${MESSAGE}, left(body, ${EXCERPT}) AS body, left(headers::text, ${HEADERS}) AS headers,
            left((headers -> 'cmq_dead_letter')::text, ${HEADERS}) AS letter, matched
       FROM ${database.fn('cmq_messages')}($1::text, $2::text, $3::timestamptz, $4::bigint, $5::jsonb, $6::int, $7::int, $8::boolean)`,
    [queue, part, after_time ?? null, after_id ?? null, filter ?? null, most, looked, backwards])
  const last = rows.at(-1)
  const found = rows.filter((row) => row.matched)
  const more = last !== undefined && (!last.matched || found.length === most)
  return {
    messages: found,
    // where the next page begins; null: there is no more
    next: more ? { time: part === 'pending' ? last.visible_at : last.enqueued_at, id: last.msg_id } : null,
    // the page ended because enough was looked at
    tired: last !== undefined && !last.matched
  }
}

// The life of one message, with the calls that may have brought it back.
export async function message(database, queue, id) {
  const [row] = await database.rows(
    `SELECT ${MESSAGE}, left(body, ${WHOLE}) AS body, left(headers::text, ${WHOLE}) AS headers FROM ${database.fn('cmq_message')}($1::text, $2::bigint)`, [queue, id])
  if (row === undefined) {
    throw new ConsoleError(404, 'no_message', `Queue ${queue} has no message ${id}.`, {
      detail: 'It was never there, or its retention or rewind window is over, or it was consumed with rewind off.'
    })
  }
  const calls = Number(row.rewind_count) === 0 && row.state === 'deleted'
    ? []
    : await database.rows(
      `SELECT ${RECORD} FROM cmq.rewinds
        WHERE queue = $1 AND kind IN ('rewind', 'restore', 'cancel') AND called_at > $2::timestamptz
          AND (start_time IS NULL OR start_time <= $2::timestamptz) AND (end_time IS NULL OR end_time > $2::timestamptz)
          AND (filter IS NULL OR $3::jsonb @> filter)
        ORDER BY id LIMIT 100`, [queue, row.enqueued_at, cut(row.headers) ? null : row.headers])
  return { message: { ...row, cut: cut(row.body) || cut(row.headers) }, calls }
}

const RECORD = `id, queue, kind, session_user_name, current_user_name, client_addr::text AS client_addr, application_name, called_at,
  start_time, end_time, filter::text AS filter, into_queue, messages, reason`

// The record, the latest first.
export async function record(database, queue, before) {
  const rows = await database.rows(
    `SELECT ${RECORD} FROM cmq.rewinds WHERE ($1::text IS NULL OR queue = $1) AND ($2::bigint IS NULL OR id < $2)
      ORDER BY id DESC LIMIT 50`, [queue, before])
  return { rows, next: rows.length === 50 ? rows.at(-1).id : null }
}
