// All queues of the person who looks, sorted and searched, however many there are.
//
// To sort by a number, all of them must have been looked at.  With thousands of queues that
// takes a second of the server's time, so a round goes by slices of queues, none of which
// takes long, and the next round begins only after 20 times the time that this one took: a
// console costs a twentieth of a processor at most.  What is on the page that somebody
// looks at is asked anew each time.

import { performance } from 'node:perf_hooks'

const SLICE = 50
const REST = 20
// ... but no longer: a machine that slept in a round would else look again days later
const LONGEST_REST = 600000

// Numbers of cmq.status; others are the names of sorts, too.
const NUMBERS = ['ready', 'in_flight', 'delayed', 'history', 'left_of_rewind', 'oldest_ready_seconds', 'dead_letters']

const STATUS = `SELECT queue, ready, in_flight, delayed, history, left_of_rewind, oldest_ready_seconds, dead_letters,
  paused_since, earliest_rewind_time, latest_rewind_time, pending_bytes, history_bytes, blocked_groups FROM cmq.status`

const METRICS = `SELECT queue, since, sent, received, deleted, is_dead_letter_queue FROM cmq.metrics`

const SETTINGS = `SELECT queue, owner, visibility_timeout, polling_wait_seconds, msg_retention_seconds, rewind_seconds, max_msg_size,
  max_msg_heap_num, dead_letter_queue, max_receive_count, max_time_to_live, retry_backoff_seconds, retry_backoff_max_seconds,
  rewind_share, ordered, dedup_seconds, create_time, last_modify_time, paused_since, rewinding_from FROM cmq.queues`

const MAY_CREATE = `SELECT NOT pg_is_in_recovery() AND has_schema_privilege('cmq', 'CREATE') AND has_schema_privilege('cmq_data', 'CREATE') AS may_create`

// A queue that nobody takes from for so long deserves a look.
const OLD_SECONDS = 300

export const filters = {
  all: () => true,
  paused: (row) => row.paused_since !== null && row.paused_since !== undefined,
  rewinding: (row) => Number(row.left_of_rewind) > 0,
  dead: (row) => Number(row.dead_letters) > 0,
  old: (row) => row.oldest_ready_seconds > OLD_SECONDS && !filters.paused(row)
}

export const sorts = ['queue', ...NUMBERS]

const byName = (a, b) => (a.queue < b.queue ? -1 : a.queue > b.queue ? 1 : 0)

export class Board {
  constructor(database) {
    this.database = database
    this.rows = new Map()
    this.finished = 0 // when the last round was through
    this.tried = 0 // ... or has failed
    this.rest = 0
    this.round = null
    this.forgotten = false
  }

  // One round over all queues.  An error ends it; what was known stays.
  async look() {
    const began = performance.now()
    try {
      await this.lookAt()
      this.finished = performance.now()
    } finally {
      // a round that failed has cost as much
      this.tried = performance.now()
      this.rest = this.forgotten ? 0 : Math.min((this.tried - began) * REST, LONGEST_REST)
      this.forgotten = false
    }
  }

  async lookAt() {
    const rows = new Map()
    // settings are in one table: all of them are read at once
    for (const row of await this.database.rows(SETTINGS)) rows.set(row.queue, row)
    let after = ''
    for (let slice; slice === undefined || slice.length === SLICE; after = slice.at(-1)?.queue) {
      slice = await this.database.rows(`${STATUS} WHERE queue > $1 ORDER BY queue LIMIT ${SLICE}`, [after])
      for (const row of slice) rows.set(row.queue, { ...rows.get(row.queue), ...row })
    }
    this.rows = rows
  }

  // Begin a round if one is due; wait for it if nothing is known yet.
  async refresh() {
    if (this.round === null && (this.finished === 0 || performance.now() - this.tried >= this.rest)) {
      this.round = this.look().finally(() => { this.round = null })
      this.round.catch(() => {})
    }
    if (this.finished === 0 && this.round) {
      await this.round
    } else if (this.round && this.rows.size <= 4 * SLICE) {
      await this.round
    }
  }

  // A queue was made, changed or dropped by this person: look at once.
  forget() {
    this.rest = 0
    // a round under way may have passed the queue already
    this.forgotten = this.round !== null
  }

  async page({ sort, descending, search, show, offset, limit }) {
    await this.refresh()
    const known = [...this.rows.values()]
    const wanted = search.toLowerCase()
    const found = known.filter((row) => row.queue.toLowerCase().includes(wanted) && filters[show](row))
    found.sort((a, b) => {
      if (sort === 'queue') return byName(a, b)
      // what has no such number comes last, whichever way
      const [x, y] = [a[sort] ?? null, b[sort] ?? null]
      if (x === null || y === null) return x === y ? byName(a, b) : (x === null ? 1 : -1) * (descending ? -1 : 1)
      return Number(x) - Number(y) || byName(a, b)
    })
    if (descending) found.reverse()
    const rows = found.slice(offset, offset + limit)
    const counts = Object.fromEntries(Object.keys(filters).map((name) => [name, known.filter(filters[name]).length]))
    const fresh = await this.freshen(rows.map((row) => row.queue))
    const [{ may_create: mayCreate }] = await this.database.rows(MAY_CREATE)
    return {
      may_create: mayCreate,
      total: found.length,
      counts,
      age_seconds: Math.round((performance.now() - this.finished) / 1000),
      // a queue that had numbers and has none now was dropped, or may not be read any more
      rows: rows.filter((row) => fresh.has(row.queue) || row.ready === undefined).map((row) => ({ ...row, ...fresh.get(row.queue) }))
    }
  }

  // The numbers of these queues as of now.
  async freshen(names) {
    const fresh = new Map()
    if (names.length === 0) return fresh
    for (const columns of [STATUS, METRICS]) {
      for (const row of await this.database.rows(`${columns} WHERE queue = ANY ($1::text[])`, [names])) {
        fresh.set(row.queue, { ...fresh.get(row.queue), ...row })
      }
    }
    return fresh
  }
}

// All that the console knows of one queue, and what the person may do with it.
export async function oneQueue(database, queue) {
  const [row] = await database.rows(`
    SELECT c.relname IS NOT NULL AS there,
           has_table_privilege(c.oid, 'SELECT') AS may_read,
           has_table_privilege(c.oid, 'INSERT') AS may_send,
           has_table_privilege(c.oid, 'UPDATE') AS may_operate,
           has_table_privilege(c.oid, 'DELETE') AS may_consume,
           pg_has_role(c.relowner, 'USAGE') AS owns,
           pg_get_userbyid(c.relowner)::text AS owner,
           pg_is_in_recovery() AS standby,
           clock_timestamp() AS now
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'cmq' AND c.relname = 'q_' || $1 AND c.relkind = 'v'`, [queue])
  const [settings] = await database.rows(`${SETTINGS} WHERE queue = $1`, [queue])
  if (row === undefined || (settings === undefined && !row.may_read)) {
    const [seen] = await database.rows(`${STATUS} WHERE queue = $1`, [queue])
    if (seen === undefined) return null
  }
  const [status] = await database.rows(`${STATUS} WHERE queue = $1`, [queue])
  const [metrics] = await database.rows(`${METRICS} WHERE queue = $1`, [queue])
  const letters = settings?.dead_letter_queue
    ? (await database.rows(`SELECT has_table_privilege(c.oid, 'SELECT') AS may_read FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'cmq' AND c.relname = 'q_' || $1 AND c.relkind = 'v'`, [settings.dead_letter_queue]))[0]
    : undefined
  // where the timeline begins: the oldest message that there is, as far as one look can tell
  let oldest = status?.latest_rewind_time ?? null
  if (row?.may_read) {
    for (const part of ['history', 'pending']) {
      const [first] = await database.rows(`SELECT enqueued_at FROM ${database.fn('cmq_messages')}($1::text, $2::text, NULL::timestamptz, NULL::bigint, NULL::jsonb, 1, 1000, false)`, [queue, part])
      if (first && (oldest === null || first.enqueued_at < oldest)) oldest = first.enqueued_at
    }
  }
  // reads all queues, so it is asked where there are any alone
  const sources = metrics?.is_dead_letter_queue
    ? await database.rows('SELECT queue FROM cmq.queues WHERE dead_letter_queue = $1 ORDER BY queue LIMIT 100', [queue]) : []
  return {
    ...settings,
    ...status,
    ...metrics,
    queue,
    owner: row?.owner,
    now: row?.now,
    oldest_enqueued_at: oldest,
    letters_of: sources.map((source) => source.queue),
    may: {
      read: row?.may_read ?? false,
      send: row?.may_send ?? false,
      operate: (row?.may_operate && !row.standby) ?? false,
      consume: (row?.may_consume && !row.standby) ?? false,
      // into another queue; looked at once, at the login
      replay: (row?.may_read && !row.standby && database.facts.sends) ?? false,
      own: (row?.owns && !row.standby) ?? false,
      read_letters: letters?.may_read ?? false
    }
  }
}
