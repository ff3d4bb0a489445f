// Errors as a browser gets them: a status of HTTP, and what PostgreSQL would show in psql.

// An error of the console's own.
export class ConsoleError extends Error {
  constructor(status, code, message, more = {}) {
    super(message)
    this.status = status
    this.answer = { code, message, ...more }
  }
}

const lost = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOENT', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENOTFOUND', 'EAI_AGAIN',
  // shutdown, crash, starting up, too many connections
  '57P01', '57P02', '57P03', '53300', '08000', '08001', '08003', '08004', '08006'])

// Is the connection, and not the statement, what failed?
export function isLost(error) {
  return lost.has(error.code) || (error.code === undefined &&
    /^(Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(error.message ?? ''))
}

// Is it the certificate of the server, or its TLS, that is not accepted?
function isUntrusted(error) {
  return /CERT|^(ERR_(SSL|TLS)_|EPROTO$|INVALID_(CA|PURPOSE)$|UNABLE_TO_|PATH_LENGTH_EXCEEDED$)/.test(error.code ?? '') ||
    (error.code === undefined && /^(The server does not support SSL connections|There was an error establishing an SSL connection)/.test(error.message ?? ''))
}

const statuses = { 42501: 403, 42704: 404, 28000: 401, '28P01': 401, '3D000': 400, 57014: 504 }

// What the browser is told of an error; null if it is none that users should see.
// doing: whether the statement was to change something.
export function answerTo(error, doing) {
  if (error instanceof ConsoleError) {
    return { status: error.status, answer: error.answer }
  }
  if (isLost(error)) {
    return {
      status: 503,
      answer: {
        code: 'lost',
        message: 'The connection to PostgreSQL is lost.',
        detail: error.message,
        hint: doing
          ? 'It is not known whether the call took effect: look at the record before you repeat it.'
          : 'The console goes on when the server is back.'
      }
    }
  }
  if (typeof error.code === 'string' && /^[0-9A-Z]{5}$/.test(error.code)) {
    return {
      status: statuses[error.code] ?? 409,
      answer: { code: error.code, message: error.message, detail: error.detail, hint: error.hint }
    }
  }
  if (isUntrusted(error)) {
    return {
      status: 502,
      answer: {
        code: 'untrusted',
        message: 'The PostgreSQL server does not show the certificate that the console wants, so no password was sent.',
        detail: error.message,
        hint: 'Whoever runs the console: PGSSLROOTCERT names the file of the authority, and with PGSSLMODE=verify-full the certificate must be for PGHOST.'
      }
    }
  }
  return null
}
