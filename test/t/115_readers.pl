# A session that only looks at a queue, or prepares a query on it that the role may not
# run, holds up no traffic, and changes of the queue not for long.  A change that waits
# for a slow consumer does not hold up the others.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('main', 'max_locks_per_transaction = 64');

$node->sql(q{
	CREATE ROLE nobody; CREATE ROLE owner;
	GRANT USAGE ON SCHEMA cmq TO nobody; GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO owner});

foreach my $view ('history', 'live', 'all', 'preview')
{
	foreach my $change (q{cmq_alter_queue('vault', rewind_seconds => 0)}, q{cmq_drop_queue('vault')})
	{
		next if $view eq 'live' && $change =~ /alter/;
		next if $view eq 'preview' && $change =~ /drop/;
		my $what = $view eq 'preview' ? "$change behind a preview" : "$change behind a prepared query of the $view";
		$node->sql(q{SET ROLE owner; SELECT FROM cmq_create_queue('vault', rewind_seconds => 3600); SELECT FROM cmq_send('vault', 'old');
			SELECT FROM cmq_receive('vault') r, cmq_delete('vault', r.receipt_handle)});
		my $nobody = $node->session(on_error_stop => 0);
		# a preview locks partitions alone
		$nobody->query($view eq 'preview' ? 'SET ROLE owner' : 'SET ROLE nobody');
		$nobody->query('BEGIN');
		$nobody->query($view eq 'preview' ? q{SELECT messages FROM cmq_rewind_preview('vault', '-infinity')} : "PREPARE s AS SELECT * FROM cmq.q_vault_$view");

		if ($change =~ /alter/)
		{
			# what it forgets nobody needs to have let go
			is($node->sql("SET lock_timeout = '5s'; SET ROLE owner; SELECT FROM $change; SELECT rewind_seconds FROM cmq.queues WHERE queue = 'vault'"), '0', "$what is done at once");
			$nobody->query('ROLLBACK');
			$nobody->quit;
			$node->sql(q{SELECT cmq_drop_queue('vault')});
			next;
		}

		# it gives up
		my $complaint = $node->complaint("\\set VERBOSITY verbose\nSET lock_timeout = '500ms'; SET ROLE owner; SELECT $change");
		like($complaint, qr/55P03: .*while it is being read.*A transaction that has not ended has a lock on cmq\w*\.[qr]_vault/s, "$what gives up");
		my ($hint) = $complaint =~ /HINT:  Find it with (.*?), and try/;
		like($node->sql("RESET ROLE; $hint"), qr/AccessShareLock/, '... and its hint finds who it is');

		# or waits, and traffic goes on
		my $owner = $node->session(on_error_stop => 0);
		$owner->query('SET ROLE owner');
		$owner->query_until(qr/begun/, "\\echo begun\nSELECT $change;\n");
		$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'SELECT cmq_(alter|drop)_queue' AND wait_event_type = 'Extension'}, "$what waits");
		my $n = 0;
		foreach (1 .. 20)
		{
			$n++ if $node->sql(q{SET statement_timeout = '20s'; SET ROLE owner; SELECT count(*) FROM cmq_send('vault', 'x')}) eq '1';
			$node->sql(q{SET statement_timeout = '20s'; SET ROLE owner; SELECT count(*) FROM cmq_receive('vault', 10)});
		}
		is($n, 20, '... and 20 messages are sent and received meanwhile');
		$nobody->query('ROLLBACK');
		$nobody->quit;
		$owner->query('');
		$owner->quit;
		is($node->sql(q{SELECT count(*) FROM cmq.queues WHERE queue = 'vault'}), '0', '... and it is done');
	}
}

note 'changes behind a consumer that keeps its transaction open';

foreach my $change (q{cmq_alter_queue('slow', msg_retention_seconds => 86400)}, q{cmq_alter_queue('slow', rewind_seconds => 0)}, q{cmq_drop_queue('slow')})
{
	$node->sql(q{SET ROLE owner; SELECT FROM cmq_create_queue('slow', rewind_seconds => 3600); SELECT FROM cmq_send_batch('slow', '{a,b}')});
	my $consumer = $node->session;
	$consumer->query_safe('SET ROLE owner');
	$consumer->query_safe('BEGIN');
	is($consumer->query_safe(q{SELECT body FROM cmq_receive('slow')}), 'a', "$change: a consumer is at work");
	like($node->complaint("SET lock_timeout = '500ms'; SET ROLE owner; SELECT $change"), qr/while a transaction uses it/, '... it gives up');
	my $owner = $node->session(on_error_stop => 0);
	$owner->query('SET ROLE owner');
	$owner->query_until(qr/begun/, "\\echo begun\nSELECT $change;\n");
	$node->poll(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'SELECT cmq_(alter|drop)_queue' AND state = 'active' AND wait_event IS NOT NULL}, '... or waits');
	my $n = 0;
	foreach (1 .. 20)
	{
		$n++ if $node->sql(q{SET statement_timeout = '20s'; SET ROLE owner; SELECT count(*) FROM cmq_send('slow', 'x')}) eq '1';
		$node->sql(q{SET statement_timeout = '20s'; SET ROLE owner; SELECT count(*) FROM cmq_receive('slow')});
	}
	is($n, 20, '... and 20 messages are sent and received meanwhile');
	$consumer->query_safe('ROLLBACK');
	$consumer->quit;
	$owner->query('');
	$owner->quit;
	is($node->sql($change =~ /retention/ ? q{SELECT msg_retention_seconds FROM cmq.queues WHERE queue = 'slow'} : $change =~ /rewind/ ? q{SELECT rewind_seconds FROM cmq.queues WHERE queue = 'slow'} : q{SELECT count(*) FROM cmq.queues WHERE queue = 'slow'}),
		$change =~ /retention/ ? '86400' : '0', '... and it is done');
	is($node->receive('slow', 10), 'a x', '... and what the consumer had is there') if $change =~ /alter/;
	$node->sql(q{SELECT cmq_drop_queue('slow')}) if $change =~ /alter/;
}

note 'monitoring of many queues';

# More partitions than the lock table has room for.
$node->sql(join ';', map { "SELECT FROM cmq_create_queue('m$_', rewind_seconds => 60, msg_retention_seconds => 60)" } 1 .. 100);
is($node->sql(q{BEGIN; SELECT count(*) FROM cmq.metrics; SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text ~ '[qmr]_m\d'}), "100\n0", 'metrics keep no lock of a queue');
is($node->sql(q{BEGIN; SELECT count(*) FROM cmq.status; SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text ~ '[qmr]_m\d'}), "100\n0", 'nor does cmq.status');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000|out of shared memory/, 'the server has nothing to complain about');
$node->stop;
done_testing();
