// All queues: live numbers, rates, sort and search; and a new queue.

import { useEffect, useRef, useState } from 'preact/hooks'

import { get, post, queuePath, usePoll } from './ask.js'
import { Badge, Doing, Field, html, Loading, Problem, Spark } from './parts.js'
import { SettingFields, readSettings } from './settings.js'
import { duration, num, short } from './text.js'

const PAGE = 50

const columns = [
  ['queue', 'Queue'], ['ready', 'Ready'], ['in_flight', 'In flight'], ['delayed', 'Delayed'], ['history', 'History'],
  ['left_of_rewind', 'Left of rewind'], ['oldest_ready_seconds', 'Oldest'], ['dead_letters', 'Dead letters']
]

const shows = [
  ['all', 'All'], ['paused', 'Paused'], ['rewinding', 'Rewind under way'], ['dead', 'Dead letters'], ['old', 'Oldest over 5 min']
]

// Rates from one answer to the next: messages per second, the last sixty.
const LAST = 60
function useRates(rows) {
  const past = useRef(new Map())
  const now = Date.now()
  for (const row of rows ?? []) {
    if (row.sent === undefined || row.sent === null || row.counted) continue
    row.counted = true
    let line = past.current.get(row.queue)
    // counters begin anew when the server is started
    if (!line || line.since !== row.since) {
      line = { since: row.since, at: null, sent: [], received: [], deleted: [] }
      past.current.set(row.queue, line)
    }
    if (line.at !== null && now > line.at) {
      for (const key of ['sent', 'received', 'deleted']) {
        line[key].push(Math.max(0, (Number(row[key]) - line.last[key]) * 1000 / (now - line.at)))
        if (line[key].length > LAST) line[key].shift()
      }
    }
    line.at = now
    line.last = { sent: Number(row.sent), received: Number(row.received), deleted: Number(row.deleted) }
  }
  return past.current
}

function Rate({ line, what, name }) {
  const values = line?.[what] ?? []
  const last = values.at(-1)
  return html`<span class="rate"><${Spark} values=${values} label=${`${name} per second, the last minutes`} />
    <span>${last === undefined ? '' : `${short(Math.round(last * 10) / 10)}/s`}</span></span>`
}

export function Badges({ queue }) {
  return html`
    ${queue.paused_since && html`<${Badge} kind="paused">paused<//>`}
    ${Number(queue.left_of_rewind) > 0 && html`<${Badge} kind="rewinding">rewind under way<//>`}
    ${queue.ordered && html`<${Badge} kind="quiet">ordered<//>`}`
}

export function Queues() {
  const [sort, setSort] = useState('queue')
  const [down, setDown] = useState(false)
  const [search, setSearch] = useState('')
  const [show, setShow] = useState('all')
  const [offset, setOffset] = useState(0)
  const order = down ? 'down' : 'up'
  const { data, error } = usePoll(() => get('/queues', { sort, order, search, show, offset, limit: PAGE }), 3, [sort, down, search, show, offset])
  const rates = useRates(data?.rows)
  const by = (key) => {
    // numbers are looked at from the largest on
    if (key === sort) setDown(!down)
    else { setSort(key); setDown(key !== 'queue') }
    setOffset(0)
  }
  if (!data) return error ? html`<${Problem} error=${error} />` : html`<${Loading} what="the queues" />`
  return html`
    <div class="heading"><h1>Queues</h1>
      ${data.may_create && html`<a class="button" href="#/new">New queue</a>`}</div>
    <div class="tools">
      <input type="search" aria-label="Search by name" placeholder="Search by name" value=${search} maxlength="63"
        onInput=${(event) => { setSearch(event.target.value); setOffset(0) }} />
      <div class="chips" role="group" aria-label="Show">${shows.map(([key, text]) => html`
        <button type="button" class="chip" aria-pressed=${show === key} onClick=${() => { setShow(key); setOffset(0) }}>${text} <span>${num(data.counts[key])}</span></button>`)}</div>
    </div>
    ${error && !error.lost && html`<${Problem} error=${error} />`}
    <div class="scroll"><table class="queues">
      <thead><tr>${columns.map(([key, text]) => html`
        <th scope="col" class=${key} aria-sort=${key === sort ? (down ? 'descending' : 'ascending') : undefined}>
          <button type="button" class="plain" onClick=${() => by(key)}>${text}<span aria-hidden="true">${key === sort ? (down ? ' ▼' : ' ▲') : ''}</span></button></th>`)}
        <th scope="col">Sent</th><th scope="col">Received</th></tr></thead>
      <tbody>${data.rows.map((row) => html`<tr key=${row.queue}>
        <th scope="row" class="queue"><a href=${`#/queue/${encodeURIComponent(row.queue)}`}>${row.queue}</a> <${Badges} queue=${row} /></th>
        <td data-name="Ready">${num(row.ready)}</td>
        <td data-name="In flight">${num(row.in_flight)}</td>
        <td data-name="Delayed">${num(row.delayed)}</td>
        <td data-name="History">${num(row.history)}</td>
        <td data-name="Left of rewind">${num(row.left_of_rewind)}</td>
        <td data-name="Oldest" class=${row.oldest_ready_seconds > 300 ? 'old' : ''}>${duration(row.oldest_ready_seconds)}</td>
        <td data-name="Dead letters" class=${Number(row.dead_letters) > 0 ? 'dead' : ''}>${num(row.dead_letters)}</td>
        <td data-name="Sent"><${Rate} line=${rates.get(row.queue)} what="sent" name="sent" /></td>
        <td data-name="Received"><${Rate} line=${rates.get(row.queue)} what="received" name="received" /></td>
      </tr>`)}</tbody>
    </table></div>
    ${data.rows.length === 0 && html`<p class="faint">${data.counts.all === 0 ? 'There is no queue that you may see.' : 'No queue is like that.'}</p>`}
    <div class="pager">
      <span>${data.total === 0 ? '' : `${num(offset + 1)} to ${num(offset + data.rows.length)} of ${num(data.total)}`}</span>
      <button type="button" disabled=${offset === 0} onClick=${() => setOffset(Math.max(0, offset - PAGE))}>Previous</button>
      <button type="button" disabled=${offset + PAGE >= data.total} onClick=${() => setOffset(offset + PAGE)}>Next</button>
    </div>
    ${data.age_seconds > 10 && html`<p class="faint">The order and the numbers above the table are ${duration(data.age_seconds)} old; the rows are of now.</p>`}`
}

export function NewQueue() {
  const [queue, setQueue] = useState('')
  // CMQ's advice for queues that matter: rewind as long as the messages live
  const [values, setValues] = useState({ msg_retention_seconds: '345600', rewind_seconds: '345600' })
  const first = useRef()
  useEffect(() => { first.current?.querySelector('input')?.focus() }, [])
  return html`<h1>New queue</h1>
    <p>It belongs to your role. With rewind on, what was consumed can be brought back for that long.</p>
    <div class="card narrow" ref=${first}>
      <${Doing} label="Create" run=${() => post(queuePath(queue, '/create'), readSettings(values, {}))}
        done=${() => { location.hash = `#/queue/${encodeURIComponent(queue)}` }}>
        <${Field} label="Name" value=${queue} required maxlength="48" pattern="[A-Za-z][A-Za-z0-9_\\-]*" autocapitalize="none" spellcheck=${false}
          hint="1 to 48 letters, digits, - and _, a letter first" onInput=${(event) => setQueue(event.target.value)} />
        <${SettingFields} values=${values} set=${setValues} creating />
      </${Doing}>
    </div>`
}
