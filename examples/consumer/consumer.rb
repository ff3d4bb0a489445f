#!/usr/bin/env ruby
# A consumer of a cmq queue with ruby-pg: books each order once.
#
#     ruby consumer.rb <queue> [--drain]
#
# Needs ruby-pg, on Debian the packages ruby and ruby-pg.
# Bodies are JSON, {"item": "apples", "amount": 2}, and are booked in
#
#     CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);
#
# Connects as libpq does (PGHOST, PGDATABASE, ...).  Runs until it gets SIGINT or
# SIGTERM, or with --drain until the queue has nothing ready.
#
# The work is in the same database, so a message and its work are one transaction: it
# is consumed if and only if it is booked, exactly once, and what this consumer was
# handling when it died is ready at once.  A message that it cannot handle is rolled
# back, and then received by its id and released: that is counted, so that it comes
# again later, and goes to the dead-letter queue in the end if there is one.
#
# Work that takes long, or is done elsewhere, does not go into a transaction: then
# receive, commit, work, and delete (docs/applications.md, Receive and delete).
#
# When the server restarts it connects again, with growing pauses.  If the connection
# was lost during a commit nobody knows whether the message was booked: it is ready
# again if it was not.

require 'json'
require 'pg'

WAIT = 20 # seconds a call waits for a message
RETRY = 10 # seconds until a message that failed is ready again
MAX_PAUSE = 30 # seconds between two tries to connect, at most

$stopping = false

def connect
  conn = PG.connect(connect_timeout: 10)
  conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn)
  conn
end

# Connect again; nil if we are to stop.  Not all consumers at the same moment.
def reconnect
  pause = 1
  until $stopping
    ends = Process.clock_gettime(Process::CLOCK_MONOTONIC) + pause * rand(0.5..1.0)
    sleep 0.1 until $stopping || Process.clock_gettime(Process::CLOCK_MONOTONIC) > ends
    break if $stopping
    begin
      return connect
    rescue PG::Error => e
      pause = [2 * pause, MAX_PAUSE].min
      warn "no connection, again in #{pause} s at most: #{e.message}"
    end
  end
end

def lost?(conn)
  conn.exec('SELECT 1')
  false
rescue PG::Error
  true
end

# Book one order.  A message that is brought back changes nothing.
def handle(conn, message)
  order = JSON.parse(message['body'])
  conn.exec_params(
    'INSERT INTO ledger (msg_id, item, amount) VALUES ($1, $2, $3) ON CONFLICT (msg_id) DO NOTHING',
    [message['msg_id'], order['item'], order['amount']])
end

# Have a message come again later.  Nothing happens if somebody else has it by now.
def count_failure(conn, queue, message)
  conn.exec_params(
    'SELECT cmq_release($1, ARRAY(SELECT receipt_handle
       FROM cmq_receive_messages($1, ARRAY[$2::bigint])), $3)',
    [queue, message['msg_id'], RETRY])
end

# Consume one message, if there is any: true.  Waits for so many seconds.
def consume(conn, queue, wait)
  message = nil
  begin
    conn.transaction do
      message = conn.exec_params(
        'SELECT * FROM cmq_consume($1, polling_wait_seconds => $2)', [queue, wait]).first
      handle(conn, message) if message
    end
  rescue StandardError => e
    raise if message.nil? || lost?(conn)

    warn "message #{message['msg_id']} failed: #{e.message}"
    count_failure(conn, queue, message)
  end
  !message.nil?
end

def work(conn, queue, drain)
  until $stopping
    begin
      got = consume(conn, queue, drain ? 0 : WAIT)
      return if drain && !got
    rescue PG::QueryCanceled
      next
    end
  end
end

def main(queue, drain)
  conn = connect # what is wrong from the start is an error
  stop = proc do
    $stopping = true
    # ends a call that waits; a handler of a signal may not do it itself
    Thread.new { conn&.cancel unless conn&.finished? }
  end
  Signal.trap('INT', &stop)
  Signal.trap('TERM', &stop)
  while conn
    begin
      return work(conn, queue, drain)
    rescue PG::Error => e
      raise unless lost?(conn)

      warn "connection lost: #{e.message}"
    ensure
      conn.finish
    end
    conn = reconnect
  end
end

abort 'consumer.rb <queue> [--drain]' if ARGV.empty?
main(ARGV[0], ARGV.include?('--drain'))
