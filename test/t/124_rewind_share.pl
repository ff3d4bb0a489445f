# rewind_share: while a rewind is under way and other messages go on coming, each source
# has its share of what is received, whoever receives and how; when one has nothing, the
# other one has all; nothing is lost, and nothing waits for ever.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('share', <<'CONF');
max_connections = 40
CONF

$node->sql(q{
	SELECT FROM cmq_create_queue('s', visibility_timeout => 43200, rewind_seconds => 3600);
	CREATE TABLE had (msg_id bigint, rewind_count int)});

# A script that receives so, and books it.
my %ways = (
	receive => q{INSERT INTO had SELECT msg_id, rewind_count FROM cmq_receive('s', :n);},
	consume => q{INSERT INTO had SELECT msg_id, rewind_count FROM cmq_consume('s', :n);},
	'consume, a third rolled back' => q{
		\set back random(1, 3)
		BEGIN;
		INSERT INTO had SELECT msg_id, rewind_count FROM cmq_consume('s', :n);
		\if :back = 1
			ROLLBACK;
		\else
			COMMIT;
		\endif
	},
	'receive with a filter' => q{INSERT INTO had SELECT msg_id, rewind_count FROM cmq_receive('s', :n, filter => '{"k": 1}');});

# So many messages that a rewind brings back, and so many others.
sub fill
{
	my ($old, $new, $share) = @_;
	# each row a call
	my $batch = q{cmq_send_batch('s', array_fill('m'::text, ARRAY[1000 + 0 * i]), headers => array_fill('{"k": 1}'::jsonb, ARRAY[1000 + 0 * i]))};
	$node->sql(qq{
		TRUNCATE had;
		SELECT cmq_drop_queue('s');
		SELECT FROM cmq_create_queue('s', visibility_timeout => 43200, rewind_seconds => 3600, rewind_share => $share);
		SELECT count(*) FROM generate_series(1, $old) i, LATERAL $batch;
		SELECT count(*) FROM generate_series(1, $old) i, LATERAL cmq_consume('s', 1000 + 0 * i);
		SELECT cmq_rewind('s', now() - interval '30 min');
		SELECT count(*) FROM generate_series(1, $new) i, LATERAL $batch});
	return;
}

my $send = $node->script('send', q{SELECT count(*) FROM cmq_send_batch('s', array_fill('m'::text, '{10}'), headers => array_fill('{"k": 1}'::jsonb, '{10}'));});

# Receive by these clients, in so many transactions each, while others send.
sub run
{
	my ($way, $clients, $transactions, $n) = @_;
	my $sender = $node->start_pgbench('-c', 1, '-T', 60, '-R', 100, '-f', $send);
	$node->wait_until(q{SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%cmq_send_batch%' AND pid <> pg_backend_pid()});
	$node->start_pgbench('-c', $clients, '-j', 1, '-t', $transactions, '-D', "n=$n", '-f', $node->script('take', $ways{$way}))->complete;
	my $sent = $node->sql(q{SELECT sent FROM cmq.metrics});
	$sender->signal('TERM');
	$sender->finish;
	$node->wait_until(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'});
	cmp_ok($node->sql(q{SELECT sent FROM cmq.metrics}), '>=', $sent, 'others have sent meanwhile');
	return;
}

# Of what was had, how many has the rewind brought back?
sub old { return $node->sql(q{SELECT count(*) FILTER (WHERE rewind_count > 0) FROM had}); }

sub all { return $node->sql(q{SELECT count(*) FROM had}); }

# All that is left can be had; then each message was had once since the rewind.
sub check_all
{
	my ($name) = @_;
	my $take = q{INSERT INTO had SELECT msg_id, rewind_count FROM cmq_consume('s', 1000)};
	my $left = 1;
	while ($left)
	{
		$node->sql($take);
		$left = $node->sql(q{SELECT ready FROM cmq.status WHERE queue = 's'});
	}
	is($node->sql(q{SELECT count(*) FROM (SELECT msg_id FROM cmq.q_s_all FULL JOIN had h USING (msg_id) GROUP BY 1 HAVING count(h.*) <> 1 OR count(state) <> 1) x}),
		'0', "$name: each message was had once");
	return;
}

foreach my $case ([ 'receive', 1, 1000, 1 ], [ 'consume', 1, 1000, 1 ], [ 'consume', 8, 125, 1 ], [ 'receive', 8, 125, 1 ],
	[ 'consume', 1, 100, 10 ], [ 'receive', 5, 20, 10 ], [ 'receive', 4, 84, 3 ], [ 'consume, a third rolled back', 6, 250, 1 ], [ 'receive with a filter', 4, 250, 1 ])
{
	my ($way, $clients, $transactions, $n) = @$case;
	my $name = "$way, $clients clients, $n at a time";
	fill(3, 2, 50);
	run($way, $clients, $transactions, $n);
	my ($all, $old) = (all(), old());
	cmp_ok($all, '>=', 900, "$name: $all were had");
	my $percent = 100 * $old / $all;
	ok($percent >= 45 && $percent <= 55, "$name: the rewind has its half of them") or diag("$old of $all");
	check_all($name);
}

# other shares, exact for one client
foreach my $case ([ 1, 10 ], [ 10, 100 ], [ 33, 330 ], [ 90, 900 ], [ 99, 990 ])
{
	my ($share, $expected) = @$case;
	foreach my $clients (1, 5)
	{
		fill(2, 2, $share);
		run('consume', $clients, 1000 / $clients, 1);
		my $old = old();
		is(all(), '1000', "rewind_share $share: a thousand were had by $clients");
		ok(abs($old - $expected) <= ($clients == 1 ? 1 : 15), "rewind_share $share: the rewind has its share") or diag("$old of $expected");
	}
	check_all("rewind_share $share");
}

# 100: in the order of production, the rewind before all that came later
fill(1, 2, 100);
run('consume', 4, 300, 1);
is(old(), '1000', 'rewind_share 100: what the rewind brings back is older, and comes first');
is(all(), '1200', '... then the rest');
check_all('rewind_share 100');

# one source has nothing
fill(2, 0, 50);
$node->sql(q{INSERT INTO had SELECT m.msg_id, m.rewind_count FROM generate_series(1, 500) i, LATERAL cmq_consume('s', i * 0 + 1) m});
is(old(), '500', 'without other messages the rewind has all');
$node->sql(q{SELECT cmq_send('s', 'one')});
$node->sql(q{INSERT INTO had SELECT m.msg_id, m.rewind_count FROM generate_series(1, 10) i, LATERAL cmq_consume('s', i * 0 + 1) m});
is(all() - old(), 1, '... one that comes is soon had');
check_all('no others');
fill(1, 1, 50);
$node->sql(q{INSERT INTO had SELECT m.msg_id, m.rewind_count FROM generate_series(1, 2) i, LATERAL cmq_consume('s', 1000 + 0 * i) m});
is(all() . ' ' . old(), '2000 1000', 'all of both');
$node->sql(q{SELECT FROM cmq_send_batch('s', '{a,b,c}')});
$node->sql(q{INSERT INTO had SELECT m.msg_id, m.rewind_count FROM generate_series(1, 3) i, LATERAL cmq_consume('s', i * 0 + 1) m});
is(all(), '2003', 'when the rewind has nothing left others have all');
# a filter that wants nothing of one source
fill(2, 1, 50);
$node->sql(q{SELECT FROM cmq_send_batch('s', array_fill('other'::text, '{100}'), headers => array_fill('{"k": 2}'::jsonb, '{100}'))});
is($node->sql(q{SELECT count(*) FROM generate_series(1, 50) i, LATERAL cmq_consume('s', i * 0 + 1, filter => '{"k": 2}') m}), '50', 'who wants none of the rewind is not kept waiting by its turns');

$node->is_sound;
$node->stop;
done_testing();
