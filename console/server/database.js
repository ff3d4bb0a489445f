// The way to PostgreSQL: one pool of connections for each person who has logged in, as
// that person's role.
//
// The password lives in a closure of the pool, in this process alone, because each new
// connection needs it.  It is given only to a server that asks for it.
//
// Nothing of the server's is trusted to be in a search_path: it is pg_catalog alone, and
// statements qualify the rest.  No statement reads the views of a single queue: their
// owner can replace them, and what they call would run as the person who looks.

import pg from 'pg'

import { ConsoleError } from './errors.js'

// All values but small numbers and booleans come as text: 64-bit ids and microseconds do
// not survive as numbers of JavaScript.  1184 is timestamptz.
const parsers = {
  getTypeParser(oid, format) {
    if (oid === 1184) {
      return (text) => text.replace(' ', 'T').replace(/\+00$/, 'Z')
    }
    return pg.types.getTypeParser(oid, format)
  }
}

// A statement that takes longer than this is given up: none of the console's reads does.
const READ_TIMEOUT = '5s'
const SILENCE_MS = 12000
// Bringing back millions takes its time.
const CHANGE_TIMEOUT = '10min'

// Connections of one login, and calls at a time that change something: one is left to look.
const MOST_CONNECTIONS = 4
const MOST_CHANGES = 3

const ident = (name) => `"${name.replaceAll('"', '""')}"`

function configOf(settings, { role, password, database }, note) {
  return {
    host: settings.server.host,
    port: settings.server.port,
    ssl: settings.server.ssl,
    database: database || settings.server.database,
    user: role,
    // node-postgres calls this only when the server asks
    password: async () => {
      note.asked = true
      return password
    },
    application_name: 'cmq console',
    connectionTimeoutMillis: 8000,
    keepAlive: true
  }
}

const PREPARE = `SET search_path = pg_catalog, pg_temp; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET jit = off;
  SET default_transaction_isolation = 'read committed'; SET idle_in_transaction_session_timeout = '60s';
  SET statement_timeout = '${READ_TIMEOUT}'; SET lock_timeout = '3s'; SET client_min_messages = notice`

const FACTS = `
  SELECT (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'cmq') AS schema,
         (SELECT extversion FROM pg_extension WHERE extname = 'cmq') AS cmq_version,
         current_user::text AS role, current_database()::text AS database,
         current_setting('server_version') AS server_version,
         pg_is_in_recovery() AS standby,
         COALESCE((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = 'cmq'), false) AS usage,
         EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE n.nspname = 'cmq' AND c.relkind = 'v' AND starts_with(c.relname, 'q_') AND has_table_privilege(c.oid, 'INSERT')) AS sends,
         COALESCE(inet_server_addr()::text || ':' || inet_server_port(), 'local socket') AS address`

// A function beside cmq's that has the name of one of them.  Whoever may create in the schema
// of cmq's functions could have calls lead to theirs, which would run as the person who looks.
const CAPTURING = `
  SELECT p.oid::regprocedure::text AS function
    FROM pg_proc p JOIN pg_extension e ON e.extname = 'cmq' AND p.pronamespace = e.extnamespace
   WHERE p.proname IN (SELECT m.proname FROM pg_proc m JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = m.oid
                         AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e')
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid
                        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
   LIMIT 1`

function refuseCapture(rows) {
  if (rows.length > 0) {
    throw new ConsoleError(409, 'captured', `Function ${rows[0].function} has the name of one of cmq's.`, {
      detail: 'Calls of the console could lead to it, and run as you.  Nothing was called.',
      hint: 'Have it dropped, and let nobody else create in the schema of the extension.'
    })
  }
}

// Log in: a pool whose connections are the role's, and what is known of the server.
export async function connect(settings, login) {
  const note = { asked: false }
  const pool = new pg.Pool({
    ...configOf(settings, login, note),
    max: MOST_CONNECTIONS,
    idleTimeoutMillis: 60000,
    // a connection that could not be prepared is not used
    verify: (client, done) => client.query(PREPARE).then(() => done(), done)
  })
  // an idle connection that breaks is replaced when it is needed
  pool.on('error', () => {})
  pool.on('connect', (client) => client.on('error', () => {}))
  try {
    const facts = (await pool.query({ text: FACTS, types: parsers })).rows[0]
    if (!note.asked && !settings.trustServer) {
      throw new ConsoleError(403, 'no_password',
        `The server lets role ${JSON.stringify(login.role)} in without a password.`, {
          detail: 'So everybody who reaches this console would be that role.',
          hint: 'Have pg_hba.conf ask for a password (scram-sha-256), or start the console with --trust-server.'
        })
    }
    if (facts.schema === null) {
      throw new ConsoleError(400, 'no_extension', `Database ${JSON.stringify(facts.database)} has no extension cmq.`, {
        hint: 'Log in to another database, or CREATE EXTENSION cmq in this one.'
      })
    }
    if (!facts.usage) {
      throw new ConsoleError(403, 'no_usage', `Role ${JSON.stringify(facts.role)} may not use schema cmq.`, {
        hint: `GRANT USAGE ON SCHEMA cmq TO ${ident(facts.role)};`
      })
    }
    return new Database(pool, facts)
  } catch (error) {
    pool.end().catch(() => {})
    throw error
  }
}

export class Database {
  constructor(pool, facts) {
    this.pool = pool
    this.facts = facts
    this.functions = ident(facts.schema)
    this.changing = 0
  }

  // The SQL of a call of one of cmq's functions.  Each argument that the function has is given
  // with its type: such a call leads to no other function of that name.
  fn(name) {
    return `${this.functions}.${name}`
  }

  // Rows of one statement that changes nothing.
  async rows(text, values = []) {
    // a server that is silent, and not only slow, is as good as gone
    return (await this.pool.query({ text, values, types: parsers, query_timeout: SILENCE_MS })).rows
  }

  // Do something in one transaction, with a reason for the record.  The notices come back,
  // too: they say what a call has left out.
  async change(reason, work) {
    if (this.changing >= MOST_CHANGES) {
      throw new ConsoleError(429, 'busy', `${MOST_CHANGES} calls of this login are under way.`, {
        detail: 'Nothing was changed.', hint: 'Wait until one of them has ended.'
      })
    }
    this.changing++
    try {
      return await this.changeNow(reason, work)
    } finally {
      this.changing--
    }
  }

  async changeNow(reason, work) {
    const client = await this.pool.connect()
    const notices = []
    const hear = (notice) => {
      if (notices.length < 20) {
        notices.push({ severity: notice.severity, message: notice.message, detail: notice.detail, hint: notice.hint })
      }
    }
    let broken
    client.on('notice', hear)
    try {
      const run = async (text, values = []) => (await client.query({ text, values, types: parsers })).rows
      await client.query('BEGIN')
      await client.query(`SET LOCAL statement_timeout = '${CHANGE_TIMEOUT}'; SET LOCAL lock_timeout = '30s'`)
      refuseCapture(await run(CAPTURING))
      if (reason) {
        await run("SELECT set_config('cmq.reason', $1, true)", [reason])
      }
      const result = await work(run)
      await client.query('COMMIT')
      return { result, notices }
    } catch (error) {
      await client.query('ROLLBACK').catch((failed) => { broken = failed })
      throw error
    } finally {
      client.off('notice', hear)
      client.release(broken)
    }
  }

  async end() {
    await this.pool.end().catch(() => {})
  }
}
