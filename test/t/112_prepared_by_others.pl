# Prepared transactions that others end, or that others have made: by a subscription with
# two_phase; by other applications, over a restart, a crash or a promotion; and on a
# queue that is to be dropped.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('here', <<'CONF', allows_streaming => 1);
max_prepared_transactions = 20
autovacuum = off
CONF

my $few = 50;
my $metrics_pages = 600;
my $receive = q{SELECT * FROM cmq_receive('q', 1)};
my $metrics = q{SELECT * FROM cmq.metrics WHERE queue = 'q'};
my $consume = q{SELECT count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 1000)))};

$node->sql(q{
	CREATE TABLE business (n int);
	SELECT cmq_create_queue('q', visibility_timeout => 43200), cmq_create_queue('touched', visibility_timeout => 43200);
	SELECT FROM cmq_send('touched', 'before');
	SELECT count(*) FROM (SELECT cmq_send_batch('q', array_fill('m'::text, '{10000}')) FROM generate_series(1, 10)) s;
});

note 'the transaction of another application outlives the server';

sub floors_go_up
{
	my ($when, $on) = @_;
	$on //= $node;
	my $old = $on->hold_snapshot;

	$on->sql($consume) foreach 1 .. 10;
	cmp_ok($on->pages($receive, $receive), '<', $few, "$when: a receive does not pass by what has been consumed");
	$old->quit;
	$on->sql($metrics);
	cmp_ok($on->pages($metrics, $metrics), '<', $metrics_pages, '... and counts are known');
	$on->counts_agree('q', 'are right');
}

$node->sql(q{BEGIN; INSERT INTO business VALUES (1); PREPARE TRANSACTION 'other'});
$node->sql(q{BEGIN; SELECT FROM cmq_send('touched', 'prepared'); SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched'))); PREPARE TRANSACTION 'ours'});
$node->restart;
floors_go_up('after a restart');
$node->crash;
floors_go_up('after a crash');

note 'one that has used a queue';

# it has deleted the only message that others see
is($node->sql(q{SELECT count(*) FROM cmq_receive('touched')}), '0', 'what a prepared transaction has consumed is not received');
$node->counts_agree('touched', 'have no part of it');
# a receive that meets nothing alive would raise the floor above what was sent
is($node->sql(q{SELECT cmq_send('touched', 'after') > 0}), 't', 'others go on');
is($node->sql(q{SELECT body FROM cmq_receive('touched')}), 'after', '... and receive');
my $waiter = $node->wait_for_message('touched');
$node->sql(q{COMMIT PREPARED 'ours'});
is($node->waited($waiter), 'prepared at once', 'at its end who waits has the message at once');
$node->counts_agree('touched', 'are right');

foreach my $how ('restart', 'crash')
{
	$node->sql(q{SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched', 100)));
		SELECT FROM cmq_send('touched', 'taken')});
	$node->sql(q{BEGIN; SELECT FROM cmq_send('touched', 'never'); SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched'))); PREPARE TRANSACTION 'ours'});
	$node->stop($how eq 'crash' ? 'immediate' : 'fast');
	$node->start;
	$waiter = $node->wait_for_message('touched');
	$node->sql(q{ROLLBACK PREPARED 'ours'});
	is($node->waited($waiter), 'taken at once', "ROLLBACK PREPARED after a $how gives back what was taken, at once");
	$node->counts_agree('touched', 'are right');
}

# a pause and a resume that were prepared before the start, and who waits
foreach my $how ('restart', 'crash')
{
	$node->sql(q{BEGIN; SELECT cmq_pause_queue('touched'); PREPARE TRANSACTION 'ours'});
	$node->stop($how eq 'crash' ? 'immediate' : 'fast');
	$node->start;
	$waiter = $node->wait_for_message('touched');
	$node->sql(q{COMMIT PREPARED 'ours'});
	$node->sql(q{SELECT cmq_send('touched', 'paused')});
	is($node->sql(q{SELECT count(*) FROM cmq_receive('touched', 1, NULL, 1)}), '0', "a pause that is committed after a $how is obeyed");
	is($node->sql(q{SELECT ready FROM cmq.status WHERE queue = 'touched'}), '1', '... by who waited, too');
	$node->sql(q{SELECT cmq_resume_queue('touched')});
	is($node->waited($waiter), 'paused at once', '... until the resume');
	$node->sql(q{SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched', 100)));
		SELECT cmq_pause_queue('touched'), cmq_send('touched', 'again')});
	$node->sql(q{BEGIN; SELECT cmq_resume_queue('touched'); PREPARE TRANSACTION 'ours'});
	$node->stop($how eq 'crash' ? 'immediate' : 'fast');
	$node->start;
	$waiter = $node->wait_for_message('touched');
	$node->sql(q{COMMIT PREPARED 'ours'});
	is($node->waited($waiter), 'again at once', "a resume that is committed after a $how wakes");
	$node->sql(q{SELECT FROM cmq_delete_batch('touched', array(SELECT receipt_handle FROM cmq_receive('touched', 100)))});
}

note 'promotion';

my $standby = $node->standby('standby');
$node->sql(q{BEGIN; INSERT INTO business VALUES (2); PREPARE TRANSACTION 'other2'});
$node->sql(q{BEGIN; SELECT FROM cmq_send('touched', 'promoted'); PREPARE TRANSACTION 'ours'});
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
$standby->wait_until('SELECT NOT pg_is_in_recovery()');
is($standby->sql(q{SELECT count(*) FROM pg_prepared_xacts}), '3', 'prepared transactions are there after a promotion');
floors_go_up('after a promotion', $standby);
$waiter = $standby->wait_for_message('touched');
$standby->sql(q{COMMIT PREPARED 'ours'});
is($node->waited($waiter), 'promoted at once', 'the end of one that has used a queue is told to who waits');
$standby->counts_agree('touched', 'are right');
$standby->stop;
$node->start;
$node->sql(q{COMMIT PREPARED 'ours'; });
$node->sql(q{COMMIT PREPARED 'other2'});
$node->sql(q{COMMIT PREPARED 'other'});

note 'a queue that is to be dropped';

foreach my $restarted (0, 1)
{
	$node->sql(q{SELECT FROM cmq_create_queue('going')});
	$node->sql(q{BEGIN; SELECT FROM cmq_send('going', 'm'); PREPARE TRANSACTION 'ours'});
	$node->restart if $restarted;
	$node->sql(q{SELECT count(*) FROM cmq_receive('going')});
	like($node->complaint(q{\set VERBOSITY sqlstate
		SET lock_timeout = '200ms'; SELECT cmq_drop_queue('going')}), qr/55P03/, 'a queue that a prepared transaction has used is not dropped' . ($restarted ? ', after a restart neither' : ''));
	$node->sql(($restarted ? 'ROLLBACK' : 'COMMIT') . q{ PREPARED 'ours'});
	$node->sql(q{SELECT cmq_drop_queue('going')});
	floors_go_up('when it is gone');
}

note 'a subscription with two_phase';

# without cmq
my $publisher = CmqNode->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->append_conf('postgresql.conf', 'max_prepared_transactions = 20');
$publisher->start;
$publisher->sql(q{CREATE TABLE biz (i int PRIMARY KEY); CREATE PUBLICATION biz FOR TABLE biz});
$node->sql(q{
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
$node->sql("CREATE SUBSCRIPTION biz CONNECTION '" . $publisher->connstr . " dbname=postgres' PUBLICATION biz WITH (two_phase = on)");
$node->wait_for_subscription_sync($publisher, 'biz');
$node->wait_until(q{SELECT subtwophasestate = 'e' FROM pg_subscription});
$node->sql(q{SELECT * FROM cmq.metrics});

sub is_prepared
{
	my ($n) = @_;
	$node->wait_until("SELECT count(*) = $n FROM pg_prepared_xacts");
}

my $counters = q{SELECT sent || ' ' || received || ' ' || deleted FROM cmq.metrics WHERE queue = 'ap'};
$publisher->sql(q{BEGIN; INSERT INTO biz SELECT generate_series(100, 149); PREPARE TRANSACTION 'x'});
is_prepared(1);
is($node->sql($counters), '0 0 0', 'nothing counts while it is prepared');
$waiter = $node->wait_for_message('ap');
$publisher->sql(q{COMMIT PREPARED 'x'});
is($node->waited($waiter), '100 at once', 'who waits has the message at once when an apply worker commits it');
is_prepared(0);
$node->counts_agree('ap', 'are right');
is($node->sql($counters), '50 1 0', 'the counters, too');

$publisher->sql(q{BEGIN; INSERT INTO biz VALUES (-49); PREPARE TRANSACTION 'x'});
is_prepared(1);
$waiter = $node->wait_for_message('ap');
$publisher->sql(q{ROLLBACK PREPARED 'x'});
is($node->waited($waiter), '101 at once', 'who waits has what comes back when an apply worker rolls it back');
is_prepared(0);
$node->counts_agree('ap', 'are right');

# while the subscriber is down
$publisher->sql(q{BEGIN; INSERT INTO biz VALUES (200); PREPARE TRANSACTION 'x'});
is_prepared(1);
$node->restart;
is($node->sql(q{SELECT count(*) FROM cmq_receive('ap', 1000)}), '48', 'after a restart nobody receives what is prepared');
$waiter = $node->wait_for_message('ap');
$publisher->sql(q{COMMIT PREPARED 'x'});
is($node->waited($waiter), '200 at once', '... but at its end, at once');
is_prepared(0);
$node->counts_agree('ap', 'are right');
$node->sql('DROP SUBSCRIPTION biz');

$publisher->stop;
$node->stop;
done_testing();
