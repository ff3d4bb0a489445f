// The record: who has brought back what, when and why.

import { useState } from 'preact/hooks'

import { get, queuePath, usePoll } from './ask.js'
import { Foreign, html, Loading, Problem } from './parts.js'
import { num, when } from './text.js'

export function Record({ queue, turn }) {
  const [starts, setStarts] = useState([null])
  const before = starts.at(-1)
  const { data, error } = usePoll(() => get(queue ? queuePath(queue, '/record') : '/record', { before }), before === null ? 5 : 0, [queue, before, turn])
  if (!data) return error ? html`<${Problem} error=${error} />` : html`<${Loading} what="the record" />`
  return html`<section aria-label="Record">
    ${error && !error.lost && html`<${Problem} error=${error} />`}
    <div class="scroll"><table class="record"><thead><tr><th scope="col">When</th>${!queue && html`<th scope="col">Queue</th>`}<th scope="col">What</th>
      <th scope="col">Window</th><th scope="col">Messages</th><th scope="col">By</th><th scope="col">Reason</th></tr></thead>
      <tbody>${data.rows.map((row) => html`<tr key=${row.id}>
        <th scope="row">${when(row.called_at)}</th>
        ${!queue && html`<td><a href=${`#/queue/${encodeURIComponent(row.queue)}`}>${row.queue}</a></td>`}
        <td>${row.kind}${row.into_queue ? html` into <bdi>${row.into_queue}</bdi>` : ''}</td>
        <td>${row.start_time ? html`${when(row.start_time)} ${row.end_time ? `to before ${when(row.end_time)}` : 'on'}` : '–'}
          ${row.filter && html`<br /><${Foreign} class="headers">${row.filter}</${Foreign}>`}</td>
        <td class="number">${row.kind === 'rewind' ? `${num(row.messages)} left` : num(row.messages)}</td>
        <td><${Foreign}>${row.current_user_name}${row.session_user_name !== row.current_user_name ? ` (as ${row.session_user_name})` : ''}</${Foreign}>
          <br /><span class="faint"><${Foreign}>${[row.application_name, row.client_addr].filter(Boolean).join(', ')}</${Foreign}></span></td>
        <td><${Foreign}>${row.reason ?? '–'}</${Foreign}></td>
      </tr>`)}</tbody></table></div>
    ${data.rows.length === 0 && html`<p class="faint">Nothing was brought back or paused.</p>`}
    <div class="pager">
      <button type="button" disabled=${starts.length === 1} onClick=${() => setStarts(starts.slice(0, -1))}>Later</button>
      <button type="button" disabled=${data.next === null} onClick=${() => setStarts([...starts, data.next])}>Earlier</button>
    </div>
  </section>`
}
