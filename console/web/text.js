// How numbers, sizes and times are written.  Times are those of the browser's time zone,
// which stands beside them once on each page.

const whole = new Intl.NumberFormat('en')
const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 })

export const num = (value) => (value === null || value === undefined ? '–' : whole.format(value))

export function short(value) {
  if (value === null || value === undefined) return '–'
  const n = Number(value)
  if (n < 10000) return whole.format(n)
  if (n < 1e6) return `${tenth.format(n / 1e3)} k`
  if (n < 1e9) return `${tenth.format(n / 1e6)} M`
  return `${tenth.format(n / 1e9)} G`
}

export function bytes(value) {
  if (value === null || value === undefined) return '–'
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB']
  let n = Number(value)
  let unit = 0
  while (n >= 1000 && unit < units.length - 1) { n /= 1000; unit++ }
  return `${tenth.format(n)} ${units[unit]}`
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–'
  const s = Math.max(0, Math.round(Number(seconds)))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? `${s % 60} s` : ''}`.trim()
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60) ? `${Math.floor(s % 3600 / 60)} min` : ''}`.trim()
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600) ? `${Math.floor(s % 86400 / 3600)} h` : ''}`.trim()
}

const two = (n) => String(n).padStart(2, '0')
export const dayOf = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
const clockOf = (date) => `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`

// A time of the server's, as the console shows it: to the second, the day where it is another.
export function when(iso, { day = true } = {}) {
  if (iso === null || iso === undefined) return '–'
  const date = new Date(iso)
  // infinity, or before Christ
  if (!Number.isFinite(date.getTime())) return String(iso)
  // in the hour that comes twice in autumn, and on the other side of it
  const other = date.getTimezoneOffset() === new Date().getTimezoneOffset() ? '' : ` ${offset(date)}`
  return (day ? `${dayOf(date)} ${clockOf(date)}` : clockOf(date)) + other
}

function offset(date) {
  const minutes = -date.getTimezoneOffset()
  const size = Math.abs(minutes)
  return minutes === 0 ? 'UTC' : `UTC${minutes < 0 ? '-' : '+'}${Math.floor(size / 60)}${size % 60 ? `:${two(size % 60)}` : ''}`
}

// ... and to the microsecond, with the zone.
export const exactly = (iso) => {
  if (!iso) return '–'
  const fraction = /\.(\d+)Z$/.exec(iso)?.[1] ?? ''
  const date = new Date(iso)
  if (!Number.isFinite(date.getTime())) return String(iso)
  return `${dayOf(date)} ${clockOf(date)}${fraction ? `.${fraction}` : ''} ${zone(date)}`
}

export function zone(date = new Date()) {
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone
  return `${offset(date)}${name && date.getTimezoneOffset() !== 0 ? ` (${name})` : ''}`
}

// For <input type="datetime-local">, and back.
export const toInput = (ms) => { const date = new Date(ms); return `${dayOf(date)}T${clockOf(date)}` }
// A time that there is twice, in autumn, is the one nearer to what stood there before.
export function fromInput(text, near = null) {
  const ms = new Date(text).getTime()
  if (!Number.isFinite(ms)) return null
  if (near === null) return ms
  const same = [ms - 3600000, ms, ms + 3600000].filter((other) => toInput(other) === toInput(ms))
  return same.reduce((best, other) => (Math.abs(other - near) < Math.abs(best - near) ? other : best), ms)
}

// Milliseconds to a time for the server.
export const toServer = (ms) => new Date(ms).toISOString()

export const plural = (n, one, many = `${one}s`) => `${num(n)} ${Number(n) === 1 ? one : many}`

// A header filter as it was typed: null if empty, or an error to show.
export function readFilter(text) {
  if (text.trim() === '') return { filter: null }
  try {
    const value = JSON.parse(text)
    if (value === null || typeof value !== 'object' || Array.isArray(value)) throw new Error('it must be an object')
    // as typed: numbers keep their digits
    return { filter: text.trim() }
  } catch (error) {
    return { filter: null, problem: `A filter is a JSON object, such as {"shop": 7}: ${error.message}` }
  }
}

// JSON as it is read by people; other text as it is.
export function pretty(text) {
  if (text === null || text === undefined) return ''
  if (!/^\s*[{[]/.test(text) || text.length > 100000) return text
  try {
    const value = JSON.parse(text)
    // only if nothing is lost by it: digits of long numbers, repeated keys
    return JSON.stringify(value) === text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, string) => string ?? '') ? JSON.stringify(value, null, 2) : text
  } catch {
    return text
  }
}
