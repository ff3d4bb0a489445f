# Every function with odd arguments at random: a right answer or an error with an
# SQLSTATE, never an internal error, a crash or a leak.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Seed;
use Test::More;

my $transactions = $ENV{CMQ_TEST_LONG} ? 6000 : 250;    # of about 18 calls

my $node = CmqNode->running('input', <<'CONF', extra => ['--encoding=UTF8']);
max_prepared_transactions = 5
max_locks_per_transaction = 1000
cmq.maintenance_interval = 1s
lock_timeout = 5s
deadlock_timeout = 100ms
client_min_messages = error
log_min_messages = warning
log_min_error_statement = panic
CONF

$node->sql(q[
CREATE ROLE other;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO other;
CREATE TABLE outcome (f text, sqlstate text, message text);

-- What is missing of the queues and topics to work with; what was altered, as before.
CREATE FUNCTION setup() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	command text;
BEGIN
	FOREACH command IN ARRAY ARRAY[
		'cmq_create_queue(''q'', rewind_seconds => 3600, dedup_seconds => 60)', 'cmq_create_queue(''q-dead'')', 'cmq_create_queue(''o'', rewind_seconds => 3600, ordered => true)', 'cmq_create_queue(''full'', max_msg_heap_num => 3, max_msg_size => 1024)',
		'cmq_resume_queue(''q'')', 'cmq_resume_queue(''q-dead'')', 'cmq_resume_queue(''o'')', 'cmq_resume_queue(''full'')',
		'cmq_alter_queue(''q'', msg_retention_seconds => 86400, rewind_seconds => 3600, max_msg_heap_num => 1000000, dead_letter_queue => ''q-dead'', max_receive_count => 3)',
		'cmq_alter_queue(''o'', msg_retention_seconds => 86400, rewind_seconds => 3600, max_msg_heap_num => 1000000, dead_letter_queue => ''q-dead'', max_receive_count => 3)',
		'cmq_create_topic(''t'')', 'cmq_create_topic(''r'', ''routing'')', 'cmq_subscribe(''t'', ''s'', ''q'')', 'cmq_subscribe(''t'', ''o'', ''o'')', 'cmq_subscribe(''r'', ''s'', ''q'', binding_keys => ''{a.*}'')']
	LOOP
		BEGIN
			EXECUTE 'SELECT ' || command;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT setup();

-- Handles or ids of messages of q, ids of its dead letters, while there is one.
CREATE FUNCTION known(what text, n int) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	result text[];
BEGIN
	IF what = 'handle' THEN
		SELECT array_agg(h) INTO result FROM (SELECT concat_ws('-', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at), receive_count, rewind_count, change_count) AS h
			FROM (TABLE cmq_data.q_q_pending UNION ALL
				SELECT visible_at, enqueued_at, first_received_at, receive_count, rewind_count, change_count, delayed_until FROM cmq_data.q_o_pending) b ORDER BY random() LIMIT n) p;
	ELSIF what = 'letter' THEN
		SELECT array_agg(cmq.msg_id(enqueued_at)::text) INTO result FROM (SELECT enqueued_at FROM cmq_data."q_q-dead_pending" ORDER BY random() LIMIT n) m;
	ELSE
		SELECT array_agg(cmq.msg_id(enqueued_at)::text) INTO result FROM (SELECT enqueued_at FROM (SELECT enqueued_at FROM cmq_data.q_q UNION ALL SELECT enqueued_at FROM cmq_data.q_o) b ORDER BY random() LIMIT n) m;
	END IF;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END $$;
CREATE FUNCTION legal_start() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT latest_rewind_time FROM cmq_queue_attributes('q'));
EXCEPTION WHEN OTHERS THEN
	RETURN now();
END $$;

-- A value for an argument, as SQL text.
CREATE FUNCTION a_value(f text, arg text, type regtype) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	pool text[];
	handle text := (known('handle', 1))[1];
BEGIN
	IF random() < 0.08 THEN
		RETURN format('NULL::%s', type);
	END IF;
	-- most of the calls should get past the name
	IF f ~ '^cmq_(create|drop)_(queue|topic)$' AND arg IN ('queue', 'topic') AND random() < 0.8 THEN
		RETURN quote_literal((ARRAY['f1', 'F1', 'f-2', 'f_3', 'f1_pending'])[1 + floor(random() * 5)]);
	ELSIF f ~ 'unsubscribe' AND arg = 'subscription' AND random() < 0.5 THEN
		RETURN quote_literal('s');
	ELSIF f = 'cmq_subscribe' AND arg IN ('filter_tags', 'binding_keys') AND random() < 0.6 THEN
		RETURN 'NULL::text[]';
	-- a topic takes one of these or the other
	ELSIF f IN ('cmq_publish', 'cmq_publish_batch') AND arg IN ('tags', 'routing_key') AND random() < 0.7 THEN
		RETURN 'NULL::' || type;
	ELSIF f = 'cmq_redrive' AND arg = 'filter' AND random() < 0.3 THEN
		RETURN 'NULL::jsonb';
	ELSIF f = 'cmq_redrive' AND arg = 'msg_ids' AND random() < 0.6 THEN
		RETURN format('%L::bigint[]', CASE WHEN random() < 0.6 THEN known('letter', 5) END);
	-- a queue may have no groups, and what is delayed has none
	ELSIF arg IN ('message_group', 'message_groups', 'dedup_key', 'dedup_keys') AND random() < 0.6 THEN
		RETURN 'NULL::' || type;
	-- one of these at most, and an object or nothing
	ELSIF arg = 'delay_seconds' AND random() < 0.6 THEN
		RETURN '0';
	ELSIF arg = 'deliver_at' AND random() < 0.6 OR arg = 'headers' AND random() < 0.4 THEN
		RETURN 'NULL::' || type;
	ELSIF arg = 'filter_type' AND random() < 0.5 THEN
		RETURN quote_literal('tag');
	ELSIF f IN ('cmq_create_queue', 'cmq_alter_queue') AND arg <> 'queue' AND random() < 0.85 THEN
		RETURN CASE arg WHEN 'polling_wait_seconds' THEN '0' WHEN 'visibility_timeout' THEN '30' WHEN 'msg_retention_seconds' THEN '86400' WHEN 'rewind_seconds' THEN '600' WHEN 'max_msg_size' THEN '1024'
			WHEN 'max_msg_heap_num' THEN '1000' WHEN 'retry_backoff_seconds' THEN '0' WHEN 'retry_backoff_max_seconds' THEN '3600' WHEN 'rewind_share' THEN '100'
			WHEN 'ordered' THEN (random() < 0.5)::text WHEN 'dedup_seconds' THEN CASE WHEN random() < 0.5 THEN '0' ELSE '60' END ELSE 'NULL' END || CASE WHEN arg = 'dead_letter_queue' THEN '::text' ELSE '' END;
	ELSIF arg IN ('queue', 'into_queue', 'dead_letter_queue') AND random() < 0.8 THEN
		RETURN quote_literal((ARRAY['q', 'q', 'q-dead', 'full', 'o'])[1 + floor(random() * 5)]);
	ELSIF arg = 'topic' AND random() < 0.8 THEN
		RETURN quote_literal((ARRAY['t', 'r'])[1 + floor(random() * 2)]);
	ELSIF arg = 'part' AND random() < 0.8 THEN
		RETURN quote_literal((ARRAY['pending', 'history'])[1 + floor(random() * 2)]);
	-- no place without its time
	ELSIF arg IN ('after_time', 'after_id') AND random() < 0.6 THEN
		RETURN 'NULL::' || type;
	ELSIF arg IN ('max_messages', 'max_looked') AND f = 'cmq_messages' AND random() < 0.6 THEN
		RETURN '10';
	ELSIF arg = 'polling_wait_seconds' THEN
		RETURN (ARRAY['0', '-1', '31', '-2147483648', '2147483647'])[1 + floor(random() * 5)];
	END IF;
	CASE type
		WHEN 'text'::regtype THEN
			pool := ARRAY['', 'q', 'Q', 'full', 'a', 'tag', 'routing', 'a.b', '#', '*.*', repeat('x', 48), repeat('x', 49), repeat('y', 2000),
				'"; DROP TABLE q; --', '''', '\', E'a\nb', 'ü', '%s%n$1', 'cmq_data.q_q', 'q_pending', 'pg_class', chr(1), chr(128512), repeat('.', 20),
				handle, left(handle, 20), handle || '0', replace(handle, '-', '--'), '1-2-3-4', '-1-2-3-4', '99999999999999999999-1-1-1', '0-0-0-0',
				'9223372036854775807-9223372036854775807-2147483647-2147483647', repeat('9', 300)];
		WHEN 'int'::regtype THEN
			pool := '{0,1,-1,2,10,30,60,61,300,1000,1001,1024,3600,43200,43201,86399,86400,1295999,1296000,2147483647,-2147483648}';
		WHEN 'boolean'::regtype THEN
			pool := '{true,false}';
		WHEN 'bigint'::regtype THEN
			pool := '{0,1,-1,1000,9223372036854775807,-9223372036854775808,1700000000000000}';
		WHEN 'timestamptz'::regtype THEN
			pool := ARRAY['-infinity', 'infinity', '4714-11-24 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00', '1970-01-01 00:00+00',
				now()::text, legal_start(), legal_start(), (now() - interval '1 hour')::text, (now() - interval '1 s')::text, (now() + interval '1 s')::text,
				(now() + interval '86398 s')::text, (now() + interval '4 days')::text];
		WHEN 'jsonb'::regtype THEN
			pool := ARRAY['{}', 'null', '[]', '"x"', '1e300', '{"a": 1}', repeat('[', 100) || repeat(']', 100), repeat('{"a":', 100) || '1' || repeat('}', 100),
				'{"cmq_dead_letter": {"queue": "q"}}', '{"cmq_dead_letter": 1}', '{"cmq_dead_letter": {"queue": {}}}', '{"cmq_topic": []}',
				format('{"%s": "%s"}', repeat('k', 3000), repeat('v', 3000))];
		WHEN 'text[]'::regtype THEN
			pool := ARRAY['{}', '{NULL}', '{a,NULL,b}', '{{a,b},{c,d}}', '[5:6]={a,b}', '{a}', '{""}', '{1-2-3-4}', '{a.*,#}', known('handle', 5)::text,
				array_fill('x'::text, '{300}')::text, array_fill(repeat('z', 100), '{20}')::text];
		WHEN 'bigint[]'::regtype THEN
			pool := ARRAY['{}', '{NULL}', '{1,NULL}', '{{1,2},{3,4}}', '[5:6]={1,2}', '{9223372036854775807,-9223372036854775808,0}',
				known('id', 5)::text];
		WHEN 'jsonb[]'::regtype THEN
			pool := ARRAY['{}', '{NULL}', '{"{}",NULL}', '{{1,2},{3,4}}', '{"[]"}', array_fill('{"a": 1}'::jsonb, '{300}')::text];
		ELSE
			RAISE EXCEPTION 'no values of type %', type;
	END CASE;
	RETURN format('%L::%s', pool[1 + floor(random() * cardinality(pool))], type);
END $$;

CREATE TABLE f AS
SELECT p.oid, n.nspname, p.proname, p.proretset, p.prorettype::regtype AS type,
	   coalesce(array_agg(a.name ORDER BY a.no) FILTER (WHERE a.name IS NOT NULL), '{}') AS names,
	   coalesce(array_agg(a.type::regtype ORDER BY a.no) FILTER (WHERE a.name IS NOT NULL), '{}') AS types
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension e ON d.refobjid = e.oid AND e.extname = 'cmq'
  LEFT JOIN LATERAL unnest(p.proargnames[1:p.pronargs], p.proargtypes::oid[]) WITH ORDINALITY a (name, type, no) ON true
 WHERE p.prorettype <> 'trigger'::regtype AND p.proname !~ '_support$'
 GROUP BY p.oid, n.nspname;

-- Some calls, each undone if it fails, a third if it does not; with favour, of functions
-- whose names match it, and of those that give them messages to work with.
CREATE FUNCTION calls(n int, seed float8, favour text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	func f;
	command text;
	args text;
BEGIN
	PERFORM setseed(seed);
	FOR i IN 1 .. n LOOP
		-- messages to work with
		SELECT * INTO func FROM f WHERE proname ~ favour AND random() < 0.5 OR proname ~ 'send|receive|restore|publish' ORDER BY random() LIMIT 1;
		-- creating and dropping takes long
		CONTINUE WHEN func.proname ~ 'create_queue|drop_queue|create_topic|drop_topic|maintain' AND random() < 0.8;
		SELECT string_agg(a_value(func.proname, a.name, a.type), ', ' ORDER BY no) INTO args FROM unnest(func.names, func.types) WITH ORDINALITY a (name, type, no);
		command := format('SELECT * FROM %I.%I(%s)', func.nspname, func.proname, args);
		BEGIN
			EXECUTE command;
			IF random() < 0.3 THEN
				RAISE SQLSTATE 'UNDO0';
			END IF;
			INSERT INTO outcome VALUES (func.proname, 'ok');
		EXCEPTION WHEN OTHERS THEN
			INSERT INTO outcome VALUES (func.proname, SQLSTATE, CASE WHEN SQLSTATE LIKE 'XX%' THEN command || ': ' || SQLERRM ELSE SQLERRM END);
		END;
	END LOOP;
	PERFORM setup();
END $$;
SELECT count(a_value(f.proname, a.name, a.type)) FROM f, unnest(f.names, f.types) a (name, type);
]);
is($node->sql(q{SELECT count(*) FROM f WHERE proname = 'cmq_restore'}), '1', 'the functions are known');

my $file = $node->script('calls', "\\set r random(-1000000, 1000000)\nSELECT calls(20, :r / 1000000.0);\n");
my $each = int($transactions / 3);
my $run = $node->start_pgbench('-c', '3', '-j', '2', '-t', $each, '--max-tries=100', '--random-seed=' . seed(), '-f', $file);
like($run->finish, qr/processed: @{[3 * $each]}\/@{[3 * $each]}/, 'all clients lived to the end') or diag("$run->{out}\n$run->{err}");

my $n = $node->sql('SELECT count(*) FROM outcome');
cmp_ok($n, '>', $ENV{CMQ_TEST_LONG} ? 100_000 : 10 * $transactions, "$n calls");
note($node->sql(q{SELECT string_agg(sqlstate || ' ' || n, ', ' ORDER BY n DESC) FROM (SELECT sqlstate, count(*) AS n FROM outcome GROUP BY 1) o}));
is($node->sql(q{SELECT count(*) FROM outcome WHERE sqlstate LIKE 'XX%'}), '0', 'no internal error')
  or diag($node->sql(q{SELECT message FROM outcome WHERE sqlstate LIKE 'XX%' LIMIT 10}));
is($node->sql(q{SELECT count(*) FROM outcome WHERE sqlstate NOT IN ('ok', 'UNDO0', '22023', '42704', '42710', '22P02', '54000', '55000', '53400', '2BP01', '21000', '40P01', '55P03', '42501')}),
	'0', 'errors are those of docs/reference.md')
  or diag($node->sql(q{SELECT DISTINCT f, sqlstate, message FROM outcome WHERE sqlstate NOT IN ('ok', 'UNDO0', '22023', '42704', '42710', '22P02', '54000', '55000', '53400', '2BP01', '21000', '40P01', '55P03', '42501') LIMIT 10}));
# the slow ones are called too seldom for that in a short run
my $slow = $ENV{CMQ_TEST_LONG} ? 'none' : 'create|drop|subscribe|alter';
my $failed;
# what chance has left out gets more calls
for my $round (1 .. 100)
{
	$failed = $node->sql(qq{SELECT string_agg(DISTINCT proname, '|') FROM f WHERE proname !~ '$slow' AND proname NOT IN (SELECT f FROM outcome WHERE sqlstate IN ('ok', 'UNDO0'))});
	last if $failed eq '';
	note("round $round for $failed");
	$node->sql("SELECT calls(100, $round / 100.0, '^($failed)\$')");
}
is($failed, '', 'every function was called with success');

# The queues are whole.
for my $queue ('q', 'q-dead', 'full', 'o')
{
	my $name = qq{cmq_data."q_$queue};
	next unless $node->sql("SELECT count(*) FROM cmq.queues WHERE queue = '$queue'");
	is($node->sql(qq{SELECT count(*) FROM $name" m
		WHERE (SELECT count(*) FROM ${name}_pending" p WHERE p.enqueued_at = m.enqueued_at)
			+ (SELECT count(*) FROM ${name}_rewind" r WHERE r.enqueued_at = m.enqueued_at) <> 1}),
		'0', "each message of $queue is in one state");
	is($node->sql(qq{SELECT pending_msg_num - (SELECT count(*) FROM ${name}_pending") FROM cmq.metrics WHERE queue = '$queue'}),
		'0', "and $queue knows how many are pending");
}
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|leak|still referenced|unexpected/, 'the server has nothing to complain about');
done_testing();
