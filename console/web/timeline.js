// The timeline of a queue: how many messages were produced when, stacked by what has become
// of them, and the window that is dragged on it.
//
// The chart is for the eye and the mouse.  The same window is set by its two handles (arrow
// keys) and by the times under the chart, and the same numbers are in a table.

import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import uPlot from 'uplot'

import { get, queuePath, usePoll } from './ask.js'
import { html, Problem } from './parts.js'
import { fromInput, num, short, toInput, toServer, when, zone } from './text.js'
import { WindowPanel } from './window.js'

// The rewind window moves on while somebody types a reason: what is chosen begins so much later.
const MARGIN = 120000

// From the bottom of the stack to its top.
const states = [
  ['history', 'History'], ['brought_back', 'Brought back'], ['pending', 'Pending'], ['in_flight', 'In flight']
]

const spans = [[900, '15 min'], [3600, '1 h'], [21600, '6 h'], [86400, '24 h'], [604800, '7 days'], [0, 'All']]

// What is shown: so many seconds up to the end, or all since the oldest message.
function rangeOf(queue, span, end) {
  const now = end ?? Date.now() + queue.ahead
  const oldest = queue.oldest_enqueued_at ? (now - new Date(queue.oldest_enqueued_at).getTime()) / 1000 : 0
  const seconds = span || Math.max(60, Math.min(oldest * 1.02, Number(queue.msg_retention_seconds ?? 1296000)))
  return { from: now - seconds * 1000, to: now }
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

function numbersOf(buckets) {
  return buckets.map((bucket) => ({
    from: new Date(bucket.bucket_start).getTime(),
    to: new Date(bucket.bucket_end).getTime(),
    history: Number(bucket.history),
    brought_back: Number(bucket.brought_back),
    pending: Number(bucket.ready) + Number(bucket.delayed),
    in_flight: Number(bucket.in_flight),
    exact: bucket.exact
  }))
}

// What uPlot draws: for each state the sum of it and all below, the highest first; nothing
// where there is none of that state, so that no bar peeps out behind another.
function stack(rows) {
  const xs = rows.map((row) => row.from / 1000)
  const sums = []
  let below = rows.map(() => 0)
  for (const [key] of states) {
    below = rows.map((row, i) => below[i] + row[key])
    sums.unshift(below.map((sum, i) => (rows[i][key] > 0 ? sum : null)))
  }
  return [xs, ...sums]
}

function Chart({ rows, range, legal, chosen, choose, point }) {
  const box = useRef()
  const plot = useRef()
  const live = useRef({})
  live.current = { rows, legal, chosen, choose, point, range }
  const [frame, setFrame] = useState(null)

  useLayoutEffect(() => {
    const options = {
      width: box.current.clientWidth,
      height: 260,
      padding: [18, 20, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: true, y: false, setScale: false, dist: 3 }, points: { show: false }, y: false },
      select: { show: true },
      scales: {
        x: { time: true, range: () => [live.current.range.from / 1000, live.current.range.to / 1000] },
        y: { range: (u, least, most) => [0, Math.max(most || 0, 1) * 1.05] }
      },
      axes: [
        { stroke: () => css('--faint'), grid: { stroke: () => css('--line'), width: 1 }, ticks: { stroke: () => css('--line') },
          values: [
            [86400, '{MM}-{DD}', null, null, null, null, null, null, 1],
            [3600, '{HH}:{mm}', '\n{MM}-{DD}', null, null, null, null, null, 1],
            [60, '{HH}:{mm}', '\n{MM}-{DD}', null, null, null, null, null, 1],
            [1, '{HH}:{mm}:{ss}', '\n{MM}-{DD}', null, null, null, null, null, 1],
            [0.001, ':{ss}.{fff}', '\n{HH}:{mm}', null, null, null, null, null, 1]
          ] },
        { stroke: () => css('--faint'), grid: { stroke: () => css('--line'), width: 1 }, ticks: { show: false }, size: 54,
          values: (u, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? short(tick) : '')) }
      ],
      series: [
        {},
        ...[...states].reverse().map(([key, label]) => ({
          label, stroke: () => css(`--${key}`), fill: () => css(`--${key}`), width: 0, points: { show: false },
          paths: uPlot.paths.bars({ size: [1, 200], align: 1, gap: 1 })
        }))
      ],
      hooks: {
        drawClear: [(u) => shade(u, live.current)],
        setSelect: [(u) => {
          if (u.select.width < 3) return
          const at = (left) => Math.round(u.posToVal(left, 'x') * 1000)
          const [from, to] = [at(u.select.left), at(u.select.left + u.select.width)]
          u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false)
          // to the right edge means: with no end
          live.current.choose({ from, to: to >= live.current.range.to - (live.current.range.to - live.current.range.from) / 200 ? null : to })
        }],
        setCursor: [(u) => live.current.point(u.cursor.left >= 0 ? u.cursor.idx : null)],
        setScale: [(u) => setFrame({ left: u.bbox.left / devicePixelRatio, width: u.bbox.width / devicePixelRatio, top: u.bbox.top / devicePixelRatio, height: u.bbox.height / devicePixelRatio })],
        setSize: [(u) => setFrame({ left: u.bbox.left / devicePixelRatio, width: u.bbox.width / devicePixelRatio, top: u.bbox.top / devicePixelRatio, height: u.bbox.height / devicePixelRatio })]
      }
    }
    plot.current = new uPlot(options, stack(rows), box.current)
    const resize = new ResizeObserver(() => plot.current.setSize({ width: box.current.clientWidth, height: 260 }))
    resize.observe(box.current)
    const repaint = () => plot.current.redraw(false)
    const colours = matchMedia('(prefers-color-scheme: dark)')
    colours.addEventListener('change', repaint)
    const theme = new MutationObserver(repaint)
    theme.observe(document.documentElement, { attributeFilter: ['data-theme'] })
    return () => { resize.disconnect(); theme.disconnect(); colours.removeEventListener('change', repaint); plot.current.destroy() }
  }, [])

  useEffect(() => { plot.current.setData(stack(rows)) }, [rows, range.from, range.to])
  useEffect(() => { plot.current.redraw(false) }, [chosen?.from, chosen?.to, legal?.from, legal?.to])

  const place = (ms) => (ms - range.from) / (range.to - range.from)
  const handle = (edge) => {
    const value = edge === 'from' ? chosen.from : chosen.to ?? range.to
    const at = place(value)
    if (at < -0.001 || at > 1.001) return null
    const step = (range.to - range.from) / rows.length
    const move = (to) => {
      const next = Math.round(Math.min(Math.max(to, range.from), range.to))
      if (edge === 'from') choose({ ...chosen, from: Math.min(next, (chosen.to ?? range.to) - 1) })
      else choose({ ...chosen, to: next >= range.to ? null : Math.max(next, chosen.from + 1) })
    }
    const keys = { ArrowLeft: -step, ArrowRight: step, PageDown: -10 * step, PageUp: 10 * step }
    return html`<span class=${`handle ${edge}`} role="slider" tabindex="0" data-place=${at}
      aria-label=${edge === 'from' ? 'Start of the window' : 'End of the window'}
      aria-valuemin=${Math.round(range.from)} aria-valuemax=${Math.round(range.to)} aria-valuenow=${Math.round(value)}
      aria-valuetext=${edge === 'to' && chosen.to === null ? 'no end' : when(toServer(value))}
      ref=${(element) => { if (element) element.style.left = `${at * 100}%` }}
      onKeyDown=${(event) => {
        if (event.key in keys) { event.preventDefault(); move(value + keys[event.key]) }
        else if (event.key === 'Home') { event.preventDefault(); move(range.from) }
        else if (event.key === 'End') { event.preventDefault(); move(range.to) }
      }}
      onPointerDown=${(event) => {
        event.preventDefault()
        event.currentTarget.focus()
        event.currentTarget.setPointerCapture(event.pointerId)
      }}
      onPointerMove=${(event) => {
        if (!event.currentTarget.hasPointerCapture(event.pointerId)) return
        const area = event.currentTarget.parentElement.getBoundingClientRect()
        move(range.from + (event.clientX - area.left) / area.width * (range.to - range.from))
      }}></span>`
  }
  return html`<div class="chart">
    <div ref=${box} class="plot" role="img" aria-label="Messages by production time; the numbers are in the table below"></div>
    ${chosen && frame && html`<div class="handles" ref=${(element) => {
      if (element) Object.assign(element.style, { left: `${frame.left}px`, width: `${frame.width}px`, top: `${frame.top}px`, height: `${frame.height}px` })
    }}>${handle('from')}${handle('to')}</div>`}
  </div>`
}

// Behind the bars: the chosen window, and above them where a rewind may start.
function shade(u, { legal, chosen, range }) {
  const { ctx } = u
  const { left, top, width, height } = u.bbox
  const x = (ms) => Math.min(Math.max(u.valToPos(ms / 1000, 'x', true), left), left + width)
  ctx.save()
  if (chosen) {
    ctx.fillStyle = css('--window')
    const [from, to] = [x(chosen.from), x(chosen.to ?? range.to)]
    ctx.fillRect(from, top, to - from, height)
    ctx.fillStyle = css('--window-edge')
    ctx.fillRect(from - 1, top, 2, height)
    ctx.fillRect(to - 1, top, 2, height)
  }
  if (legal) {
    const strip = 7 * devicePixelRatio
    const [from, to] = [x(legal.from), x(legal.to)]
    if (to > from) {
      ctx.fillStyle = css('--legal')
      ctx.fillRect(from, top - strip - 3 * devicePixelRatio, to - from, strip)
    }
  }
  ctx.restore()
}

export function Timeline({ queue, turn, changed }) {
  const [span, setSpan] = useState(0)
  const [end, setEnd] = useState(null) // null: now, moving on
  const [chosen, setChosen] = useState(null)
  const [at, setAt] = useState(null)
  const frozen = chosen !== null
  const still = useRef(null)
  const width = innerWidth < 600 ? 60 : 120
  const question = async () => {
    // while a window is chosen the chart stands still under it; its numbers do not
    const range = frozen && still.current ? still.current : rangeOf(queue, span, end)
    still.current = range
    const { buckets } = await get(queuePath(queue.queue, '/timeline'), { from: toServer(range.from), to: toServer(range.to), buckets: width })
    return { range, rows: numbersOf(buckets) }
  }
  const { data, error, again } = usePoll(question, 5, [queue.queue, span, end, frozen, turn])
  const legal = queue.earliest_rewind_time
    ? { from: new Date(queue.earliest_rewind_time).getTime(), to: new Date(queue.latest_rewind_time).getTime() } : null
  const look = (next, to = null) => { still.current = null; setSpan(next); setEnd(to); setChosen(null) }
  const zoom = () => {
    const to = chosen.to ?? data.range.to
    look(Math.max(0.001, (to - chosen.from) / 1000), to)
  }
  const shift = (part) => {
    const { from, to } = data.range
    const seconds = (to - from) / 1000
    const next = to + part * (to - from)
    look(seconds, next >= Date.now() + queue.ahead ? null : next)
  }
  if (!data) return error ? html`<${Problem} error=${error} />` : null
  const estimated = data.rows.some((row) => !row.exact)
  const shown = at !== null ? data.rows[at] : null
  const total = Object.fromEntries(states.map(([key]) => [key, data.rows.reduce((sum, row) => sum + row[key], 0)]))
  const set = (edge, text) => {
    const now = chosen ?? { from: data.range.from, to: null }
    const ms = fromInput(text, now[edge])
    if (ms === null) return
    const next = { ...now, [edge]: ms }
    if (next.to !== null && next.to <= next.from) return
    setChosen(next)
  }
  return html`<section aria-label="Timeline">
    <div class="tools">
      <div class="chips" role="group" aria-label="Time shown">${spans.map(([seconds, text]) => html`
        <button type="button" class="chip" aria-pressed=${span === seconds && end === null} onClick=${() => look(seconds)}>${text}</button>`)}</div>
      <div class="chips" role="group" aria-label="Move">
        <button type="button" class="chip" aria-label="Earlier" onClick=${() => shift(-0.5)}>←</button>
        <button type="button" class="chip" aria-label="Later" disabled=${end === null} onClick=${() => shift(0.5)}>→</button>
        ${chosen && html`<button type="button" class="chip" onClick=${zoom}>Zoom to the window</button>`}
      </div>
    </div>
    <ul class="legend">${states.map(([key, text]) => html`<li><span class=${`swatch ${key}`}></span>${text} <strong>${estimated ? 'about ' : ''}${num(shown ? shown[key] : total[key])}</strong></li>`)}
      ${legal && html`<li><span class="swatch legal"></span>a rewind may start here</li>`}
      <li class="faint">${shown ? `${when(toServer(shown.from))} to ${when(toServer(shown.to), { day: false })}` : `${when(toServer(data.range.from))} to ${end === null && !chosen ? 'now' : when(toServer(data.range.to))}`}</li></ul>
    <${Chart} rows=${data.rows} range=${data.range} legal=${legal} chosen=${chosen} choose=${setChosen} point=${setAt} />
    ${error && !error.lost && html`<${Problem} error=${error} />`}
    <fieldset class="times"><legend>Window, by production time (${zone(new Date(data.range.to))})</legend>
      <label>From <input type="datetime-local" step="1" value=${chosen ? toInput(chosen.from) : ''} onChange=${(event) => set('from', event.target.value)} /></label>
      <label>to before <input type="datetime-local" step="1" value=${chosen?.to ? toInput(chosen.to) : ''} onChange=${(event) => set('to', event.target.value)} /></label>
      <label class="check"><input type="checkbox" checked=${chosen !== null && chosen.to === null} disabled=${chosen === null}
        onChange=${(event) => setChosen({ ...chosen, to: event.target.checked ? null : Math.max(data.range.to, chosen.from + 1000) })} /> no end</label>
      ${chosen ? html`<button type="button" onClick=${() => setChosen(null)}>Clear the window</button>`
        : html`<button type="button" onClick=${() => setChosen({ from: Math.round(Math.max(data.range.from, legal ? legal.from + MARGIN : 0)), to: null })}>Choose all that is shown</button>`}
    </fieldset>
    ${chosen ? html`<${WindowPanel} queue=${queue} chosen=${chosen} legal=${legal} turn=${turn}
        done=${(said) => { setChosen(null); changed(said); again() }} choose=${setChosen} />`
      : html`<p class="faint">Drag over the chart, or set the times, to choose what should come back.</p>`}
    <details class="numbers"><summary>The numbers of the chart</summary>
      <div class="scroll"><table><thead><tr><th scope="col">From</th>${states.map(([, text]) => html`<th scope="col">${text}</th>`)}</tr></thead>
        <tbody>${data.rows.filter((row) => states.some(([key]) => row[key] > 0)).map((row) => html`<tr><th scope="row">${when(toServer(row.from))}</th>
          ${states.map(([key]) => html`<td>${row.exact ? '' : '≈ '}${num(row[key])}</td>`)}</tr>`)}</tbody></table></div>
    </details>
  </section>`
}
