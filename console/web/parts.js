// The small parts of which pages are made.

import { h } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import htm from 'htm'

export const html = htm.bind(h)

// What somebody else wrote: isolated, so that it cannot turn the text around it.
export const Foreign = ({ children, class: name = '' }) => html`<bdi class=${`foreign ${name}`}>${children}</bdi>`

export function Problem({ error, close }) {
  if (!error) return null
  return html`<div class="problem" role="alert">
    <p><strong>${error.message}</strong></p>
    ${error.detail && html`<p>${error.detail}</p>`}
    ${error.hint && html`<p class="hint">${error.hint}</p>`}
    ${error.code && /^[0-9A-Z]{5}$/.test(error.code) && html`<p class="faint">SQLSTATE ${error.code}</p>`}
    ${close && html`<button type="button" class="small" onClick=${close}>Close</button>`}
  </div>`
}

export function Notices({ notices }) {
  if (!notices?.length) return null
  return html`<ul class="notices">${notices.map((notice) => html`<li>${notice.message}${notice.detail ? `. ${notice.detail}` : ''}</li>`)}</ul>`
}

export const Badge = ({ kind, children }) => html`<span class=${`badge ${kind}`}>${children}</span>`

// A line of the last numbers.  The figure beside it says the last one.
export function Spark({ values, label }) {
  const [width, height] = [72, 20]
  const known = values.filter((value) => value !== null)
  if (known.length < 2) return html`<span class="spark empty" aria-hidden="true"></span>`
  const top = Math.max(1, ...known)
  const points = values.map((value, i) => (value === null ? null : `${(i / (values.length - 1) * width).toFixed(1)},${(height - 1 - value / top * (height - 2)).toFixed(1)}`))
  return html`<svg class="spark" viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="img" aria-label=${label}>
    <polyline points=${points.filter(Boolean).join(' ')} /></svg>`
}

// A dialog that has the keyboard until it is closed; Escape closes it, but not while a call
// is made: nobody should miss what became of it.  It begins at its first field.  The keyboard
// goes back to what opened the dialog, and where that is gone by what was done, to the
// page's beginning.
export function Dialog({ title, close, children, wide }) {
  const ref = useRef()
  const id = useId()
  const gone = useRef(false)
  useEffect(() => {
    const dialog = ref.current
    dialog.showModal()
    dialog.querySelector('input:not([type="checkbox"])')?.focus()
    return () => {
      gone.current = true
      if (dialog.open) dialog.close()
      setTimeout(() => document.activeElement === document.body && document.querySelector('main')?.focus({ preventScroll: true }))
    }
  }, [])
  const shut = () => { if (!ref.current.querySelector('form[aria-busy="true"]')) close() }
  // a browser closes a dialog at the second Escape, whatever the page says
  const closed = () => {
    if (gone.current) return
    shut()
    if (!gone.current && ref.current?.querySelector('form[aria-busy="true"]')) ref.current.showModal()
  }
  return html`<dialog ref=${ref} class=${wide ? 'wide' : ''} aria-labelledby=${id} onClose=${(event) => { if (event.target === ref.current) closed() }}
    onCancel=${(event) => { if (event.target === ref.current) { event.preventDefault(); shut() } }}>
    <header><h2 id=${id}>${title}</h2><button type="button" class="plain" aria-label="Close" onClick=${shut}>✕</button></header>
    ${children}
  </dialog>`
}

// A form that does one thing: shows what went wrong, and cannot be sent twice.
export function Doing({ label, kind = 'primary', run, done, disabled, close, children }) {
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState(null)
  const submit = async (event) => {
    event.preventDefault()
    if (busy || disabled) return
    setBusy(true)
    setError(null)
    try {
      const result = await run()
      done?.(result)
    } catch (failed) {
      setError(failed)
      setBusy(false)
      return
    }
    setBusy(false)
  }
  return html`<form onSubmit=${submit} aria-busy=${busy}>
    ${children}
    <${Problem} error=${error} />
    <div class="buttons">
      <button class=${kind} disabled=${busy || disabled}>${busy ? 'Working …' : label}</button>
      ${close && html`<button type="button" disabled=${busy} onClick=${close}>Close</button>`}
    </div>
  </form>`
}

export function Field({ label, hint, children, ...input }) {
  const id = useId()
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children ? children(id) : html`<input id=${id} aria-describedby=${hint ? `${id}h` : undefined} ...${input} />`}
    ${hint && html`<p class="hint" id=${`${id}h`}>${hint}</p>`}
  </div>`
}

export const Reason = ({ value, set, required = true }) => html`<${Field} label=${required ? 'Reason, for the record' : 'Reason, for the record (may be empty)'}
  value=${value} onInput=${(event) => set(event.target.value)} required=${required} maxlength="1000" placeholder="ticket 4711: booked nothing since 09:00" />`

export function Tabs({ tabs, now, go, label }) {
  return html`<nav class="tabs" aria-label=${label}>${tabs.map(([key, text, href]) => html`
    <a key=${key} href=${href} aria-current=${key === now ? 'page' : undefined} onClick=${go ? (event) => { event.preventDefault(); go(key) } : undefined}>${text}</a>`)}</nav>`
}

// What was done, said to eye and ear.
export function Done({ children, close }) {
  if (!children) return null
  return html`<div class="done" role="status">${children}<button type="button" class="plain" aria-label="Close" onClick=${close}>✕</button></div>`
}

export const Loading = ({ what }) => html`<p class="loading" role="status">Loading ${what} …</p>`
