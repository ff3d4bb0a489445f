# Rewinds, restores, replays and cancels beside eight consumers: there are as many
# deliveries as messages sent and brought back.  Then the same messages come back a
# thousand times: tables do not grow.  Then calls on many messages are cancelled.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Seed;
use Test::More;

my $node = CmqNode->running('traffic', 'cmq.maintenance_interval = 1s');

$node->sql(q{
	SELECT FROM cmq_create_queue('q', rewind_seconds => 3600, msg_retention_seconds => 7200, visibility_timeout => 600);
	SELECT FROM cmq_create_queue('copy');
	CREATE TABLE delivered (msg_id bigint, rewind_count int);
	CREATE TABLE brought_back (kind text, messages bigint);
	-- a time between the first message and now
	CREATE FUNCTION some_time(part double precision) RETURNS timestamptz LANGUAGE sql AS
	$$ SELECT min(enqueued_at) + part * greatest(now() - min(enqueued_at), '0') FROM cmq_data.q_q $$;
	-- so that there is one from the beginning
	SELECT cmq_send('q', 'm');
});

# What a consumer takes it books and deletes in one transaction; a third of the
# transactions is rolled back.
my %scripts = (
	consume => q{
\set what random(1, 3)
BEGIN;
WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 5)),
	 gone AS MATERIALIZED (SELECT cmq_delete('q', receipt_handle) AS deleted, msg_id, rewind_count FROM got)
INSERT INTO delivered SELECT msg_id, rewind_count FROM gone WHERE deleted;
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
},
	send => q{
SELECT count(*) FROM cmq_send_batch('q', array_fill('m'::text, '{3}'), headers => array_fill('{"half": 1}'::jsonb, '{3}'));
SELECT cmq_send('q', 'm', headers => '{"half": 2}');
},
	rewind => q{
DO $$ BEGIN
	PERFORM cmq_rewind('q', least(some_time(random()), latest_rewind_time)) FROM cmq_queue_attributes('q');
EXCEPTION WHEN invalid_parameter_value THEN
	NULL;	-- a message older than that was rolled back meanwhile
END $$;
},
	restore => q{
BEGIN;
INSERT INTO brought_back
SELECT 'restore', cmq_restore('q', some_time(random()), some_time(1.0 + random()), CASE WHEN random() < 0.5 THEN '{"half": 2}'::jsonb END);
END;
},
	ids => q{
INSERT INTO brought_back
SELECT 'restore', count(*) FROM cmq_restore_messages('q', array(SELECT msg_id FROM cmq.q_q_history WHERE random() < 0.01));
},
	back => q{
BEGIN;
SELECT cmq_restore('q', some_time(0.5));
ROLLBACK;
},
	cancel => q{
SELECT cmq_cancel_rewind('q');
},
	replay => q{
INSERT INTO brought_back SELECT 'replay', cmq_replay('q', 'copy', some_time(random()), some_time(1.0));
});

my %weights = (send => 12, rewind => 4, restore => 4, ids => 2, back => 2, cancel => 2, replay => 2);
my %files = map { $_ => $node->script($_, $scripts{$_}) } keys %scripts;

# Eight consumers, and beside them four clients who do these things; then what is
# left is consumed.
sub traffic
{
	my ($seconds, @names) = @_;
	my @runs = (
		$node->start_pgbench('-T', $seconds, '-c', '8', '-j', '2', '--random-seed=' . seed(), '-f', $files{consume}),
		$node->start_pgbench('-T', $seconds, '-c', '4', '--random-seed=' . (seed() + 1), map { ('-f', "$files{$_}\@$weights{$_}") } @names));
	$_->succeeds("consumers beside: @names") foreach @runs;
	$node->sql(q{SELECT cmq_maintain()});
	while ($node->sql(q{
		WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 1000)),
			 gone AS MATERIALIZED (SELECT cmq_delete('q', receipt_handle) AS deleted, msg_id, rewind_count FROM got),
			 booked AS (INSERT INTO delivered SELECT msg_id, rewind_count FROM gone WHERE deleted RETURNING 1)
		SELECT count(*) FROM booked}) > 0) { }
	return;
}

# Restores alone say themselves how many they bring back.
traffic(5, qw(send restore ids back));
my ($all, $told) = split /\|/, $node->sql(q{
	SELECT (SELECT count(*) FROM delivered), (SELECT count(*) FROM cmq_data.q_q) + (SELECT sum(messages) FROM brought_back WHERE kind = 'restore')});
is($all, $told, 'deliveries = sent + what restores have returned');
cmp_ok($node->sql(q{SELECT count(*) FROM brought_back WHERE kind = 'restore' AND messages > 0}), '>', 10, 'many of them did');

traffic(8, qw(send rewind restore ids back cancel replay));
my %calls = split /[|\n]/, $node->sql(q{SELECT kind, count(*) FROM cmq.rewinds GROUP BY kind});
cmp_ok($calls{$_} // 0, '>', 5, "$_: $calls{$_} calls") foreach qw(rewind restore cancel replay);
is($node->sql(q{SELECT active_msg_num || ' ' || inactive_msg_num FROM cmq_queue_attributes('q')}), '0 0',
	'nothing is left to receive');
is($node->sql(q{SELECT count(*) FROM cmq_data.q_q m FULL JOIN cmq_data.q_q_rewind r USING (enqueued_at)
		   WHERE m.enqueued_at IS NULL OR r.enqueued_at IS NULL}),
	'0', 'each message is in the history');
my ($sent, $back, $delivered, $twice) = split /\|/, $node->sql(q{
	SELECT (SELECT count(*) FROM cmq_data.q_q), (SELECT sum(rewind_count) FROM cmq_data.q_q_rewind), (SELECT count(*) FROM delivered),
		   (SELECT count(*) FROM (SELECT FROM delivered GROUP BY msg_id, rewind_count HAVING count(*) > 1) t)});
cmp_ok($back, '>', 0, "$back messages came back, of $sent");
is($delivered, $sent + $back, 'deliveries = sent + brought back');
is($twice, '0', 'none twice');
is($node->sql(q{SELECT count(*) FROM cmq_data.q_q m
			FULL JOIN (SELECT msg_id, max(rewind_count) AS last, count(*) AS n FROM delivered GROUP BY 1) d ON d.msg_id = cmq.msg_id(m.enqueued_at)
			FULL JOIN cmq_data.q_q_rewind r ON r.enqueued_at = m.enqueued_at
		   WHERE d.n IS DISTINCT FROM r.rewind_count + 1 OR d.last IS DISTINCT FROM r.rewind_count}),
	'0', 'for each message');
is($node->sql(q{SELECT coalesce(sum(messages), 0) FROM brought_back WHERE kind = 'restore'}),
	$node->sql(q{SELECT coalesce(sum(messages), 0) FROM cmq.rewinds WHERE kind = 'restore'}),
	'what restores returned is in the record');
is($node->sql(q{SELECT sum(messages) FROM brought_back WHERE kind = 'replay'}),
	$node->sql(q{SELECT count(*) FROM cmq_data.q_copy}),
	'replays copied what they returned');
is($node->sql(q{SELECT count(*) FROM cmq_data.q_copy c LEFT JOIN cmq_data.q_q m ON m.enqueued_at = (c.headers #>> '{cmq_origin,enqueued_at}')::timestamptz
		   WHERE m.body IS DISTINCT FROM c.body}),
	'0', 'with their bodies');

# A thousand rounds over the same messages, with VACUUM now and then.
$node->sql(q{
	SELECT FROM cmq_create_queue('round', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('round', array_fill('x'::text, '{20}'));
	SELECT FROM cmq_delete_batch('round', array(SELECT receipt_handle FROM cmq_receive('round', 20)));
	CREATE TABLE rounds (n bigint);
});
my $round = $node->script('round', q{
SELECT cmq_rewind('round', now() - interval '30 min');
INSERT INTO rounds SELECT count(*) FROM cmq_delete_batch('round', array(SELECT receipt_handle FROM cmq_receive('round', 20)));
});
my @sizes;
for my $part (1 .. 10)
{
	$node->start_pgbench('-c', '1', '-t', '100', '-f', $round)->succeeds('a hundred rounds');
	$node->sql("VACUUM $_") foreach qw(cmq_data.q_round_pending cmq_data.q_round_rewind cmq.queue);
	push @sizes, $node->sql(q{
		SELECT pg_total_relation_size('cmq_data.q_round_pending') + pg_total_relation_size('cmq.queue')
			+ (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('cmq_data.q_round_rewind'))});
}
is($node->sql('SELECT count(*) || \' \' || sum(n) FROM rounds'), '1000 20000', 'each brings back all');
is($node->sql('SELECT DISTINCT rewind_count FROM cmq_data.q_round_rewind'), '1000', 'and counts them');
is($node->sql('SELECT count(*) FROM cmq_data.q_round'), '20', 'bodies are not copied');
note("bytes: @sizes");
cmp_ok($sizes[9], '<', 1.5 * $sizes[1], 'the tables have not grown since the second hundred');

# Cancelled when they are at work, restore and replay stop at once: what a call
# has inserted until then is much less than what there is.
$node->sql(q{
	SELECT FROM cmq_create_queue('many', rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('target');
	SELECT count(*) FROM (SELECT cmq_send_batch('many', array_fill('m'::text, '{10000}')) FROM generate_series(1, 20)) s;
	DO $$ BEGIN FOR i IN 1 .. 200 LOOP PERFORM FROM cmq_delete_batch('many', array(SELECT receipt_handle FROM cmq_receive('many', 1000))); COMMIT; END LOOP; END $$;
});
my $record = $node->sql('SELECT count(*) FROM cmq.rewinds');
my %into = (q{cmq_restore('many', '-infinity')} => 'many', q{cmq_replay('many', 'target', '-infinity')} => 'target');
for my $call (sort keys %into)
{
	my $pending = "cmq_data.q_$into{$call}_pending";

	$node->sql("VACUUM $pending");
	my $empty = $node->sql("SELECT pg_relation_size('$pending')");
	like($node->complaint("\\set VERBOSITY verbose\nSET statement_timeout = '20ms';\nSELECT $call"), qr/ERROR:  57014/, "$call is cancelled");
	my $cancelled = $node->sql("SELECT pg_relation_size('$pending')") - $empty;
	is($node->sql(qq{SELECT (SELECT count(*) FROM cmq.q_many_history), (SELECT count(*) FROM $pending), (SELECT count(*) FROM cmq.rewinds)}),
		"200000|0|$record", 'and has changed nothing');
	$node->sql("VACUUM $pending");
	is($node->sql("BEGIN; SELECT $call; ROLLBACK"), '200000', 'not cancelled');
	my $whole = $node->sql("SELECT pg_relation_size('$pending')") - $empty;
	note("bytes: $cancelled, $whole");
	cmp_ok($cancelled, '<', $whole / 2, 'it does much more');
}

# A reason that no SET would have let through.
{
	local $ENV{PGOPTIONS} = "-c cmq.reason=\xff";
	like($node->complaint("\\set VERBOSITY verbose\nSELECT cmq_restore('many', '-infinity')"), qr/ERROR:  22021/, 'a reason that is no text');
}

$node->stop;
done_testing();
