// Questions to the console's server, and whether it answers.
//
// Reads are repeated by whoever polls.  What changes something is sent once: if no answer
// comes back, it is not known whether it happened, and the error says so.

import { useEffect, useRef, useState } from 'preact/hooks'

export class AskError extends Error {
  constructor(status, { code, message, detail, hint }) {
    super(message)
    Object.assign(this, { status, code, detail, hint })
  }

  // the server or PostgreSQL does not answer: it may come back
  get lost() {
    return this.code === 'lost' || this.code === 'unreachable'
  }
}

// Kept by the browser for pages of this address and port alone, so that a page that is loaded
// again goes on; cookies are seen by all ports of a machine.
const KEPT = 'cmq token'
let token = localStorage.getItem(KEPT)
const hearers = new Set()
// null: all is well; else what is wrong
let trouble = null

function tell(next) {
  if (next?.kind === trouble?.kind) return
  trouble = next
  hearers.forEach((hear) => hear(next))
}

export function setToken(next) {
  token = next
  if (next) localStorage.setItem(KEPT, next)
  tell(null)
}

// Log out: the token is good for nothing any more.
export function dropToken() {
  if (localStorage.getItem(KEPT) === token) localStorage.removeItem(KEPT)
  setToken(null)
}

// What is wrong with the connection: null, { kind: 'lost' } or { kind: 'login' }.
export function useTrouble() {
  const [now, set] = useState(trouble)
  useEffect(() => {
    hearers.add(set)
    return () => hearers.delete(set)
  }, [])
  return now
}

async function ask(method, path, body) {
  let response
  let answer
  try {
    response = await fetch(`/api${path}`, {
      method,
      credentials: 'same-origin',
      headers: { ...(method === 'GET' ? {} : { 'content-type': 'application/json' }), ...(token ? { 'csrf-token': token } : {}) },
      body: method === 'GET' ? undefined : JSON.stringify(body ?? {}),
      // who reads does not wait for ever; what changes something may take its time
      signal: method === 'GET' ? AbortSignal.timeout(20000) : undefined
    })
    answer = await response.json()
  } catch (error) {
    const failed = new AskError(0, {
      code: 'unreachable',
      message: 'The console does not answer.',
      detail: String(error.message ?? error),
      hint: method === 'GET' ? 'It goes on by itself when the console is back.'
        : 'It is not known whether the call took effect: look at the record before you repeat it.'
    })
    tell({ kind: 'lost', error: failed })
    throw failed
  }
  const failed = response.ok ? null : new AskError(response.status, answer.error ?? { code: 'error', message: `HTTP ${response.status}` })
  if (failed?.lost) tell({ kind: 'lost', error: failed })
  else if (failed?.status === 401 && path !== '/login') tell({ kind: 'login', error: failed })
  // a refusal is an answer, too: the connection is there again
  else if (trouble?.kind === 'lost' && path !== '/') tell(null)
  if (failed) throw failed
  return answer
}

export const get = (path, params = {}) => {
  const given = Object.entries(params).filter(([, value]) => value !== null && value !== undefined && value !== '')
  const query = new URLSearchParams(given).toString()
  return ask('GET', path + (query ? `?${query}` : ''))
}
export const post = (path, body) => ask('POST', path, body)
export const queuePath = (queue, rest = '') => `/queues/${encodeURIComponent(queue)}${rest}`

// Ask again and again: the answer, the last error, and a function that asks at once.
// The next question waits for ten times as long as the answer took, so that a slow server
// is asked less, but never longer than a minute: a machine that has slept or set its clock must
// not leave old numbers on the page.  What a hidden page shows is not asked for until it is
// seen again.
export function usePoll(question, seconds, needs) {
  const [state, set] = useState({ data: null, error: null, at: 0 })
  const again = useRef(() => {})
  useEffect(() => {
    let over = false
    let timer = null
    let running = false
    let wanted = false
    const turn = async () => {
      if (running) { wanted = true; return }
      clearTimeout(timer)
      running = true
      const began = performance.now()
      try {
        const data = await question()
        if (!over) set({ data, error: null, at: Date.now() })
      } catch (error) {
        if (!over) set((before) => ({ ...before, error }))
      }
      running = false
      if (over) return
      if (wanted) { wanted = false; turn(); return }
      const rest = Math.max(seconds * 1000, Math.min(10 * (performance.now() - began), 60000))
      const wait = () => { timer = setTimeout(() => (document.hidden ? wait() : turn()), rest) }
      if (seconds > 0) wait()
    }
    const seen = () => { if (!document.hidden && seconds > 0) turn() }
    document.addEventListener('visibilitychange', seen)
    again.current = turn
    set((before) => ({ ...before, error: null }))
    turn()
    return () => { over = true; clearTimeout(timer); document.removeEventListener('visibilitychange', seen) }
  }, needs)
  return { ...state, again: () => again.current() }
}
