// One queue: its numbers, pause and resume, the rewind under way, and its tabs.

import { useEffect, useRef, useState } from 'preact/hooks'

import { get, post, queuePath, usePoll } from './ask.js'
import { Dialog, Doing, Done, Foreign, html, Loading, Problem, Reason, Tabs } from './parts.js'
import { Badges } from './queues.js'
import { Letters, Messages } from './messages.js'
import { Record } from './record.js'
import { Settings } from './settings.js'
import { Timeline } from './timeline.js'
import { bytes, duration, num, plural, when } from './text.js'

function Number_({ name, children, kind }) {
  return html`<div class=${`tile ${kind ?? ''}`}><dt>${name}</dt><dd>${children}</dd></div>`
}

function Pausing({ queue, now, changed }) {
  const [open, setOpen] = useState(false)
  const [reason, setReason] = useState('')
  // an open dialog keeps its meaning, also when somebody else pauses or resumes meanwhile
  const [meant, setMeant] = useState(now)
  const paused = open ? meant : now
  const close = () => { setOpen(false); setReason('') }
  return html`
    <button type="button" class=${paused ? 'primary' : ''} onClick=${() => { setMeant(now); setOpen(true) }}>${paused ? 'Resume' : 'Pause'}</button>
    ${open && html`<${Dialog} title=${paused ? `Resume ${queue.queue}` : `Pause ${queue.queue}`} close=${close}>
      <p>${paused ? 'Consumers receive messages again, those that wait are woken.'
        : 'Consumers find the queue empty until it is resumed. Sends go on, and so do deletes of what was received before.'}</p>
      <${Doing} label=${paused ? 'Resume' : 'Pause'} close=${close}
        run=${() => post(queuePath(queue.queue, paused ? '/resume' : '/pause'), { reason: reason || null })}
        done=${({ result }) => {
          close()
          changed(result.changed ? `The queue is ${paused ? 'resumed' : 'paused'}.` : `Somebody else had ${paused ? 'resumed' : 'paused'} the queue already.`)
        }}>
        <${Reason} value=${reason} set=${setReason} required=${!paused} />
      </${Doing}>
    </${Dialog}>`}`
}

// The rewind under way: how much of it is left, and a way to end it.
function Draining({ queue, changed }) {
  const left = Number(queue.left_of_rewind ?? 0)
  const most = useRef(0)
  const [open, setOpen] = useState(false)
  const [reason, setReason] = useState('')
  const [ended, setEnded] = useState(null)
  const under = left > 0
  if (left > most.current) most.current = left
  // nothing is left: was it received, or did somebody cancel?  The record knows
  useEffect(() => {
    if (under) { setEnded(null); return undefined }
    if (most.current === 0) return undefined
    most.current = 0
    let over = false
    const say = (what) => { if (!over) setEnded(what) }
    get(queuePath(queue.queue, '/record')).then(({ rows }) => {
      const last = rows.find((row) => row.kind === 'rewind' || row.kind === 'cancel')
      say(last?.kind === 'cancel' ? html`The rewind was cancelled by <${Foreign}>${last.current_user_name}</${Foreign}>.` : 'All that the rewind brought back has been received.')
    }, () => say('Nothing is left of the rewind.'))
    return () => { over = true }
  }, [under])
  const close = () => { setOpen(false); setReason('') }
  const received = most.current - left
  return html`
    ${!under && ended && html`<p class="done" role="status">${ended}</p>`}
    ${under && html`<section class="draining" aria-label="Rewind under way">
    <div><strong>A rewind is under way.</strong> ${plural(left, 'message')} ${left === 1 ? 'is' : 'are'} left to receive${received > 0 ? `, ${num(received)} received since this page looks` : ''}.
      ${queue.paused_since !== null && ' The queue is paused: resume it to let consumers have them.'}</div>
    <progress max=${most.current} value=${received} aria-label="Received of what was brought back"></progress>
    ${queue.may.operate && html`<button type="button" onClick=${() => setOpen(true)}>Cancel the rewind</button>`}
    </section>`}
    ${open && html`<${Dialog} title=${`Cancel the rewind of ${queue.queue}`} close=${close}>
      <p>What has not been received yet returns to the history: ${plural(left, 'message')} as of now. What was received stays received.</p>
      <${Doing} label="Cancel the rewind" kind="danger" close=${close}
        run=${() => post(queuePath(queue.queue, '/cancel'), { reason })}
        done=${() => { close(); changed('The rewind is cancelled. What was left of it is history again.') }}>
        <${Reason} value=${reason} set=${setReason} />
      </${Doing}>
    </${Dialog}>`}`
}

export function Queue({ queue: name, tab, me }) {
  const { data: queue, error, again } = usePoll(async () => {
    const answer = await get(queuePath(name))
    // by how much the server's clock is ahead of this browser's, in milliseconds
    return { ...answer, ahead: answer.now ? new Date(answer.now).getTime() - Date.now() : 0 }
  }, 2, [name])
  const [said, setSaid] = useState('')
  // what changes with each change of the queue, so that the tabs ask anew
  const [turn, setTurn] = useState(0)
  const changed = (what) => { setSaid(what); setTurn((n) => n + 1); again() }
  useEffect(() => { setSaid('') }, [tab])
  if (error?.code === '42704') {
    return html`<h1><bdi>${name}</bdi></h1><${Problem} error=${error} /><p><a href="#/">All queues</a></p>`
  }
  if (!queue) return error ? html`<${Problem} error=${error} />` : html`<${Loading} what=${name} />`
  const base = `#/queue/${encodeURIComponent(name)}`
  const tabs = [
    queue.may.read && ['timeline', 'Timeline', base],
    queue.may.read && ['messages', 'Messages', `${base}/messages`],
    (queue.dead_letter_queue || queue.letters_of.length > 0) && ['letters', 'Dead letters', `${base}/letters`],
    queue.may.read && ['record', 'Record', `${base}/record`],
    ['settings', 'Settings', `${base}/settings`]
  ].filter(Boolean)
  const here = tabs.some(([key]) => key === tab) ? tab : tabs[0][0]
  return html`
    <p class="crumbs"><a href="#/">Queues</a></p>
    <div class="heading">
      <h1>${name} <${Badges} queue=${queue} /></h1>
      <span class="faint">of <bdi>${queue.owner ?? '–'}</bdi></span>
      ${queue.may.operate && (queue.may.read ? html`<${Pausing} queue=${queue} now=${queue.paused_since !== null} changed=${changed} />`
        // who may not read does not know whether it is paused
        : html`<span class="buttons"><${Pausing} queue=${queue} now=${false} changed=${changed} /><${Pausing} queue=${queue} now=${true} changed=${changed} /></span>`)}
    </div>
    ${error && !error.lost && html`<${Problem} error=${error} />`}
    ${!queue.may.read && html`<p class="note">Your role may not read this queue, so there are no messages and numbers here. SELECT on cmq."q_${name}" would show them.</p>`}
    ${queue.paused_since && html`<p class="note">Paused since ${when(queue.paused_since)}: nothing is delivered.</p>`}
    ${queue.ready !== undefined && html`<dl class="tiles">
      <${Number_} name="Ready">${num(queue.ready)}<//>
      <${Number_} name="In flight">${num(queue.in_flight)}<//>
      <${Number_} name="Delayed">${num(queue.delayed)}<//>
      <${Number_} name="History">${num(queue.history)}<//>
      <${Number_} name="Left of rewind" kind=${Number(queue.left_of_rewind) > 0 ? 'rewinding' : ''}>${num(queue.left_of_rewind)}<//>
      <${Number_} name="Oldest ready">${duration(queue.oldest_ready_seconds)}<//>
      ${queue.dead_letter_queue && html`<${Number_} name="Dead letters" kind=${Number(queue.dead_letters) > 0 ? 'dead' : ''}>${num(queue.dead_letters)}<//>`}
      ${queue.blocked_groups !== null && queue.blocked_groups !== undefined && html`<${Number_} name="Blocked groups">${num(queue.blocked_groups)}<//>`}
      <${Number_} name="On disk">${bytes(Number(queue.pending_bytes) + Number(queue.history_bytes))}<//>
    </dl>`}
    <${Draining} queue=${queue} changed=${changed} />
    <${Done} close=${() => setSaid('')}>${said}</${Done}>
    <${Tabs} tabs=${tabs} now=${here} label="Of this queue" />
    ${here === 'timeline' ? html`<${Timeline} queue=${queue} turn=${turn} changed=${changed} />`
      : here === 'messages' ? html`<${Messages} queue=${queue} turn=${turn} changed=${changed} />`
        : here === 'letters' ? html`<${Letters} queue=${queue} turn=${turn} changed=${changed} />`
          : here === 'record' ? html`<${Record} queue=${name} turn=${turn} />`
            : html`<${Settings} queue=${queue} me=${me} changed=${changed} />`}`
}
