// What the console does to queues.  Each is one transaction with a reason for the record.
//
// Nothing is ever repeated by itself.  Who changes something says what they have seen: the
// number of messages that the preview has counted, or the name of the queue typed; if it
// is no longer so, nothing happens.

import { ConsoleError } from './errors.js'

function unexpected(call, queue, expected, found) {
  return new ConsoleError(409, 'unexpected', `The ${call} of queue ${queue} would bring back ${found} messages, not ${expected}.`, {
    detail: 'Consumers or somebody else have changed the queue since the preview.  Nothing was changed.',
    hint: 'Pause the queue, or choose an end of the window, and preview again.'
  })
}

export const changes = {
  // start null: from the earliest legal time
  async rewind(database, queue, { start, expected, reason }) {
    const done = await database.change(reason, async (run) => {
      const leftNow = async () => BigInt((await run('SELECT left_of_rewind FROM cmq.status WHERE queue = $1', [queue]))[0]?.left_of_rewind ?? 0)
      // what a rewind under way still brings back was not in the preview
      const before = expected === null ? null : await leftNow()
      const [{ first }] = await run(
        `SELECT ${database.fn('cmq_rewind')}($1::text, COALESCE($2::timestamptz,
           (SELECT earliest_rewind_time FROM cmq.status WHERE queue = $1::text))) AS first`, [queue, start])
      if (expected === null) return { first }
      // the rewind of this transaction is seen by it alone
      const added = await leftNow() - before
      if (added !== BigInt(expected)) throw unexpected('rewind', queue, expected, added)
      return { first, messages: String(added) }
    })
    // the first look after a rewind counts what it brings back: better here than in a poll
    await database.rows('SELECT left_of_rewind FROM cmq.status WHERE queue = $1', [queue]).catch(() => {})
    return done
  },

  async cancel(database, queue, { reason }) {
    return database.change(reason, async (run) => {
      const [{ cancelled }] = await run(`SELECT ${database.fn('cmq_cancel_rewind')}($1::text) AS cancelled`, [queue])
      if (!cancelled) {
        throw new ConsoleError(409, 'no_rewind', `No rewind of queue ${queue} is under way.`, { detail: 'It was cancelled by somebody else, or nothing was left of it.' })
      }
      return { cancelled }
    })
  },

  async restore(database, queue, { start, end, filter, expected, reason }) {
    return database.change(reason, async (run) => {
      const [{ messages }] = await run(
        `SELECT ${database.fn('cmq_restore')}($1::text, $2::timestamptz, $3::timestamptz, $4::jsonb, $5::bigint) AS messages`,
        [queue, start, end, filter, expected])
      return { messages }
    })
  },

  async restoreMessages(database, queue, { ids, reason }) {
    return database.change(reason, async (run) => {
      const rows = await run(`SELECT ${database.fn('cmq_restore_messages')}($1::text, $2::bigint[]) AS id`, [queue, ids])
      return { messages: String(rows.length) }
    })
  },

  async replay(database, queue, { into, start, end, filter, expected, dedup, reason }) {
    return database.change(reason, async (run) => {
      const [{ messages }] = await run(
        `SELECT ${database.fn('cmq_replay')}($1::text, $2::text, $3::timestamptz, $4::timestamptz, $5::jsonb, $6::boolean) AS messages`,
        [queue, into, start, end, filter, dedup])
      // with dedup a copy that is there already is no surprise
      if (expected !== null && !dedup && messages !== String(expected)) throw unexpected('replay', queue, expected, messages)
      return { messages }
    })
  },

  async redrive(database, queue, { most, ids, filter, reason }) {
    return database.change(reason, async (run) => {
      const [{ messages }] = await run(
        `SELECT ${database.fn('cmq_redrive')}($1::text, $2::int, $3::jsonb, $4::bigint[]) AS messages`, [queue, most, filter, ids])
      return { messages }
    })
  },

  async deleteMessages(database, queue, { ids, reason }) {
    return database.change(reason, async (run) => {
      const rows = await run(`SELECT ${database.fn('cmq_delete_messages')}($1::text, $2::bigint[]) AS id`, [queue, ids])
      return { messages: String(rows.length) }
    })
  },

  async pause(database, queue, { reason }) {
    return database.change(reason, async (run) => {
      const [{ paused }] = await run(`SELECT ${database.fn('cmq_pause_queue')}($1::text, $2::text) AS paused`, [queue, reason])
      return { changed: paused }
    })
  },

  async resume(database, queue, { reason }) {
    return database.change(reason, async (run) => {
      const [{ resumed }] = await run(`SELECT ${database.fn('cmq_resume_queue')}($1::text) AS resumed`, [queue])
      return { changed: resumed }
    })
  },

  async clear(database, queue, { name }) {
    confirm(queue, name)
    return database.change(null, async (run) => {
      const [{ messages }] = await run(`SELECT ${database.fn('cmq_clear_queue')}($1::text) AS messages`, [queue])
      return { messages }
    })
  },

  async drop(database, queue, { name }) {
    confirm(queue, name)
    return database.change(null, async (run) => {
      await run(`SELECT ${database.fn('cmq_drop_queue')}($1::text)`, [queue])
      return {}
    })
  },

  async unbind(database, queue) {
    return database.change(null, async (run) => {
      await run(`SELECT ${database.fn('cmq_unbind_dead_letter')}($1::text)`, [queue])
      return {}
    })
  },

  async create(database, queue, settings) {
    return setting(database, 'cmq_create_queue', queue, settings)
  },

  async alter(database, queue, settings) {
    return setting(database, 'cmq_alter_queue', queue, settings)
  }
}

function confirm(queue, name) {
  if (name !== queue) {
    throw new ConsoleError(400, 'not_confirmed', `The name that was typed is not ${queue}.`, { detail: 'Nothing was changed.' })
  }
}

// The settings of a queue and their types, as cmq_create_queue has them.
export const settingTypes = {
  visibility_timeout: 'int',
  polling_wait_seconds: 'int',
  msg_retention_seconds: 'int',
  rewind_seconds: 'int',
  max_msg_size: 'int',
  max_msg_heap_num: 'bigint',
  dead_letter_queue: 'text',
  max_receive_count: 'int',
  max_time_to_live: 'int',
  retry_backoff_seconds: 'int',
  retry_backoff_max_seconds: 'int',
  rewind_share: 'int',
  ordered: 'bool',
  dedup_seconds: 'int'
}

// Only what was given is named in the call: the rest has its defaults, or stays.
async function setting(database, name, queue, settings) {
  const given = Object.keys(settings)
  const named = given.map((key, i) => `, ${key} => $${i + 2}::${settingTypes[key]}`).join('')
  return database.change(null, async (run) => {
    await run(`SELECT ${database.fn(name)}($1::text${named})`, [queue, ...given.map((key) => settings[key])])
    return {}
  })
}
