// The files that browsers load: a fixed list, read once.  Nothing is loaded from elsewhere,
// and no path of a request reaches the file system.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const web = new URL('../web/', import.meta.url)
const library = (name) => new URL(import.meta.resolve(name))

const JS = 'text/javascript; charset=utf-8'
const CSS = 'text/css; charset=utf-8'

// Where the page's modules find preact and the others.
const imports = {
  preact: '/lib/preact.js',
  'preact/hooks': '/lib/hooks.js',
  htm: '/lib/htm.js',
  uplot: '/lib/uplot.js'
}

export function readPages() {
  const file = (url, type) => ({ type, body: readFileSync(fileURLToPath(url)) })
  const map = JSON.stringify({ imports })
  const index = readFileSync(fileURLToPath(new URL('index.html', web)), 'utf8').replace('<!-- imports -->',
    `<script type="importmap">${map}</script>`)
  const uplot = library('uplot')
  const pages = {
    '/': { type: 'text/html; charset=utf-8', body: Buffer.from(index) },
    '/style.css': file(new URL('style.css', web), CSS),
    '/icon.svg': file(new URL('icon.svg', web), 'image/svg+xml'),
    '/lib/preact.js': file(new URL('./preact.module.js', library('preact')), JS),
    '/lib/hooks.js': file(new URL('./hooks.module.js', library('preact/hooks')), JS),
    '/lib/htm.js': file(new URL('./htm.module.js', library('htm')), JS),
    '/lib/uplot.js': file(new URL('./uPlot.esm.js', uplot), JS),
    '/lib/uplot.css': file(new URL('./uPlot.min.css', uplot), CSS)
  }
  for (const name of modules) {
    pages[`/${name}.js`] = file(new URL(`${name}.js`, web), JS)
  }
  return {
    pages,
    // the import map is the one script in the page itself
    scriptHash: `'sha256-${createHash('sha256').update(map).digest('base64')}'`
  }
}

const modules = ['app', 'ask', 'text', 'parts', 'login', 'queues', 'queue', 'timeline', 'window', 'messages', 'settings', 'record']
