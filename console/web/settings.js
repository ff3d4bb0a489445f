// The settings of a queue, and the two things that cannot be taken back: clear and drop.

import { useState } from 'preact/hooks'

import { post, queuePath } from './ask.js'
import { Dialog, Doing, Field, html } from './parts.js'
import { duration, num, plural, when } from './text.js'

// As the reference has them: unit, range, and what it means.
const fields = [
  ['visibility_timeout', 'Visibility timeout', 's', 1, 43200, 'how long a received message is hidden'],
  ['polling_wait_seconds', 'Polling wait', 's', 0, 30, 'how long a receive waits that finds nothing'],
  ['msg_retention_seconds', 'Retention', 's', 60, 1296000, 'the whole life of a message, counted from its sending'],
  ['rewind_seconds', 'Rewind', 's', 0, 1296000, 'how long what was consumed can be brought back, counted from its sending; 0: rewind is off'],
  ['max_msg_size', 'Largest body', 'bytes', 1024, 67108864, ''],
  ['max_msg_heap_num', 'Most pending', 'messages', 1, 1000000000, 'a send that would make more is refused'],
  ['max_receive_count', 'Most receives', '', 1, 1000, 'received so often and ready again, a message is a dead letter'],
  ['max_time_to_live', 'Time to live', 's', 300, 43200, 'not consumed for so long, a message is a dead letter'],
  ['retry_backoff_seconds', 'Back-off', 's', 0, 43200, 'how long a release hides a message, doubled with each receive'],
  ['retry_backoff_max_seconds', 'Longest back-off', 's', 0, 43200, ''],
  ['rewind_share', 'Rewind share', '%', 1, 100, 'of what is received while a rewind is under way'],
  ['dedup_seconds', 'Keys count for', 's', 0, 1296000, '0: the queue keeps no keys']
]
const durations = new Set(['msg_retention_seconds', 'rewind_seconds', 'dedup_seconds', 'max_time_to_live'])

// The settings that were typed and differ from what there is.
export function readSettings(values, now) {
  const given = {}
  for (const [key] of fields) {
    const text = values[key]
    if (text === undefined || text === '' || text === String(now[key] ?? '')) continue
    given[key] = Number(text)
  }
  if (values.dead_letter_queue && values.dead_letter_queue !== now.dead_letter_queue) given.dead_letter_queue = values.dead_letter_queue
  if (values.ordered) given.ordered = true
  return given
}

// The dead-letter policy needs DELETE on the queue, because it takes messages from it.
const policy = new Set(['max_receive_count', 'max_time_to_live', 'dead_letter_queue'])

export function SettingFields({ values, set, creating, letters = true }) {
  const put = (key, value) => set({ ...values, [key]: value })
  const needs = (key) => (!letters && policy.has(key) ? 'to change it needs DELETE on the queue' : '')
  return html`
    <div class="settings">${fields.map(([key, label, unit, least, most, hint]) => html`<${Field} key=${key} label=${unit ? `${label} (${unit})` : label}
      type="number" min=${least} max=${most} step="1" value=${values[key] ?? ''}
      disabled=${needs(key) !== ''} hint=${[hint, needs(key), durations.has(key) && values[key] > 0 ? duration(values[key]) : ''].filter(Boolean).join(' – ')}
      placeholder=${creating ? 'default' : 'not set'} onInput=${(event) => put(key, event.target.value)} />`)}
    <${Field} label="Dead-letter queue" value=${values.dead_letter_queue ?? ''} maxlength="48" spellcheck=${false} autocapitalize="none"
      disabled=${needs('dead_letter_queue') !== ''} hint=${needs('dead_letter_queue') || 'needs the most receives or the time to live'} onInput=${(event) => put('dead_letter_queue', event.target.value)} /></div>
    ${creating && html`<label class="check"><input type="checkbox" checked=${values.ordered ?? false} onChange=${(event) => put('ordered', event.target.checked)} />
      ordered: messages of a group are delivered one after the other; cannot be changed later</label>`}`
}

const textOf = (queue) => ({
  ...Object.fromEntries(fields.map(([key]) => [key, queue[key] === null || queue[key] === undefined ? '' : String(queue[key])])),
  dead_letter_queue: queue.dead_letter_queue ?? ''
})

export function Settings({ queue, changed }) {
  // only what was typed: the rest is as the queue has it now, and is not sent, so that a form
  // that stood open does not take back what somebody else has changed
  const [typed, setTyped] = useState({})
  const [act, setAct] = useState(null)
  const [sure, setSure] = useState('')
  const changes = readSettings(typed, queue)
  const forgetsAll = changes.rewind_seconds === 0
  const forgets = changes.rewind_seconds !== undefined && changes.rewind_seconds < queue.rewind_seconds
  if (queue.visibility_timeout === null || queue.visibility_timeout === undefined) {
    return html`<p class="note">Your role may not read the settings of this queue.</p>
      ${queue.may.own && html`<${Danger} queue=${queue} act=${act} setAct=${setAct} changed=${changed} />`}`
  }
  return html`<section aria-label="Settings">
    <p class="faint">Made ${when(queue.create_time)}, last changed ${when(queue.last_modify_time)}${queue.ordered ? ', ordered' : ''}.</p>
    ${queue.may.operate ? html`<${Doing} label="Change" disabled=${Object.keys(changes).length === 0 || (forgetsAll && sure !== queue.queue)}
        run=${() => post(queuePath(queue.queue, '/alter'), changes)} done=${() => { setTyped({}); setSure(''); changed('The settings are changed.') }}>
        <${SettingFields} letters=${queue.may.consume} values=${{ ...textOf(queue), ...typed }} set=${(next) => setTyped(Object.fromEntries(Object.entries(next).filter(([key, text]) => key in typed || text !== textOf(queue)[key])))} />
        ${forgets && html`<p class="note forbidden">${forgetsAll
          ? `This switches rewind off: the history, ${plural(queue.history ?? 0, 'message')}, is forgotten at once and for good.`
          : 'What is older than the new rewind time cannot be brought back any more, also when it is made longer again.'}</p>`}
        ${forgetsAll && html`<${Field} label="Type the name of the queue" value=${sure} autocomplete="off" autocapitalize="none" spellcheck=${false} onInput=${(event) => setSure(event.target.value)} />`}
      </${Doing}>
      ${queue.dead_letter_queue && html`<div class="buttons"><button type="button" onClick=${() => setAct('unbind')}>End the dead-letter policy …</button></div>`}`
      : html`<dl class="facts">${[...fields.map(([key, label, unit]) => [label, queue[key] === null ? 'not set' : `${num(queue[key])} ${unit}`]),
        ['Dead-letter queue', queue.dead_letter_queue ?? 'not set']].map(([label, value]) => html`<dt>${label}</dt><dd>${value}</dd>`)}</dl>`}
    <${Danger} queue=${queue} act=${act} setAct=${setAct} changed=${changed} />
  </section>`
}

function Danger({ queue, act, setAct, changed }) {
  const [typed, setTyped] = useState('')
  const close = () => { setAct(null); setTyped('') }
  const pending = Number(queue.ready ?? 0) + Number(queue.in_flight ?? 0) + Number(queue.delayed ?? 0)
  return html`
    ${(queue.may.operate || queue.may.own) && html`<h2>For good</h2><div class="buttons">
      ${queue.may.operate && html`<button type="button" class="danger" onClick=${() => setAct('clear')}>Clear …</button>`}
      ${queue.may.own && html`<button type="button" class="danger" onClick=${() => setAct('drop')}>Drop …</button>`}</div>`}
    ${act === 'unbind' && html`<${Dialog} title="End the dead-letter policy" close=${close}>
      <p>No message of ${queue.queue} goes to ${queue.dead_letter_queue} any more. What is there stays there.</p>
      <${Doing} label="End it" close=${close} run=${() => post(queuePath(queue.queue, '/unbind'))} done=${() => { close(); changed('The dead-letter policy has ended.') }} />
    </${Dialog}>`}
    ${(act === 'clear' || act === 'drop') && html`<${Dialog} title=${act === 'clear' ? `Clear ${queue.queue}` : `Drop ${queue.queue}`} close=${close}>
      <p>${act === 'clear' ? `All pending messages, ${num(pending)} as of now, are removed for good: they do not become history. The history stays; a rewind under way ends.`
        : 'The queue is dropped with its messages and its history, for good.'}</p>
      <${Doing} label=${act === 'clear' ? 'Clear for good' : 'Drop for good'} kind="danger" close=${close} disabled=${typed !== queue.queue}
        run=${() => post(queuePath(queue.queue, `/${act}`), { name: typed })}
        done=${({ result }) => {
          close()
          if (act === 'drop') location.hash = '#/'
          else changed(`${plural(result.messages, 'message')} removed.`)
        }}>
        <${Field} label="Type the name of the queue" value=${typed} autocomplete="off" autocapitalize="none" spellcheck=${false} onInput=${(event) => setTyped(event.target.value)} />
      </${Doing}>
    </${Dialog}>`}`
}
