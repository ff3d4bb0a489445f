// The login: a role of PostgreSQL and its password.

import { useEffect, useState } from 'preact/hooks'

import { get, post } from './ask.js'
import { Doing, Field, html } from './parts.js'

export function Login({ enter, why, again }) {
  const [role, setRole] = useState(again?.role ?? '')
  const [password, setPassword] = useState('')
  const [database, setDatabase] = useState(again?.database ?? '')
  const [usual, setUsual] = useState('')
  useEffect(() => { get('/').then((answer) => setUsual(answer.database), () => {}) }, [])
  return html`<main class="login">
    <h1>cmq console</h1>
    ${why && html`<p role="alert">${why}</p>`}
    <p>Log in as your own role of PostgreSQL. What you see and may do is what was granted to it.</p>
    <${Doing} label="Log in" run=${() => post('/login', { role, password, database })} done=${enter}>
      <${Field} label="Role" name="role" value=${role} required maxlength="63" autocomplete="username" autocapitalize="none" spellcheck=${false} autofocus
        onInput=${(event) => setRole(event.target.value)} />
      <${Field} label="Password" name="password" type="password" value=${password} maxlength="1000" autocomplete="current-password"
        onInput=${(event) => setPassword(event.target.value)} />
      <${Field} label="Database" name="database" value=${database} placeholder=${usual} maxlength="63" autocapitalize="none" spellcheck=${false}
        hint=${usual ? `Empty: ${usual}` : ''} onInput=${(event) => setDatabase(event.target.value)} />
    </${Doing}>
  </main>`
}
