// Messages of a queue: pages of what waits and of the history, one message and its life,
// and the dead letters.

import { useEffect, useState } from 'preact/hooks'

import { get, post, queuePath, usePoll } from './ask.js'
import { Dialog, Doing, Done, Field, Foreign, html, Loading, Notices, Problem, Reason } from './parts.js'
import { bytes, exactly, fromInput, num, plural, pretty, readFilter, toServer, when } from './text.js'

const stateNames = { ready: 'ready', in_flight: 'in flight', delayed: 'delayed', deleted: 'history' }

function letterOf(message) {
  try {
    const letter = JSON.parse(message.letter)
    return letter && typeof letter === 'object' ? letter : null
  } catch { return null }
}

// Pages of one part of a queue.  Where a page begins is remembered, so that one can go back.
function usePages(queue, part, order, filter, start, turn) {
  const [starts, setStarts] = useState([start])
  const key = JSON.stringify([queue, part, order, filter, start])
  const [keyNow, setKeyNow] = useState(key)
  if (key !== keyNow) { setKeyNow(key); setStarts([start]) }
  const here = (key === keyNow ? starts : [start]).at(-1)
  const { data: last, error, again } = usePoll(async () => ({
    key,
    ...await get(queuePath(queue, '/messages'), { part, order, filter, after_time: here?.time, after_id: here?.id, most: 50 })
  }), 0, [key, JSON.stringify(here), turn])
  // rows of another part or search are not shown, and not chosen, under this one's name
  const data = last?.key === key ? last : null
  return {
    data, error, again,
    back: starts.length > 1 ? () => setStarts(starts.slice(0, -1)) : null,
    on: data?.next ? () => setStarts([...starts, data.next]) : null
  }
}

// The messages of a page that contain a text.
function shownOf(data, text) {
  const wanted = text.toLowerCase()
  return data.messages.filter((message) => wanted === '' ||
    `${message.body} ${message.headers ?? ''} ${message.message_group ?? ''}`.toLowerCase().includes(wanted))
}

// Says that messages are chosen which are not seen.
function hidden(data, text, picked) {
  const seen = data ? shownOf(data, text).filter((message) => picked.has(message.msg_id)).length : 0
  return seen < picked.size ? `, ${num(picked.size - seen)} of them hidden by the text` : ''
}

// A table of messages, some of which can be chosen.
function List({ data, queue, picked, pick, text, letters }) {
  const rows = shownOf(data, text)
  const all = rows.length > 0 && rows.every((message) => picked.has(message.msg_id))
  const toggle = (ids, on) => {
    const next = new Set(picked)
    for (const id of ids) on ? next.add(id) : next.delete(id)
    pick(next)
  }
  return html`<div class="scroll"><table class="messages"><thead><tr>
    <th scope="col"><input type="checkbox" aria-label="Choose all that are shown" checked=${all} onChange=${(event) => toggle(rows.map((row) => row.msg_id), event.target.checked)} /></th>
    <th scope="col">Produced</th><th scope="col">State</th><th scope="col">Received</th>
    ${letters ? html`<th scope="col">From</th><th scope="col">Reason</th>` : html`<th scope="col">Brought back</th>`}
    <th scope="col">Headers</th><th scope="col">Body</th></tr></thead>
    <tbody>${rows.map((message) => {
      const letter = letters ? letterOf(message) : null
      return html`<tr key=${message.msg_id}>
        <td><input type="checkbox" aria-label=${`Choose message ${message.msg_id}`} checked=${picked.has(message.msg_id)} onChange=${(event) => toggle([message.msg_id], event.target.checked)} /></td>
        <th scope="row"><a href=${`#/queue/${encodeURIComponent(queue)}/messages/${message.msg_id}`}>${when(message.enqueued_at)}</a></th>
        <td>${stateNames[message.state] ?? message.state}</td>
        <td class="number">${letters ? `${num(letter?.receive_count)} ×` : `${num(message.receive_count)} ×`}</td>
        ${letters ? html`<td><${Foreign}>${letter ? String(letter.queue) : 'no dead letter'}</${Foreign}></td><td><${Foreign}>${letter ? reasons[letter.reason] ?? String(letter.reason) : '–'}</${Foreign}></td>`
          : html`<td class="number">${Number(message.rewind_count) > 0 ? `${num(message.rewind_count)} ×` : '–'}</td>`}
        <td><${Foreign} class="headers">${message.message_group ? `[${message.message_group}] ` : ''}${(message.headers ?? '').slice(0, 160)}</${Foreign}></td>
        <td><${Foreign} class="body">${message.body}${Number(message.body_bytes) > new Blob([message.body ?? '']).size ? '…' : ''}</${Foreign}></td>
      </tr>`
    })}</tbody></table></div>
    ${rows.length === 0 && html`<p class="faint">${data.messages.length === 0 ? 'Nothing here.' : 'No message of this page contains that text.'}</p>`}
    ${data.tired && html`<p class="note">As many messages were looked at as one page allows. “On” looks further.</p>`}`
}

const reasons = { max_receive_count: 'received too often', max_time_to_live: 'not consumed in time' }

function Pager({ pages, order, part }) {
  const later = part === 'pending' ? 'On' : order === 'up' ? 'On (later)' : 'On (earlier)'
  return html`<div class="pager">
    <button type="button" disabled=${!pages.back} onClick=${pages.back}>Back</button>
    <button type="button" disabled=${!pages.on} onClick=${pages.on}>${later}</button>
    <button type="button" onClick=${pages.again}>Look again</button>
  </div>`
}

export function Messages({ queue, turn, changed }) {
  const [, , , wanted] = location.hash.replace(/^#\/?/, '').split('/')
  const [part, setPart] = useState(queue.rewind_seconds && Number(queue.ready) + Number(queue.in_flight) + Number(queue.delayed) === 0 ? 'history' : 'pending')
  const [order, setOrder] = useState('up')
  const [filterText, setFilterText] = useState('')
  const [filterUsed, setFilterUsed] = useState('')
  const [text, setText] = useState('')
  const [start, setStart] = useState(null)
  const [id, setId] = useState('')
  const [picked, pick] = useState(new Set())
  const [act, setAct] = useState(null)
  const { filter, problem } = readFilter(filterUsed)
  const pages = usePages(queue.queue, part, part === 'history' ? order : 'up', filter, start, turn)
  // what is not on the page any more is not chosen any more; what its text hides stays chosen
  useEffect(() => pick(new Set()), [part, order, filterUsed, start, pages.data])
  const base = `#/queue/${encodeURIComponent(queue.queue)}/messages`
  const jump = (value) => {
    const ms = fromInput(value)
    setStart(ms === null ? null : { time: toServer(ms) })
  }
  return html`<section aria-label="Messages">
    <form class="tools" onSubmit=${(event) => { event.preventDefault(); setFilterUsed(filterText) }}>
      <div class="chips" role="group" aria-label="Part">
        <button type="button" class="chip" aria-pressed=${part === 'pending'} onClick=${() => setPart('pending')}>Pending</button>
        <button type="button" class="chip" aria-pressed=${part === 'history'} disabled=${!queue.rewind_seconds} onClick=${() => setPart('history')}>History</button>
      </div>
      ${part === 'history' && html`<div class="chips" role="group" aria-label="Order">
        <button type="button" class="chip" aria-pressed=${order === 'up'} onClick=${() => setOrder('up')}>Oldest first</button>
        <button type="button" class="chip" aria-pressed=${order === 'down'} onClick=${() => setOrder('down')}>Latest first</button></div>`}
      <label>Headers contain <input value=${filterText} placeholder='{"shop": 7}' maxlength="8192" spellcheck=${false} onInput=${(event) => setFilterText(event.target.value)} /></label>
      <button>Search</button>
      <label>${part === 'pending' ? 'Visible from' : order === 'up' ? 'From' : 'Before'} <input type="datetime-local" step="1" onChange=${(event) => jump(event.target.value)} /></label>
      <label>Text of this page <input type="search" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
    </form>
    <form class="tools" onSubmit=${(event) => { event.preventDefault(); if (id.trim()) location.hash = `${base}/${encodeURIComponent(id.trim())}` }}>
      <label>Message id <input value=${id} inputmode="numeric" pattern="[0-9]{1,19}" maxlength="19" onInput=${(event) => setId(event.target.value)} /></label>
      <button>Show</button>
    </form>
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${pages.error && !pages.error.lost && html`<${Problem} error=${pages.error} />`}
    ${picked.size > 0 && queue.may.operate && html`<div class="buttons picked">
      <span>${plural(picked.size, 'message')} chosen${hidden(pages.data, text, picked)}</span>
      ${part === 'history' && html`<button type="button" class="primary" onClick=${() => setAct('restore')}>Restore …</button>`}
      ${part === 'pending' && html`<button type="button" class="danger" onClick=${() => setAct('delete')}>Delete …</button>`}
    </div>`}
    ${pages.data ? html`<${List} data=${pages.data} queue=${queue.queue} picked=${picked} pick=${pick} text=${text} />` : !pages.error && html`<${Loading} what="messages" />`}
    <${Pager} pages=${pages} order=${order} part=${part} />
    ${act && html`<${ChosenDialog} act=${act} queue=${queue} ids=${[...picked]} close=${() => setAct(null)}
      done=${(said) => { setAct(null); pick(new Set()); changed(said) }} />`}
    ${wanted && html`<${One} key=${wanted} queue=${queue} id=${wanted} turn=${turn} close=${() => { location.hash = base }} changed=${changed} />`}
  </section>`
}

// Restore, delete or redrive the messages that were chosen.
function ChosenDialog({ act, queue, ids, close, done }) {
  const [reason, setReason] = useState('')
  const kinds = {
    restore: ['Restore', '/restore-messages', 'They will be ready again, in the order of production.', 'restored', 'primary'],
    delete: ['Delete', '/delete-messages', queue.rewind_seconds ? 'Nobody receives them; they are history then, and can be restored.' : 'Nobody receives them. Rewind is off: they are gone for good.', 'deleted', 'danger'],
    redrive: ['Redrive', '/redrive', 'They are sent back to the queues they came from.', 'sent back', 'primary']
  }
  const [verb, path, says, past, kind] = kinds[act]
  const body = act === 'redrive' ? { most: null, ids, filter: null, reason: reason || null }
    : { ids, reason: act === 'restore' ? reason : reason || null }
  return html`<${Dialog} title=${`${verb} ${plural(ids.length, 'message')} of ${queue.queue}`} close=${close}>
    <p>${says}</p>
    <${Doing} label=${verb} kind=${kind} close=${close} disabled=${act === 'restore' && reason.trim() === ''}
      run=${() => post(queuePath(queue.queue, path), body)}
      done=${({ result, notices }) => done(html`${plural(result.messages, 'message')} ${past}${Number(result.messages) < ids.length ? `; ${num(ids.length - Number(result.messages))} had changed meanwhile, or could not be` : ''}.<${Notices} notices=${notices} />`)}>
      ${act === 'restore' && html`<${Reason} value=${reason} set=${setReason} />`}
    </${Doing}>
  </${Dialog}>`
}

// The life of one message.
function One({ queue, id, turn, close, changed }) {
  const { data, error, again } = usePoll(() => get(queuePath(queue.queue, `/messages/${encodeURIComponent(id)}`)), 3, [queue.queue, id, turn])
  const [act, setAct] = useState(null)
  const message = data?.message
  const life = message ? lifeOf(message, data.calls) : []
  return html`<${Dialog} title=${`Message ${id}`} close=${close} wide>
    ${error && !error.lost && html`<${Problem} error=${error} />`}
    ${!message && !error && html`<${Loading} what="the message" />`}
    ${message && html`
      <dl class="facts">
        <dt>State</dt><dd>${stateNames[message.state]}</dd>
        <dt>Received</dt><dd>${num(message.receive_count)} × since it was sent or last brought back</dd>
        <dt>Brought back</dt><dd>${num(message.rewind_count)} ×</dd>
        ${message.message_group && html`<dt>Group</dt><dd><${Foreign}>${message.message_group}</${Foreign}></dd>`}
        <dt>Body</dt><dd>${bytes(message.body_bytes)}</dd>
      </dl>
      <h3>Its life</h3>
      <ol class="life">${life.map(([time, what]) => html`<li><time>${exactly(time)}</time> ${what}</li>`)}</ol>
      <h3>Headers</h3><pre class="text">${message.headers === null ? 'none' : pretty(message.headers)}</pre>
      <h3>Body</h3><pre class="text">${pretty(message.body)}</pre>
      ${message.cut && html`<p class="note">Only the beginning is shown.</p>`}
      <div class="buttons">
        ${queue.may.operate && message.state === 'deleted' && html`<button type="button" class="primary" onClick=${() => setAct('restore')}>Restore …</button>`}
        ${queue.may.operate && ['ready', 'delayed'].includes(message.state) && html`<button type="button" class="danger" onClick=${() => setAct('delete')}>Delete …</button>`}
        <button type="button" onClick=${close}>Close</button>
      </div>`}
    ${act && html`<${ChosenDialog} act=${act} queue=${queue} ids=${[id]} close=${() => setAct(null)} done=${(said) => { setAct(null); changed(said); again() }} />`}
  </${Dialog}>`
}

function lifeOf(message, calls) {
  const events = [[message.enqueued_at, 'produced']]
  // the record knows windows, not messages: if there were more calls than returns, it is open
  // which of them brought this one back
  const reached = calls.filter((call) => call.kind !== 'cancel').length > Number(message.rewind_count) ? 'may have reached it' : 'reached it'
  for (const call of calls) {
    const by = html`by <${Foreign}>${call.current_user_name}</${Foreign}>${call.reason ? html`: <${Foreign}>${call.reason}</${Foreign}>` : ''}`
    if (call.kind === 'cancel') events.push([call.called_at, html`a rewind was cancelled ${by}`])
    else events.push([call.called_at, html`a ${call.kind} ${reached} ${by}`])
  }
  if (message.first_received_at) events.push([message.first_received_at, Number(message.receive_count) > 1 ? `received for the first time, ${num(message.receive_count)} times since` : 'received'])
  if (message.deleted_at) events.push([message.deleted_at, html`deleted by <${Foreign}>${message.deleted_by}</${Foreign}>`])
  // a Z sorts behind digits: 12:00:00.5Z comes before 12:00:00.51Z
  const key = (iso) => iso.replace(/(?:\.(\d+))?Z$/, (_, digits = '') => `.${digits.padEnd(6, '0')}`)
  events.sort((a, b) => (key(a[0]) < key(b[0]) ? -1 : key(a[0]) > key(b[0]) ? 1 : 0))
  if (message.state === 'in_flight') events.push([message.visible_at, 'visible again, unless it is deleted before'])
  if (message.state === 'delayed') events.push([message.visible_at, 'ready, after its delay'])
  return events
}

// Dead letters: those in this queue, or those that came from it.
export function Letters({ queue, turn, changed }) {
  const own = queue.letters_of.length > 0
  const place = own ? queue.queue : queue.dead_letter_queue
  const base = own ? null : JSON.stringify({ cmq_dead_letter: { queue: queue.queue } })
  const { data: letters, error: unseen } = usePoll(() => (own ? Promise.resolve(queue) : get(queuePath(place))), 0, [place, turn])
  const [filterText, setFilterText] = useState('')
  const [used, setUsed] = useState('')
  const read = readFilter(used)
  const filter = read.filter
  const problem = read.problem ?? (base && filter && 'cmq_dead_letter' in JSON.parse(filter) ? `Here are the letters of ${queue.queue}: search for a cmq_dead_letter in ${place}.` : undefined)
  // as text: numbers keep their digits
  const both = filter && base && !problem ? `{${[base, filter].map((text) => text.trim().slice(1, -1).trim()).filter(Boolean).join(', ')}}` : filter ?? base
  const [text, setText] = useState('')
  const [picked, pick] = useState(new Set())
  const [act, setAct] = useState(null)
  const [most, setMost] = useState('')
  const [reason, setReason] = useState('')
  const pages = usePages(place, 'pending', 'up', both, null, turn)
  useEffect(() => pick(new Set()), [used, pages.data])
  const may = letters?.may
  return html`<section aria-label="Dead letters">
    <p>${own ? html`Dead letters of ${queue.letters_of.map((name, i) => html`${i ? ', ' : ''}<a href=${`#/queue/${encodeURIComponent(name)}`}>${name}</a>`)} come here.`
      : html`Dead letters go to <a href=${`#/queue/${encodeURIComponent(place)}/letters`}>${place}</a>:
        ${queue.max_receive_count ? ` what was received ${num(queue.max_receive_count)} times` : ''}${queue.max_receive_count && queue.max_time_to_live ? ', or' : ''}
        ${queue.max_time_to_live ? ` what was not consumed for ${num(queue.max_time_to_live)} seconds` : ''}.`}</p>
    ${unseen && html`<p class="note">Your role may not see queue ${place}.</p>`}
    ${may && !may.read && html`<p class="note">Your role may not read the letters: they are in ${place}.</p>`}
    ${may?.read && html`
      <form class="tools" onSubmit=${(event) => { event.preventDefault(); setUsed(filterText) }}>
        <label>Headers contain <input value=${filterText} placeholder='{"shop": 7}' maxlength="8000" spellcheck=${false} onInput=${(event) => setFilterText(event.target.value)} /></label>
        <button>Search</button>
        <label>Text of this page <input type="search" value=${text} onInput=${(event) => setText(event.target.value)} /></label>
      </form>
      ${problem && html`<p class="problem" role="alert">${problem}</p>`}
      ${pages.error && !pages.error.lost && html`<${Problem} error=${pages.error} />`}
      <div class="buttons picked">
        ${may.operate && html`<button type="button" class="primary" disabled=${picked.size === 0} onClick=${() => setAct('some')}>Redrive ${picked.size ? `${plural(picked.size, 'chosen letter')}${hidden(pages.data, text, picked)}` : 'the chosen'} …</button>`}
        ${(both ? may.operate : may.consume) && html`<button type="button" disabled=${Boolean(problem)} onClick=${() => setAct('all')}>Redrive ${filter ? 'all that match' : 'all'} …</button>`}
      </div>
      ${pages.data ? html`<${List} data=${pages.data} queue=${place} picked=${picked} pick=${pick} text=${text} letters />` : !pages.error && html`<${Loading} what="dead letters" />`}
      <${Pager} pages=${pages} part="pending" />`}
    ${act === 'some' && html`<${ChosenDialog} act="redrive" queue=${{ queue: place }} ids=${[...picked]} close=${() => setAct(null)}
      done=${(said) => { setAct(null); pick(new Set()); changed(said) }} />`}
    ${act === 'all' && html`<${Dialog} title=${`Redrive from ${place}`} close=${() => setAct(null)}>
      <p>${filter ? 'The letters that match are' : own ? 'All letters that are ready are' : html`All letters from ${queue.queue} that are ready are`} sent back to the queues they came from, the oldest first. What cannot be sent back stays.</p>
      <${Doing} label="Redrive" close=${() => setAct(null)}
        run=${() => post(queuePath(place, '/redrive'), { most: most === '' ? null : Number(most), ids: null, filter: both, reason: reason || null })}
        done=${({ result, notices }) => { setAct(null); changed(html`${plural(result.messages, 'letter')} sent back.<${Notices} notices=${notices} />`) }}>
        <${Field} label="At most (empty: all)" type="number" min="1" max="1000000" value=${most} onInput=${(event) => setMost(event.target.value)}
          hint="one first, to see whether the cause is repaired" />
      </${Doing}>
    </${Dialog}>`}
  </section>`
}
