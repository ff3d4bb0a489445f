# Prepared transactions: what they did counts when they end, exactly and without
# reading the tables.  Floors go up even if there are always some.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('prepared', <<'CONF');
max_prepared_transactions = 20
autovacuum = off
CONF

sub counters { return $node->sql(q{SELECT sent, received, deleted, body_bytes FROM cmq.metrics WHERE queue = 'q'}); }

my $metrics = q{SELECT * FROM cmq.metrics WHERE queue = 'q'};
# what the catalogs cost a new session is more than a message does
my $few = 600;

$node->sql(q{
	CREATE TABLE business (n int);
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200);
	SELECT count(*) FROM (SELECT cmq_send_batch('q', array_fill('m'::text, '{10000}')) FROM generate_series(1, 20)) s;
	SELECT cmq_maintain();
});
cmp_ok($node->sql(q{SELECT pg_relation_size('cmq_data.q_q_pending') / 8192}), '>', 2 * $few, 'the pending table has many pages');
cmp_ok($node->pages($metrics), '<', $few, 'they are not read for the counts');

note 'the end of a prepared transaction';

$node->sql(q{BEGIN; INSERT INTO business VALUES (1); PREPARE TRANSACTION 'other'});
$node->sql(q{COMMIT PREPARED 'other'});
cmp_ok($node->pages($metrics), '<', $few, 'one that has not used a queue changes nothing');

my $before = counters();
my $some = q{
	BEGIN;
	SELECT cmq_send('q', 'four');
	SAVEPOINT s;
	SELECT cmq_send('q', 'rolled back');
	ROLLBACK TO s;
	SAVEPOINT t;
	SELECT count(*) FROM cmq_send_batch('q', '{a,b}');
	RELEASE t;
	SELECT cmq_delete('q', receipt_handle) FROM cmq_receive('q', 5);
	PREPARE TRANSACTION 'some'};
$node->sql($some);
is(counters(), $before, 'while it is prepared, nothing counts');
$node->counts_agree('q', 'have no part of it');
$node->sql(q{COMMIT PREPARED 'some'});
is(counters(), join('|', map { $_->[0] + $_->[1] } map { [ (split /\|/, $before)[$_], (3, 5, 5, 6)[$_] ] } 0 .. 3), 'what it sent, received and deleted counts at COMMIT PREPARED');
cmp_ok($node->pages($metrics), '<', $few, '... without reading the table');
$node->counts_agree('q', 'after it');

$before = counters();
$node->sql($some);
$node->sql(q{ROLLBACK PREPARED 'some'});
is(counters(), $before, 'nothing counts at ROLLBACK PREPARED');
cmp_ok($node->pages($metrics), '<', $few, '... without reading the table');
$node->counts_agree('q', 'after it');

$node->psql('postgres', q{COMMIT PREPARED 'no such'});
cmp_ok($node->pages($metrics), '<', $few, 'an attempt to end one that does not exist changes nothing');
# a name that is empty is one, too
$before = counters();
$node->sql(q{BEGIN; SELECT FROM cmq_send('q', 'nameless'); PREPARE TRANSACTION ''});
$node->sql(q{COMMIT PREPARED ''});
isnt(counters(), $before, 'one with an empty name counts');
cmp_ok($node->pages($metrics), '<', $few, '... without reading the table');
$node->counts_agree('q', 'after it');

$node->sql(q{BEGIN; DELETE FROM cmq_data.q_q_pending WHERE enqueued_at = (SELECT min(enqueued_at) FROM cmq_data.q_q_pending); PREPARE TRANSACTION 'by hand'});
$node->sql(q{COMMIT PREPARED 'by hand'});
$node->counts_agree('q', 'after one that has changed a table by hand');

# more queues than an entry has room for
$node->sql(q{SELECT FROM generate_series(1, 12) i, cmq_create_queue('more' || i)});
$node->sql(q{BEGIN; SELECT cmq_send('more' || i, 'm') FROM generate_series(1, 12) i; PREPARE TRANSACTION 'many'});
$node->sql(q{COMMIT PREPARED 'many'});
$node->counts_agree("more$_", "of queue $_ of 12 after one that has used all") foreach 1, 8, 9, 12;
$node->sql(q{SELECT FROM generate_series(1, 12) i, cmq_drop_queue('more' || i)});

note 'always some prepared transaction';

# An old snapshot keeps what is consumed from being vacuumed away, and the next
# prepared transaction begins before the one before it ends.
$node->sql(q{SELECT cmq_maintain()});
my $old = $node->hold_snapshot;
my $consume = q{SELECT count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 1000)))};
my $receive = q{SELECT * FROM cmq_receive('q', 1)};

sub overlap
{
	my ($from, $to) = @_;
	foreach my $i ($from .. $to)
	{
		$node->sql("BEGIN; SELECT cmq_send('q', 'x'); PREPARE TRANSACTION 'p$i'");
		$node->sql("COMMIT PREPARED 'p@{[$i - 1]}'") if $i > $from;
		$node->sql($consume);
	}
}
overlap(1, 20);
cmp_ok($node->pages($receive, $receive), '<', 50, 'a receive does not look at what has been consumed since the first of them');
$node->counts_agree('q', 'after many');

note 'a restart';

$node->stop('immediate');
$old->{run}->finish if $old->{run};
$node->start;
$node->counts_agree('q', 'after a crash');
$old = $node->hold_snapshot;
$node->sql($consume) foreach 1 .. 10;
$node->sql(q{SELECT cmq_maintain()});
cmp_ok($node->pages($receive, $receive), '>', 100, 'while one from before the crash is there, nobody knows what it wrote');
overlap(21, 22);
$node->sql(q{COMMIT PREPARED 'p20'});
$node->counts_agree('q', 'after the end of one from before the crash');
$node->sql(q{SELECT cmq_maintain()});
$node->sql($receive);
cmp_ok($node->pages($receive, $receive), '<', 50, 'when it is gone floors go up, whatever is prepared since');
$old->quit;
$node->sql(q{VACUUM cmq_data.q_q_pending});
cmp_ok($node->pages($metrics), '<', $few, '... and counts are known');
$node->sql(q{COMMIT PREPARED 'p22'});
cmp_ok($node->pages($metrics), '<', $few, '... after those, too');
$node->counts_agree('q', 'at the end');

# the same name again, and who does not know the end of the one before
$node->sql($some);
$node->sql(q{COMMIT PREPARED 'some'});
$node->sql($some);
$node->sql(q{ROLLBACK PREPARED 'some'});
$node->counts_agree('q', 'when a name is used again');

note 'many clients';

my $script = $node->script('two_phase', <<'SQL');
\set end random(1, 4)
BEGIN;
SELECT cmq_send('q', 'm');
SELECT count(cmq_delete('q', receipt_handle)) FROM cmq_receive('q', 2);
PREPARE TRANSACTION 'client_:client_id';
\if :end = 1
ROLLBACK PREPARED 'client_:client_id';
\else
COMMIT PREPARED 'client_:client_id';
\endif
SQL
my $count = $node->script('count', "SELECT sum(pending_msg_num) FROM cmq.metrics;\nUPDATE cmq_data.q_q_pending SET receive_count = receive_count WHERE false;\n");
$node->start_pgbench('-c', '6', '-j', '2', '-t', '300', '-f', "$script\@20", '-f', "$count\@1")->succeeds('clients that prepare, commit and roll back, while some count anew');
is($node->sql(q{SELECT count(*) FROM pg_prepared_xacts}), '0', 'all have ended');
$node->counts_agree('q', 'after them');
$before = $node->sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'q'});
is($node->consume('q', 1000) > 0, 1, 'messages are left');
$node->counts_agree('q', 'at the very end');

$node->stop;
done_testing();
