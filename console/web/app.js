// The page: who is logged in, where one is, and what is wrong with the connection.

import { render } from 'preact'
import { useEffect, useErrorBoundary, useState } from 'preact/hooks'

import { dropToken, get, post, setToken, useTrouble } from './ask.js'
import { Login } from './login.js'
import { html, Loading } from './parts.js'
import { Queue } from './queue.js'
import { NewQueue, Queues } from './queues.js'
import { Record } from './record.js'
import { zone } from './text.js'

// #/queue/orders/timeline -> ['queue', 'orders', 'timeline']
const whereNow = () => location.hash.replace(/^#\/?/, '').split('/').map((part) => {
  try { return decodeURIComponent(part) } catch { return part }
})

function useWhere() {
  const [where, set] = useState(whereNow)
  useEffect(() => {
    const hear = () => {
      set(whereNow())
      // a reader of the screen hears that the page is another one
      document.querySelector('main')?.focus({ preventScroll: true })
    }
    addEventListener('hashchange', hear)
    return () => removeEventListener('hashchange', hear)
  }, [])
  return where
}

function useTheme() {
  const [theme, set] = useState(() => localStorage.getItem('cmq theme') ?? 'auto')
  useEffect(() => {
    document.documentElement.dataset.theme = theme
    localStorage.setItem('cmq theme', theme)
  }, [theme])
  return [theme, set]
}

// What cannot be drawn leaves no empty page: it says so, and other places can be gone to.
function Guard({ where, children }) {
  const [error, again] = useErrorBoundary()
  useEffect(() => { if (error) again() }, [where])
  if (!error) return children
  return html`<div class="problem" role="alert"><p><strong>This page cannot be shown.</strong></p><p>${String(error.message ?? error)}</p>
    <p class="hint">Nothing was changed by that. Go to another page, or load this one again.</p>
    <button type="button" onClick=${again}>Try again</button></div>`
}

function Page({ me, leave }) {
  const where = useWhere()
  const trouble = useTrouble()
  const [theme, setTheme] = useTheme()
  const [area, queue, tab] = where
  useEffect(() => { document.title = area === 'queue' ? `${queue} – cmq console` : 'cmq console' }, [area, queue])
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector('main').focus() }}>To the content</a>
    <header class="top">
      <a class="home" href="#/">cmq</a>
      <nav aria-label="Console">
        <a href="#/" aria-current=${area === '' ? 'page' : undefined}>Queues</a>
        <a href="#/record" aria-current=${area === 'record' ? 'page' : undefined}>Record</a>
      </nav>
      <span class="who" title=${`PostgreSQL ${me.server_version}, cmq ${me.cmq_version}, ${me.address}`}>
        <bdi>${me.role}</bdi> in <bdi>${me.database}</bdi>${me.standby ? ' (standby: only reading)' : ''} · times in ${zone()}
      </span>
      <select aria-label="Colours" value=${theme} onChange=${(event) => setTheme(event.target.value)}>
        <option value="auto">Auto</option><option value="light">Light</option><option value="dark">Dark</option>
      </select>
      <button type="button" class="small" onClick=${leave}>Log out</button>
    </header>
    ${trouble?.kind === 'lost' && html`<div class="trouble" role="alert">
      <strong>${trouble.error.message}</strong> What you see may be old. The console tries again by itself.</div>`}
    <main id="main" tabindex="-1"><${Guard} where=${where.join('/')}>
      ${area === 'queue' && queue && !/^\.+$/.test(queue) ? html`<${Queue} key=${queue} queue=${queue} tab=${tab || 'timeline'} me=${me} />`
        : area === 'record' ? html`<h1>Record</h1><${Record} />`
          : area === 'new' ? html`<${NewQueue} />`
            : html`<${Queues} />`}
    </${Guard}></main>`
}

function App() {
  // undefined: not known yet; null: nobody
  const [me, setMe] = useState(undefined)
  const [before, setBefore] = useState(null)
  const [why, setWhy] = useState(null)
  const trouble = useTrouble()
  useEffect(() => {
    get('/').then(async ({ logged_in: loggedIn }) => {
      if (!loggedIn) return setMe(null)
      enter(await get('/session'))
    }).catch(() => setMe(null))
  }, [])
  useEffect(() => {
    if (trouble?.kind === 'login' && me) {
      setBefore(me)
      setWhy(trouble.error.code === 'other_login'
        ? 'In this browser somebody has logged in anew, perhaps as another role. Load the page again to go on with that login.'
        : 'Your login has ended. Log in again; you are where you were.')
      setToken(null)
      setMe(null)
    }
  }, [trouble])
  const enter = (facts) => { setToken(facts.csrf_token); setWhy(null); setMe(facts) }
  const leave = async () => {
    try { await post('/logout') } catch { /* it ends by itself */ }
    dropToken()
    setBefore(null)
    setMe(null)
  }
  if (me === undefined) return html`<${Loading} what="the console" />`
  if (me === null) return html`<${Login} enter=${enter} why=${why} again=${before} />`
  return html`<${Page} me=${me} leave=${leave} />`
}

render(html`<${App} />`, document.getElementById('app'))
