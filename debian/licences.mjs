#!/usr/bin/env node
// debian/licences.mjs FOLDER: write the part of debian/copyright about the libraries of the
// console, which are in the folder.
//
// Each library has a paragraph with its copyright lines.  Texts of a licence that differ
// in nothing but these lines and in spaces are printed once.

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const mark = '# What follows is written by debian/licences.mjs.\n'
const folder = process.argv[2]
if (!folder || !existsSync(folder)) {
  console.error('usage: debian/licences.mjs FOLDER, where the folder is console/node_modules of the archive')
  process.exit(2)
}

// The folders of libraries: node_modules/name, node_modules/@scope/name, and those in them.
function * libraries(modules) {
  for (const entry of readdirSync(modules).sort()) {
    if (entry.startsWith('@')) {
      yield * libraries(join(modules, entry))
      continue
    }
    const path = join(modules, entry)
    yield path
    if (existsSync(join(path, 'node_modules'))) yield * libraries(join(path, 'node_modules'))
  }
}

// The text of the licence: a file of its own, or the end of the README.
function textOf(path) {
  const files = readdirSync(path)
  const file = files.find((name) => /^licen[cs]e(\.md|\.txt)?$/i.test(name))
  if (file) return readFileSync(join(path, file), 'utf8')
  const readme = files.find((name) => /^readme\.md$/i.test(name))
  const text = readme ? readFileSync(join(path, readme), 'utf8') : ''
  return text.split(/^#+ *licen[cs]e *$/im)[1]
}

const isCopyright = (line) => /^\W*(Copyright|\(c\)|©)/i.test(line) && !/copyright (notice|holder|owner|license)/i.test(line)
const indented = (text) => text.trim().split('\n').map((line) => line.trim() ? ` ${line.trimEnd()}` : ' .').join('\n')

const texts = new Map() // the text without spaces and copyrights: its name
const names = new Set()
const printed = []
const paragraphs = []

for (const path of libraries(folder)) {
  const about = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'))
  const text = textOf(path)?.replace(/\r/g, '')
  const author = typeof about.author === 'string' ? about.author : about.author?.name
  const licence = { MIT: 'Expat', 'BSD-3-Clause': 'BSD-3-clause' }[about.license] ?? about.license
  if (!licence || (!text && !author)) {
    console.error(`debian/licences.mjs: ${path} has no licence that this finds`)
    process.exit(1)
  }
  const lines = (text ?? '').split('\n')
  const owners = lines.filter(isCopyright).map((line) => line.trim().replace(/^\W*(Copyright)?[:,]?\s*(\(c\)|©)?\s*/i, '').replace(/\.?\s*(All rights reserved\.?)?$/i, ''))
  if (licence === 'Apache-2.0') owners.splice(0, owners.length, author)
  if (owners.length === 0) owners.push(author ?? `the authors of ${about.name}`)
  let name = licence
  if (licence === 'Apache-2.0') {
    if (!names.has(name)) {
      printed.push('License: Apache-2.0\n On Debian systems the text of the Apache License, version 2.0, is in\n /usr/share/common-licenses/Apache-2.0.')
      names.add(name)
    }
  } else {
    const body = lines.filter((line) => !isCopyright(line) && !/^\W*(The )?(MIT|ISC|BSD).{0,20}Licen[cs]e\W*(\(MIT\)|\(ISC\))?\W*$/i.test(line)).join('\n').trim()
    const plain = body.replace(/[\s"“”'`*]+/g, ' ').replace(/https?:\/\/\S+/g, '').trim().toLowerCase()
    // a library that only says which licence it has gets the usual text
    const key = plain.length > 300 ? plain : licence === 'Expat' ? [...texts].find(([, known]) => known === 'Expat')?.[0] : undefined
    if (key === undefined) {
      console.error(`debian/licences.mjs: ${path} has no text of its licence`)
      process.exit(1)
    }
    if (!texts.has(key)) {
      name = names.has(licence) ? `${licence}-${about.name.replace(/^@/, '').replace(/[^a-z0-9.]+/gi, '-')}` : licence
      names.add(name)
      texts.set(key, name)
      printed.push(`License: ${name}\n${indented(body)}`)
    }
    name = texts.get(key)
  }
  const shown = relative(folder, path)
  paragraphs.push(`Files: console/node_modules/${shown}/*\nCopyright: ${[...new Set(owners)].join('\n           ')}\nLicense: ${name}`)
}

const copyright = join(dirname(fileURLToPath(import.meta.url)), 'copyright')
const own = readFileSync(copyright, 'utf8').split(mark)[0]
writeFileSync(copyright, `${own}${mark}\n${[...paragraphs, ...printed].join('\n\n')}\n`)
