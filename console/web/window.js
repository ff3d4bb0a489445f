// The chosen window: what would come back, and the calls that bring it back.
//
// The count is made in pieces, each short for the server, and added up here.  A call is
// bound to the count: if the queue has changed meanwhile, nothing happens.

import { useEffect, useState } from 'preact/hooks'

import { get, post, queuePath, usePoll } from './ask.js'
import { Dialog, Doing, Field, Foreign, html, Notices, Problem, Reason } from './parts.js'
import { bytes, num, plural, readFilter, toServer, when } from './text.js'

// Count the window, piece by piece; what is known of it so far.
function useCount(queue, from, to, filter, turn, counting) {
  const [count, set] = useState(null)
  const [error, setError] = useState(null)
  const [again, setAgain] = useState(0)
  useEffect(() => {
    let over = false
    const run = async () => {
      const sum = { key: JSON.stringify([queue, from, to, filter, turn, again, counting]), messages: 0, bytes: 0, first: null, last: null, done: false, reached: from }
      const stop = to === null ? null : toServer(to)
      let next = toServer(from)
      let seconds = null
      while (next !== null && !over) {
        const piece = await get(queuePath(queue, '/count'), { from: next, to: stop, filter, seconds })
        seconds = Math.max(piece.seconds, 0.001).toFixed(6)
        sum.messages += Number(piece.messages)
        sum.bytes += Number(piece.body_bytes ?? 0)
        sum.first ??= piece.first_enqueued_at
        sum.last = piece.last_enqueued_at ?? sum.last
        next = piece.next
        if (next !== null) sum.reached = new Date(next).getTime()
        if (!over) set({ ...sum, done: next === null, at: Date.now() })
      }
    }
    set(null)
    setError(null)
    if (!counting) return undefined
    // wait until the mouse stands still
    const timer = setTimeout(() => run().catch((failed) => { if (!over) setError(failed) }), 250)
    return () => { over = true; clearTimeout(timer) }
  }, [queue, from, to, filter, turn, again, counting])
  // a count of another window or filter is not shown as this one's, for no moment
  const key = JSON.stringify([queue, from, to, filter, turn, again, counting])
  return { count: count?.key === key ? count : null, error, again: () => setAgain((n) => n + 1) }
}

function Samples({ queue, chosen, filter, turn }) {
  const { data, error } = usePoll(async () => {
    const page = await get(queuePath(queue, '/messages'), { part: 'history', order: 'up', after_time: toServer(chosen.from), filter, most: 5 })
    return page.messages.filter((message) => chosen.to === null || new Date(message.enqueued_at).getTime() < chosen.to)
  }, 0, [queue, chosen.from, chosen.to, filter, turn])
  if (error) return html`<${Problem} error=${error} />`
  if (!data?.length) return null
  return html`<h3>The first of them</h3><ul class="samples">${data.map((message) => html`<li key=${message.msg_id}>
    <a href=${`#/queue/${encodeURIComponent(queue)}/messages/${message.msg_id}`}><time>${when(message.enqueued_at)}</time></a>
    <${Foreign} class="body">${message.body}${Number(message.body_bytes) > message.body.length ? '…' : ''}</${Foreign}></li>`)}</ul>`
}

export function WindowPanel({ queue, chosen, legal, turn, done, choose }) {
  const [text, setText] = useState('')
  const [act, setAct] = useState(null)
  const { filter, problem } = readFilter(text)
  const { count, error, again } = useCount(queue.queue, chosen.from, chosen.to, filter, turn, Boolean(queue.rewind_seconds) && !problem)
  if (!queue.rewind_seconds) {
    return html`<div class="card"><p>Rewind is off for this queue: what is consumed is gone. It can be switched on in its settings, for what is consumed from then on.</p></div>`
  }
  // A rewind takes all since its start; a restore takes a window and a filter.
  const open = chosen.to === null && filter === null
  const early = legal && chosen.from < legal.from
  const late = legal && chosen.from > legal.to
  const rewind = open && !late
  const many = count?.messages ?? 0
  return html`<div class="card window">
    <h2>What would come back</h2>
    <p class="span">Deleted messages produced from ${when(toServer(chosen.from))} ${chosen.to === null ? 'on' : `to before ${when(toServer(chosen.to))}`}</p>
    ${error ? html`<${Problem} error=${error} />` : html`<dl class="tiles" aria-live="polite">
      <div class="tile"><dt>Messages</dt><dd class="messages">${count === null ? '…' : `${count.done ? '' : 'more than '}${num(count.messages)}`}</dd></div>
      <div class="tile"><dt>Bytes of bodies</dt><dd>${count === null ? '…' : bytes(count.bytes)}</dd></div>
      <div class="tile"><dt>First</dt><dd>${count === null ? '…' : when(count.first)}</dd></div>
      <div class="tile"><dt>Last</dt><dd>${count === null ? '…' : when(count.last)}</dd></div>
    </dl>`}
    ${count && !count.done && html`<p class="faint" role="status">Counting: until ${when(toServer(count.reached))} so far.</p>`}
    <${Field} label="Only messages whose headers contain" value=${text} placeholder='{"shop": 7}' maxlength="8192" spellcheck=${false}
      onInput=${(event) => setText(event.target.value)} hint="a JSON object; empty: all messages of the window" />
    ${problem && html`<p class="problem" role="alert">${problem}</p>`}
    ${!problem && html`<${Samples} queue=${queue.queue} chosen=${chosen} filter=${filter} turn=${turn} />`}
    ${early && html`<p class="note">What was produced before ${when(toServer(legal.from))} has left the rewind window: it is not counted, and does not come back.</p>`}
    ${late && open && html`<p class="note forbidden">A rewind cannot start here: a message that was produced at ${when(toServer(legal.to))} still waits to be consumed,
      and a rewind cannot start behind it. A restore brings back the same messages.</p>`}
    <div class="buttons">
      ${queue.may.operate && rewind && html`<button type="button" class="primary" disabled=${many === 0 || problem} onClick=${() => setAct('rewind')}>Rewind …</button>`}
      ${queue.may.operate && html`<button type="button" class=${rewind ? '' : 'primary'} disabled=${many === 0 || problem} onClick=${() => setAct('restore')}>Restore …</button>`}
      ${queue.may.replay && html`<button type="button" disabled=${many === 0 || problem} onClick=${() => setAct('replay')}>Replay into another queue …</button>`}
      <button type="button" onClick=${again}>Count again</button>
    </div>
    ${!queue.may.operate && html`<p class="faint">To bring messages back into this queue needs UPDATE on it, which your role has not.</p>`}
    ${act && html`<${Act} act=${act} queue=${queue} chosen=${chosen} filter=${filter} count=${count} early=${early}
      close=${() => { setAct(null) }} stale=${again} done=${done} />`}
  </div>`
}

function Act({ act, queue, chosen, filter, count, early, close, stale, done }) {
  const [reason, setReason] = useState('')
  const [into, setInto] = useState('')
  const [once, setOnce] = useState(false)
  const [bound, setBound] = useState(true)
  // the numbers of the moment when the dialog was opened: what was seen is what is meant
  const [seen] = useState(count)
  const ready = seen?.done || !bound || (act === 'replay' && once)
  const verb = { rewind: 'Rewind', restore: 'Restore', replay: 'Replay' }[act]
  // with once, the server cannot know which of them were copied before
  const loose = act === 'replay' && once
  const expected = bound && !loose && seen?.done ? seen.messages : null
  const run = async () => {
    const start = toServer(chosen.from)
    const end = chosen.to === null ? null : toServer(chosen.to)
    try {
      if (act === 'rewind') return await post(queuePath(queue.queue, '/rewind'), { start: early ? null : start, expected, reason })
      if (act === 'restore') return await post(queuePath(queue.queue, '/restore'), { start, end, filter, expected, reason })
      return await post(queuePath(queue.queue, '/replay'), { into, start, end, filter, expected, dedup: once, reason })
    } catch (error) {
      if (error.code === 'unexpected' || error.code === '21000') stale()
      throw error
    }
  }
  return html`<${Dialog} title=${`${verb} ${queue.queue}`} close=${close}>
    <p><strong>${seen ? `${seen.done ? '' : 'At least '}${plural(seen.messages, 'message')}` : '…'}</strong>${filter ? html` whose headers contain <code>${filter}</code>` : ''}, produced from
      ${' '}${when(toServer(chosen.from))} ${chosen.to === null ? 'on' : `to before ${when(toServer(chosen.to))}`},
      ${act === 'rewind' ? ' will be received again, in the order of production.'
        : act === 'restore' ? ' will be ready again, in the order of production.'
          : ' will be copied into another queue. Nothing changes in this one.'}</p>
    ${queue.paused_since === null && act !== 'replay' && html`<p class="note">The queue is not paused: consumers that run now receive them at once. If they are the broken ones, pause it first.</p>`}
    <${Doing} label=${verb} close=${close} disabled=${!ready || reason.trim() === ''}
      run=${run} done=${({ result, notices }) => {
        close()
        done(html`${act === 'rewind' ? result.first === null ? 'There was nothing to bring back.'
          : `The rewind is under way${result.messages ? `: ${plural(result.messages, 'message')} to receive` : ''}.`
          : act === 'restore' ? `${plural(result.messages, 'message')} restored.` : `${plural(result.messages, 'message')} copied into ${into}.`}<${Notices} notices=${notices} />`)
      }}>
      ${act === 'replay' && html`
        <${Field} label="Into queue" value=${into} required maxlength="48" autocapitalize="none" spellcheck=${false} onInput=${(event) => setInto(event.target.value)} />
        <label class="check"><input type="checkbox" checked=${once} onChange=${(event) => setOnce(event.target.checked)} /> leave out what was copied before (the other queue keeps keys)</label>`}
      <${Reason} value=${reason} set=${setReason} />
      ${!loose && html`<label class="check"><input type="checkbox" checked=${bound} onChange=${(event) => setBound(event.target.checked)} />
        ${seen?.done ? `only if it is exactly ${plural(seen.messages, 'message')}` : 'only if the count is right (it was not finished: close this, and wait for it)'}</label>`}
    </${Doing}>
  </${Dialog}>`
}
