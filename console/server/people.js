// Who is logged in: a session, its connections to PostgreSQL, and when it was last used.
//
// A session lives in this process alone.  It ends by logout, after the idle time, after
// twelve hours, or with the process.

import { performance } from 'node:perf_hooks'

import { Board } from './board.js'
import { ConsoleError } from './errors.js'

const MOST_PEOPLE = 100
const MOST_OF_ROLE = 20
const LONGEST_MS = 12 * 3600 * 1000

export class People {
  constructor(idleMs) {
    this.idleMs = idleMs
    this.bySession = new Map()
    this.sweeper = setInterval(() => this.sweep(), Math.min(idleMs / 2, 30000))
    this.sweeper.unref()
  }

  checkRoom() {
    if (this.bySession.size >= MOST_PEOPLE) {
      throw new ConsoleError(503, 'full', `${MOST_PEOPLE} people are logged in to this console.`, { hint: 'Somebody must log out first.' })
    }
  }

  enter(sessionId, database) {
    // no role keeps all others out, or takes all connections of the server: the login that
    // was used the longest ago ends
    const same = [...this.bySession].filter(([, person]) => person.database.facts.role === database.facts.role)
    if (same.length >= MOST_OF_ROLE) {
      same.sort(([, a], [, b]) => a.used - b.used)
      this.leave(same[0][0])
    }
    const now = performance.now()
    this.bySession.set(sessionId, { database, board: new Board(database), since: now, used: now })
  }

  // The person of a session, whose idle time begins anew.
  of(sessionId) {
    const person = this.bySession.get(sessionId)
    if (person === undefined || this.over(person)) return undefined
    person.used = performance.now()
    return person
  }

  over(person) {
    const now = performance.now()
    return now - person.used > this.idleMs || now - person.since > LONGEST_MS
  }

  async leave(sessionId) {
    const person = this.bySession.get(sessionId)
    this.bySession.delete(sessionId)
    await person?.database.end()
  }

  sweep() {
    for (const [sessionId, person] of this.bySession) {
      if (this.over(person)) this.leave(sessionId)
    }
  }

  async close() {
    clearInterval(this.sweeper)
    await Promise.all([...this.bySession.keys()].map((sessionId) => this.leave(sessionId)))
  }
}

// Sessions of @fastify/session.  Its own store keeps those that are over for ever.
export class SessionStore {
  constructor(longestMs = LONGEST_MS, most = 10000) {
    this.sessions = new Map()
    this.longestMs = longestMs
    this.most = most
  }

  set(id, session, done) {
    this.sessions.delete(id)
    this.sessions.set(id, { session, since: Date.now() })
    // the oldest first: a session without a person is worth nothing
    while (this.sessions.size > this.most) this.sessions.delete(this.sessions.keys().next().value)
    done()
  }

  get(id, done) {
    const kept = this.sessions.get(id)
    if (kept && Date.now() - kept.since > this.longestMs) {
      this.sessions.delete(id)
      return done(null, undefined)
    }
    done(null, kept?.session)
  }

  destroy(id, done) {
    this.sessions.delete(id)
    done()
  }
}
