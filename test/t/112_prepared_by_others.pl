# Prepared transactions that others end, or that others have made: a subscription with
# two_phase, transactions of other applications that outlive a restart, a crash or a
# promotion, and a queue that is to be dropped while one has used it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = <<'CONF';
shared_preload_libraries = 'cmq'
max_prepared_transactions = 20
cmq.maintenance_interval = 1h
autovacuum = off
fsync = off
CONF

my $node = PostgreSQL::Test::Cluster->new('here');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', $conf);
$node->start;

sub sql
{
	my ($sql, $on) = @_;
	return ($on // $node)->safe_psql('postgres', $sql);
}

# How many pages does it look at?  After a first call that reads catalogs.
sub pages
{
	my ($sql, $on) = @_;
	my $plan = sql("$sql; EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) $sql", $on);
	my ($hit) = $plan =~ /"Shared Hit Blocks": (\d+)/ or die $plan;
	my ($read) = $plan =~ /"Shared Read Blocks": (\d+)/ or die $plan;
	return $hit + $read;
}

# Numbers as told, and as they are.
sub agree
{
	my ($queue, $when, $on) = @_;
	return is(
		sql("SELECT m.pending_msg_num || ' ' || (a.active_msg_num + a.inactive_msg_num + a.delay_msg_num) FROM cmq.metrics m, cmq_queue_attributes(m.queue) a WHERE m.queue = '$queue'", $on),
		sql("SELECT count(*) || ' ' || count(*) FROM cmq_data.q_${queue}_pending", $on), "the counts $when");
}

# A receive that waits for half a minute, and tells whether it had to.
sub wait_for_message
{
	my ($queue, $on) = @_;
	my $session = ($on // $node)->background_psql('postgres');

	$session->{stdin} .= "SELECT body || CASE WHEN clock_timestamp() < now() + interval '25 s' THEN ' at once' ELSE ' late' END FROM cmq_receive('$queue', polling_wait_seconds => 30);\n\\echo :ROW_COUNT done\n";
	$session->{run}->pump_nb;
	($on // $node)->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%cmq_receive%'}) or die;
	return $session;
}

sub waited
{
	my ($session) = @_;

	$session->{run}->pump until $session->{stdout} =~ /(\d+) done/;
	my ($found) = $session->{stdout} =~ /^(\S+ (?:at once|late))$/m;
	$session->quit;
	return $found // 'nothing';
}

my $few = 50;
my $metrics_pages = 600;
my $receive = q{SELECT * FROM cmq_receive('q', 1)};
my $metrics = q{SELECT * FROM cmq.metrics WHERE queue = 'q'};
my $consume = q{SELECT count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 1000)))};

sql(q{
	CREATE EXTENSION cmq;
	CREATE TABLE business (n int);
	SELECT cmq_create_queue('q', visibility_timeout => 43200), cmq_create_queue('touched', visibility_timeout => 43200);
	SELECT FROM cmq_send('touched', 'before');
	SELECT count(*) FROM (SELECT cmq_send_batch('q', array_fill('m'::text, '{10000}')) FROM generate_series(1, 10)) s;
});

note 'the transaction of another application outlives the server';

# An old snapshot keeps what is consumed from being vacuumed away.
sub old_snapshot
{
	my ($on) = @_;
	my $old = ($on // $node)->background_psql('postgres');

	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	return $old;
}

sub floors_go_up
{
	my ($when, $on) = @_;
	my $old = old_snapshot($on);

	sql($consume, $on) foreach 1 .. 10;
	cmp_ok(pages($receive, $on), '<', $few, "$when: a receive does not pass by what has been consumed");
	$old->quit;
	sql($metrics, $on);
	cmp_ok(pages($metrics, $on), '<', $metrics_pages, '... and counts are known');
	agree('q', 'are right', $on);
}

sql(q{BEGIN; INSERT INTO business VALUES (1); PREPARE TRANSACTION 'other'});
sql(q{BEGIN; SELECT FROM cmq_send('touched', 'prepared'); SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched'))); PREPARE TRANSACTION 'ours'});
$node->restart;
floors_go_up('after a restart');
$node->stop('immediate');
$node->start;
floors_go_up('after a crash');

note 'one that has used a queue';

# it has deleted the only message that others see
is(sql(q{SELECT count(*) FROM cmq_receive('touched')}), '0', 'what a prepared transaction has consumed is not received');
agree('touched', 'have no part of it');
# a receive that meets nothing alive would raise the floor above what was sent
is(sql(q{SELECT cmq_send('touched', 'after') > 0}), 't', 'others go on');
is(sql(q{SELECT body FROM cmq_receive('touched')}), 'after', '... and receive');
my $waiter = wait_for_message('touched');
sql(q{COMMIT PREPARED 'ours'});
is(waited($waiter), 'prepared at once', 'at its end who waits has the message at once');
agree('touched', 'are right');

foreach my $how ('restart', 'crash')
{
	sql(q{SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched', 100)));
		SELECT FROM cmq_send('touched', 'taken')});
	sql(q{BEGIN; SELECT FROM cmq_send('touched', 'never'); SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched'))); PREPARE TRANSACTION 'ours'});
	$node->stop($how eq 'crash' ? 'immediate' : 'fast');
	$node->start;
	$waiter = wait_for_message('touched');
	sql(q{ROLLBACK PREPARED 'ours'});
	is(waited($waiter), 'taken at once', "ROLLBACK PREPARED after a $how gives back what was taken, at once");
	agree('touched', 'are right');
}

note 'promotion';

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
sql(q{BEGIN; INSERT INTO business VALUES (2); PREPARE TRANSACTION 'other2'});
sql(q{BEGIN; SELECT FROM cmq_send('touched', 'promoted'); PREPARE TRANSACTION 'ours'});
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die;
is(sql(q{SELECT count(*) FROM pg_prepared_xacts}, $standby), '3', 'prepared transactions are there after a promotion');
floors_go_up('after a promotion', $standby);
$waiter = wait_for_message('touched', $standby);
sql(q{COMMIT PREPARED 'ours'}, $standby);
is(waited($waiter), 'promoted at once', 'the end of one that has used a queue is told to who waits');
agree('touched', 'are right', $standby);
$standby->stop;
$node->start;
sql(q{COMMIT PREPARED 'ours'; });
sql(q{COMMIT PREPARED 'other2'});
sql(q{COMMIT PREPARED 'other'});

note 'a queue that is to be dropped';

foreach my $restarted (0, 1)
{
	sql(q{SELECT FROM cmq_create_queue('going')});
	sql(q{BEGIN; SELECT FROM cmq_send('going', 'm'); PREPARE TRANSACTION 'ours'});
	$node->restart if $restarted;
	sql(q{SELECT count(*) FROM cmq_receive('going')});
	my ($rc, $stdout, $stderr) = $node->psql('postgres', q{\set VERBOSITY sqlstate
		SET lock_timeout = '200ms'; SELECT cmq_drop_queue('going')});
	like($stderr, qr/55P03/, 'a queue that a prepared transaction has used is not dropped' . ($restarted ? ', after a restart neither' : ''));
	sql(($restarted ? 'ROLLBACK' : 'COMMIT') . q{ PREPARED 'ours'});
	sql(q{SELECT cmq_drop_queue('going')});
	floors_go_up('when it is gone');
}

note 'a subscription with two_phase';

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->append_conf('postgresql.conf', "max_prepared_transactions = 20\nfsync = off\n");
$publisher->start;
sql(q{CREATE TABLE biz (i int PRIMARY KEY); CREATE PUBLICATION biz FOR TABLE biz}, $publisher);
sql(q{
	CREATE TABLE biz (i int PRIMARY KEY);
	SELECT FROM cmq_create_queue('ap', visibility_timeout => 43200);
	CREATE FUNCTION snd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF new.i < 0 THEN
			PERFORM public.cmq_delete('ap', receipt_handle) FROM public.cmq_receive('ap', -new.i);
		ELSE
			PERFORM public.cmq_send('ap', new.i::text);
		END IF;
		RETURN new; END $$;
	CREATE TRIGGER t AFTER INSERT ON biz FOR EACH ROW EXECUTE FUNCTION snd();
	ALTER TABLE biz ENABLE ALWAYS TRIGGER t});
sql("CREATE SUBSCRIPTION biz CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION biz WITH (two_phase = on)");
$node->wait_for_subscription_sync($publisher, 'biz');
$node->poll_query_until('postgres', q{SELECT subtwophasestate = 'e' FROM pg_subscription}) or die;
sql(q{SELECT * FROM cmq.metrics});

sub is_prepared
{
	my ($n) = @_;
	$node->poll_query_until('postgres', "SELECT count(*) = $n FROM pg_prepared_xacts") or die;
}

my $counters = q{SELECT sent || ' ' || received || ' ' || deleted FROM cmq.metrics WHERE queue = 'ap'};
sql(q{BEGIN; INSERT INTO biz SELECT generate_series(100, 149); PREPARE TRANSACTION 'x'}, $publisher);
is_prepared(1);
is(sql($counters), '0 0 0', 'nothing counts while it is prepared');
$waiter = wait_for_message('ap');
sql(q{COMMIT PREPARED 'x'}, $publisher);
is(waited($waiter), '100 at once', 'who waits has the message at once when an apply worker commits it');
is_prepared(0);
agree('ap', 'are right');
is(sql($counters), '50 1 0', 'the counters, too');

sql(q{BEGIN; INSERT INTO biz VALUES (-49); PREPARE TRANSACTION 'x'}, $publisher);
is_prepared(1);
$waiter = wait_for_message('ap');
sql(q{ROLLBACK PREPARED 'x'}, $publisher);
is(waited($waiter), '101 at once', 'who waits has what comes back when an apply worker rolls it back');
is_prepared(0);
agree('ap', 'are right');

# while the subscriber is down
sql(q{BEGIN; INSERT INTO biz VALUES (200); PREPARE TRANSACTION 'x'}, $publisher);
is_prepared(1);
$node->restart;
is(sql(q{SELECT count(*) FROM cmq_receive('ap', 1000)}), '48', 'after a restart nobody receives what is prepared');
$waiter = wait_for_message('ap');
sql(q{COMMIT PREPARED 'x'}, $publisher);
is(waited($waiter), '200 at once', '... but at its end, at once');
is_prepared(0);
agree('ap', 'are right');
sql('DROP SUBSCRIPTION biz');

$publisher->stop;
$node->stop;
done_testing();
