# Publishers to two topics that share queues, beside senders to these queues and consumers
# of them: a message has one id in all its queues, an id is one message's in each queue,
# ids of a session increase, groups stay in order, and all is counted.
# CMQ_TEST_SEED repeats what is drawn.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Seed;
use Test::More;

my $transactions = $ENV{CMQ_TEST_LONG} ? 3000 : 150;
my $node = CmqNode->running('published', "max_connections = 60\nlock_timeout = 60s\n");

# Topic t has queues a, b and o, topic u has b, o and c; o is ordered.  Each call books
# what it was told, and each consume what it got.
$node->sql(q{
	SELECT cmq_create_queue('a', rewind_seconds => 3600), cmq_create_queue('b', msg_retention_seconds => 60), cmq_create_queue('c'),
		   cmq_create_queue('o', rewind_seconds => 3600, ordered => true);
	SELECT cmq_create_topic('t'), cmq_create_topic('u');
	SELECT cmq_subscribe('t', 'on_' || q, q) FROM unnest('{a,b,o}'::text[]) q;
	SELECT cmq_subscribe('u', 'on_' || q, q) FROM unnest('{b,c,o}'::text[]) q;
	CREATE SEQUENCE calls;
	CREATE SEQUENCE turns;
	CREATE TABLE told (call bigint, session int, topic text, queue text, msg_id bigint, body text);
	CREATE TABLE got (queue text, msg_id bigint, body text, message_group text, turn bigint, PRIMARY KEY (queue, msg_id));
	CREATE FUNCTION publish(topic text, n int, g text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		call bigint := nextval('calls');
	BEGIN
		IF n = 1 THEN
			INSERT INTO told SELECT call, pg_backend_pid(), topic, p.queue, p.msg_id, call || '/1' FROM cmq_publish(topic, call || '/1', message_group => g) p;
			RETURN;
		END IF;
		INSERT INTO told
			SELECT call, pg_backend_pid(), topic, p.queue, p.msg_id, call || '/' || row_number() OVER (PARTITION BY p.queue ORDER BY p.n)
			  FROM cmq_publish_batch(topic, array(SELECT call || '/' || i FROM generate_series(1, n) i),
									 message_groups => array(SELECT g FROM generate_series(1, n))) WITH ORDINALITY p (queue, msg_id, n);
	END $$;
	CREATE FUNCTION send(queue text, g text) RETURNS void LANGUAGE sql AS $$
		INSERT INTO told SELECT call, pg_backend_pid(), NULL, queue, cmq_send(queue, call || '/1', message_group => CASE queue WHEN 'o' THEN g END), call || '/1'
		  FROM nextval('calls') call
	$$;
	CREATE FUNCTION consume(queue text) RETURNS bigint LANGUAGE sql AS $$
		WITH book AS (INSERT INTO got SELECT queue, msg_id, body, message_group, nextval('turns') FROM cmq_consume(queue, 20) RETURNING 1)
		SELECT count(*) FROM book
	$$});

srand(seed());
sub clients
{
	my ($n, @limit) = splice @_, 0, 3;
	return $node->start_pgbench('-c', $n, '-j', '1', @limit, '--random-seed=' . seed(), $node->scripts(@_));
}

my $consumers = clients(4, '-T', '10000',
	'consume' => "\\set q random(1, 4)\nSELECT consume(substr('abco', :q, 1));\n",
	'rollback' => "\\set q random(1, 4)\nBEGIN;\nSELECT consume(substr('abco', :q, 1));\nROLLBACK;\n");
# partitions of the journals, too, are made and dropped meanwhile
my $maintenance = clients(1, '-T', '10000', 'maintain' => "SELECT cmq_maintain();\n\\sleep 50 ms\n");
my @producers = (
	clients(4, '-t', $transactions,
		'one@4' => "\\set t random(1, 2)\n\\set g random(1, 5)\nSELECT publish(substr('tu', :t, 1), 1, 'g' || :g);\n",
		'batch@2' => "\\set t random(1, 2)\n\\set n random(2, 30)\n\\set g random(1, 5)\nSELECT publish(substr('tu', :t, 1), :n, 'g' || :g);\n",
		'both@1' => "BEGIN;\nSELECT publish('t', 1, 'g1');\n\\sleep 1 ms\nSELECT publish('u', 1, 'g1');\nCOMMIT;\n",
		'rollback@1' => "BEGIN;\nSELECT publish('t', 2, 'g2');\nSELECT publish('u', 1, 'g3');\nROLLBACK;\n",
		'savepoint@1' => "BEGIN;\nSAVEPOINT a;\nSELECT publish('u', 2, 'g2');\nROLLBACK TO a;\nSELECT publish('t', 1, 'g2');\nCOMMIT;\n"),
	clients(3, '-t', 4 * $transactions,
		'send' => "\\set q random(1, 4)\n\\set g random(1, 5)\nSELECT send(substr('abco', :q, 1), 'g' || :g);\n"));

$_->succeeds('producers') foreach @producers;
$node->poll(q{SELECT count(*) = (SELECT count(*) FROM told) FROM got}, 'as many were consumed as were sent');
$_->kill foreach $consumers, $maintenance;

is($node->sql(q{SELECT * FROM (TABLE told EXCEPT ALL SELECT t.* FROM told t JOIN got g USING (queue, msg_id, body)) x}), '',
	'what each call was told was consumed, with that id');
is($node->sql(q{SELECT * FROM got g WHERE NOT EXISTS (SELECT FROM told t WHERE (t.queue, t.msg_id, t.body) = (g.queue, g.msg_id, g.body))}), '',
	'... and nothing else');
is($node->sql(q{SELECT body FROM told WHERE topic IS NOT NULL GROUP BY topic, body HAVING count(DISTINCT msg_id) > 1 OR count(*) <> 3}), '',
	'a published message has one id in all its queues');
is($node->sql(q{SELECT * FROM (SELECT queue, call, msg_id, lag(msg_id) OVER (PARTITION BY session, queue ORDER BY call, msg_id) before FROM told) x WHERE before >= msg_id}), '',
	'ids of a session increase');
is($node->sql(q{SELECT * FROM (SELECT msg_id, turn, lag(turn) OVER (PARTITION BY message_group ORDER BY msg_id) before FROM got WHERE queue = 'o') x WHERE before > turn}), '',
	'groups were consumed in order');
cmp_ok($node->sql('SELECT count(*) FROM told'), '>', 10 * $transactions, 'many messages were sent');
is($node->sql(q{SELECT string_agg(queue || ' ' || ready + in_flight + delayed, ', ') FROM cmq.status WHERE ready + in_flight + delayed <> 0}), '', 'nothing is left');
# Times are taken as fast as can be, by three sessions: two of the same would break a key.
my @fast = (
	clients(1, '-t', 100, 'to_t' => "SELECT count(*) FROM cmq_publish_batch('t', array_fill('x'::text, ARRAY[500]));\n"),
	clients(1, '-t', 100, 'to_u' => "SELECT count(*) FROM cmq_publish_batch('u', array_fill('x'::text, ARRAY[500]));\n"),
	clients(1, '-t', 100, 'to_b' => "SELECT count(*) FROM cmq_send_batch('b', array_fill('x'::text, ARRAY[1500]));\n"));
$_->succeeds('a fast producer') foreach @fast;
is($node->sql('SELECT ready FROM cmq.status WHERE queue = \'b\''), 250_000, 'all is there');
is($node->sql(q{SELECT count(*) FROM cmq_data.q_o_pending JOIN cmq_data.q_b_pending USING (enqueued_at)}), 100_000, '... and what both queues got has one id');

$node->stop;
$node->is_sound;
done_testing();
