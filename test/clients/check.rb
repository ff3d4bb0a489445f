# What arrives in ruby-pg: native types; arrays go in; a waiting receive can be cancelled.
require 'json'
require 'pg'
require 'time'

queue = ARGV[0]

def check(okay, what)
  puts((okay ? 'ok - ' : 'not ok - ') + what)
end

conn = PG.connect
conn.type_map_for_results = PG::BasicTypeMapForResults.new(conn)
texts = PG::TextEncoder::Array.new(elements_type: PG::TextEncoder::String.new, needs_quotation: true)
numbers = PG::TextEncoder::Array.new(elements_type: PG::TextEncoder::Integer.new)

headers = [JSON.generate({ n: 1 }), nil, JSON.generate({ list: [true] })]
ids = conn.exec_params('SELECT cmq_send_batch($1, $2, 0, $3::jsonb[])',
                       [queue, texts.encode(['a', 'quoted "b"', 'ü']), texts.encode(headers)]).column_values(0)
check(ids.size == 3 && ids.all?(Integer) && ids == ids.sort, 'ids are Integer')
rows = conn.exec_params('SELECT * FROM cmq_receive($1, 10)', [queue]).to_a
check(rows.map { |r| r['body'] } == ['a', 'quoted "b"', 'ü'], 'bodies')
check(rows.map { |r| r['headers'] } == [{ 'n' => 1 }, nil, { 'list' => [true] }], 'headers are Hash, or nil')
check(rows.map { |r| r['msg_id'] } == ids, 'ids')
time = rows[0]['enqueued_at']
check(time.is_a?(Time) && time.to_i * 1_000_000 + time.usec == ids[0], 'times are Time of the right instant')
check(rows[0]['receive_count'] == 1, 'counts are Integer')
handles = rows.map { |r| r['receipt_handle'] }
check(conn.exec_params('SELECT cmq_delete_batch($1, $2)', [queue, texts.encode(handles)]).column_values(0) == handles,
      'an array of handles goes in')
check(conn.exec_params('SELECT cmq_restore_messages($1, $2)', [queue, numbers.encode(ids[0, 2])]).column_values(0) == ids[0, 2],
      'an array of ids goes in')
conn.exec_params('SELECT cmq_clear_queue($1)', [queue])

later = Time.at(Time.now.to_i + 3600, 123_456)
conn.exec_params('SELECT cmq_send($1, $2, deliver_at => $3)', [queue, 'later', later.iso8601(6)])
live = conn.exec("SELECT state, visible_at FROM cmq.#{conn.quote_ident("q_#{queue}_live")}").values
check(live == [['delayed', later]], 'a Time goes in')
conn.exec_params('SELECT cmq_clear_queue($1)', [queue])

conn.exec_params('SELECT cmq_send($1, $2)', [queue, JSON.generate({ item: 'apples' })])
check(conn.exec_params('SELECT body::jsonb AS body FROM cmq_receive($1)', [queue]).column_values(0) == [{ 'item' => 'apples' }],
      'a JSON body comes back as Hash')
conn.exec_params('SELECT cmq_clear_queue($1)', [queue])

begun = Process.clock_gettime(Process::CLOCK_MONOTONIC)
Thread.new { sleep 1; conn.cancel }
begin
  conn.exec_params('SELECT * FROM cmq_receive($1, polling_wait_seconds => 30)', [queue])
  check(false, 'a waiting receive is cancelled')
rescue PG::QueryCanceled
  check(Process.clock_gettime(Process::CLOCK_MONOTONIC) - begun < 25, 'a waiting receive is cancelled')
end
check(conn.exec('SELECT 1').getvalue(0, 0) == 1, 'and the connection goes on')
