# Entries in shared memory are not freed while a transaction uses them, or while a drop
# may be rolled back, and are freed when that is over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('entries', <<'CONF');
max_prepared_transactions = 5
cmq.max_queues = 2
CONF

# A new queue needs a place: is there one?
sub has_place
{
	my $complaint = $node->complaint(q{\set VERBOSITY sqlstate
		  BEGIN; SELECT FROM cmq_create_queue('one_more'); SELECT cmq_send('one_more', 'x'); ROLLBACK});
	return 1 if $complaint eq '';
	like($complaint, qr/^psql:.*ERROR: +53400$/m, '... 53400');
	return 0;
}

$node->sql(q{
	SELECT FROM cmq_create_queue('a', rewind_seconds => 3600);
	SELECT cmq_send('a', 'one');
	SELECT FROM cmq_create_queue('b');
});
ok(!has_place(), 'two places, two queues');

# A drop that is rolled back, with maintenance in between.
$node->sql(q{BEGIN; SELECT cmq_drop_queue('b'); SELECT cmq_maintain(); ROLLBACK});
ok(!has_place(), 'the place of a queue whose drop is rolled back stays');
$node->sql(q{BEGIN; SAVEPOINT s; DROP TABLE cmq_data.q_b_pending CASCADE; SELECT cmq_maintain(); ROLLBACK TO s; COMMIT});
ok(!has_place(), 'also in a subtransaction');
is($node->sql(q{SELECT sent FROM cmq.metrics WHERE queue = 'a'}), '1', 'its counters too');
$node->sql(q{BEGIN; DROP TABLE cmq_data.q_b_pending CASCADE; SELECT cmq_maintain(); COMMIT});
ok(has_place(), 'it goes when the drop commits');
$node->sql(q{SELECT cmq_drop_queue('b')});

# The owner drops the table by hand while somebody waits for a message.
$node->sql(q{SELECT FROM cmq_create_queue('w')});
my $waiter = $node->session(on_error_stop => 0);
$waiter->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM cmq_receive('w', polling_wait_seconds => 20);\n");
$node->wait_for_waiters(1);
$node->sql(q{DROP TABLE cmq_data.q_w CASCADE});
$node->sql(q{SELECT cmq_maintain()});
ok(!has_place(), 'the place that a receive waits at stays');
$node->sql("SELECT pg_cancel_backend(pid) $waiting");
$waiter->quit;
$node->sql(q{DROP TABLE cmq_data.q_w_pending CASCADE; SELECT cmq_maintain()});
ok(has_place(), 'and goes with the pending table');
$node->sql(q{SELECT cmq_drop_queue('w')});

# A queue made and dropped by prepared transactions.
$node->sql(q{BEGIN; SELECT FROM cmq_create_queue('p'); PREPARE TRANSACTION 'make'});
$node->sql(q{ROLLBACK PREPARED 'make'});
$node->sql(q{SELECT cmq_maintain()});
ok(has_place(), 'nothing is left of a creation that was prepared and rolled back');

# The journal of a topic has a place, too, but a publish goes on without, and so do a drop of a
# queue and a subscription.
$node->sql(q{SELECT cmq_create_topic('t'); SELECT cmq_create_queue('q'); SELECT cmq_subscribe('t', q, q) FROM unnest('{a,q}'::text[]) q});
$node->restart;
is($node->sql(q{SELECT string_agg(queue, ' ') FROM cmq_publish('t', 'published'); SELECT count(*) FROM cmq_data.j_t; SELECT body FROM cmq_consume('q')}),
	"a q\n0\npublished", 'a publish has places for the queues first');
is($node->sql(q{SELECT cmq_unsubscribe('t', 'a'), cmq_unsubscribe('t', 'q'); SELECT cmq_subscribe('t', 'again', 'q'); SELECT string_agg(queue, ' ') FROM cmq_publish('t', 'one')}),
	"|\n\nq", 'a subscription needs no place for a journal');
is($node->sql(q{SELECT cmq_drop_queue('q')}), '', 'a queue can be dropped');
is($node->sql(q{SELECT cmq_drop_topic('t')}), '', '... and so can the topic');
ok(has_place(), 'the places are free');

# Leaves ahead of time: not more than fit into one transaction.
$node->set('cmq.maintenance_interval', '1d');
$node->poll(q{SELECT current_setting('cmq.maintenance_interval') = '1d'}, 'a round a day');
$node->sql(q{SELECT FROM cmq_create_queue('leaves', msg_retention_seconds => 60); SELECT cmq_send('leaves', 'x')});
$node->sql(q{SELECT cmq_maintain()});
cmp_ok($node->sql(q{SELECT count(*) FROM cmq.partition WHERE queue = 'leaves'}), '<=', 12,
	'a few leaves are made ahead, not a day full of minutes');
$node->sql(q{SELECT cmq_drop_queue('leaves')});

# A server that forgets its caches all the time, which only some builds can do.
SKIP:
{
	skip 'no debug_discard_caches in this server', 1
	  if $node->sql(q{SELECT max_val FROM pg_settings WHERE name = 'debug_discard_caches'}) eq '0';
	is($node->sql(q{
		SET statement_timeout = '100s';
		SET debug_discard_caches = 1;
		SELECT cmq_send('a', 'two') > 0;
		SELECT string_agg(body, ' ') FROM cmq_receive('a', 10)}),
		"t\none two", 'caches discarded all the time');
}

$node->stop;
done_testing();
