# A queue whose maintenance does not end, or fails each time, because of its owner's code
# or of what others have made of its tables, holds up no other queue for long.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('stubborn', <<'CONF');
cmq.max_queues = 10
cmq.maintenance_interval = 1s
cmq.maintenance_timeout = 1
CONF

$node->sql('CREATE DATABASE other');
$node->sql('CREATE EXTENSION cmq', 'other');
$node->sql(q{
	SELECT FROM cmq_create_queue('a_stubborn', rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('dead');
	SELECT FROM cmq_create_queue('z_good');
	SELECT FROM cmq_alter_queue('a_stubborn', dead_letter_queue => 'dead', max_receive_count => 1)});
$node->sql(q{SELECT FROM cmq_create_queue('elsewhere')}, 'other');

# It is asked to stop, and does; or it catches that once; or each time.
my %ways = (
	heeds => [q{PERFORM pg_sleep(100)}, qr/WARNING:  moving dead letters of queue "a_stubborn" failed: its time limit is over/],
	once => [q{BEGIN PERFORM pg_sleep(100); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(100); END}, qr/ERROR:  canceling statement due to statement timeout/],
	never => [q{LOOP BEGIN PERFORM pg_sleep(100); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP}, qr/terminating background worker "cmq worker" due to administrator command/]);
foreach my $way ('heeds', 'once', 'never')
{
	my ($body, $log) = @{$ways{$way}};
	$node->sql(qq{
		CREATE OR REPLACE FUNCTION public.hang() RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN $body; END \$\$;
		CREATE OR REPLACE FUNCTION public.hang(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$
		BEGIN
			IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) LIKE 'cmq%' THEN
				PERFORM public.hang();
			END IF;
			RETURN n;
		END \$\$});
	$node->sql('CREATE INDEX ON cmq_data.q_dead_pending (public.hang(receive_count))') if $way eq 'heeds';
	$node->sql(q{SELECT cmq_send('a_stubborn', 'x')});
	$node->sql(q{SELECT FROM cmq_receive('a_stubborn', visibility_timeout => 1)});
	$node->logs($log, "$way: what takes too long is ended");
	$node->maintained('z_good', "$way: ... and the other queues of the database are maintained");
	$node->maintained('elsewhere', "$way: ... and other databases", 'other');
}
my $unmaintained = q{(SELECT unmaintained_seconds FROM cmq.metrics WHERE queue = '%s')};
$node->poll(sprintf("SELECT $unmaintained > $unmaintained + 2", 'a_stubborn', 'z_good'), 'cmq.metrics says how long it has not been maintained');
$node->sql('DROP FUNCTION public.hang(int) CASCADE');
$node->poll(q{SELECT count(*) = 3 FROM cmq.q_dead_live}, 'when it is gone the dead letters are moved');
$node->poll(sprintf("SELECT $unmaintained < 2", 'a_stubborn'), '... and all is done');

# What depends on a partition keeps it from being dropped, and nothing else from
# being done.
$node->sql(q{
	SELECT FROM cmq_create_queue('viewed', msg_retention_seconds => 60, rewind_seconds => 60);
	DO $$ DECLARE l record; BEGIN
		-- as if the partition were old
		SELECT * INTO l FROM cmq.partition WHERE queue = 'viewed' ORDER BY lower LIMIT 1;
		EXECUTE format('ALTER TABLE cmq_data.q_viewed DETACH PARTITION %s', l.messages);
		EXECUTE format('ALTER TABLE cmq_data.q_viewed_rewind DETACH PARTITION %s', l.rewind);
		EXECUTE format('ALTER TABLE cmq_data.q_viewed ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', l.messages, l.lower - interval '1 day', l.upper - interval '1 day');
		EXECUTE format('ALTER TABLE cmq_data.q_viewed_rewind ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', l.rewind, l.lower - interval '1 day', l.upper - interval '1 day');
		EXECUTE format('ALTER TABLE %s RENAME TO m_viewed_old', l.messages);
		EXECUTE format('ALTER TABLE %s RENAME TO r_viewed_old', l.rewind);
		UPDATE cmq.partition SET lower = l.lower - interval '1 day', upper = l.upper - interval '1 day', messages = 'cmq_data.m_viewed_old', rewind = 'cmq_data.r_viewed_old'
		 WHERE queue = 'viewed' AND lower = l.lower;
		CREATE VIEW public.kept AS SELECT * FROM cmq_data.m_viewed_old;
		PERFORM cmq_alter_queue('viewed', visibility_timeout => 31);
	END $$});
$node->logs(qr/WARNING:  dropping a partition of queue "viewed" failed/, 'a view on an old partition is told of');
$node->maintained('viewed', 'the other steps are done');
is($node->sql(sprintf("SELECT round($unmaintained / 86400), $unmaintained < 3600", 'viewed', 'z_good')), '1|t', 'cmq.metrics says for how long it should be gone');
$node->sql('DROP VIEW public.kept');
$node->poll(q{SELECT count(*) = 0 FROM cmq.partition WHERE queue = 'viewed' AND upper < now() - interval '1 hour'}, 'without the view it is dropped');
$node->poll(sprintf("SELECT $unmaintained < 2", 'viewed'), '... and nothing is left to do');

# The record of rewinds is kept as long as the setting says, by the worker, too.
my $age = q{UPDATE cmq.rewind_log SET called_at = called_at - interval '91 days'};
$node->set('cmq.rewind_log_retention', '-1');
$node->poll(q{SELECT current_setting('cmq.rewind_log_retention') = '-1'}, 'kept for ever');
$node->sql(qq{SELECT cmq_delete('viewed', receipt_handle) FROM cmq_receive('viewed', 10); SELECT cmq_send('viewed', 'r'); SELECT cmq_delete('viewed', receipt_handle) FROM cmq_receive('viewed', 10);
	SELECT cmq_rewind('viewed', (SELECT max(enqueued_at) FROM cmq.q_viewed_history)) IS NOT NULL; $age});
$node->maintained('viewed', 'a round of maintenance');
$node->maintained('viewed', 'and another one');
is($node->sql(q{SELECT count(*) FROM cmq.rewinds WHERE kind = 'rewind'}), '1', 'the old row is there');
$node->set('cmq.rewind_log_retention', '90d');
$node->poll(q{SELECT count(*) = 0 FROM cmq.rewinds}, 'then the worker removes it');

# Places in shared memory of queues that went with the extension are given back.
$node->sql(q{SELECT cmq_drop_queue('viewed')});
foreach (1 .. 3)
{
	$node->sql(q{DROP EXTENSION cmq CASCADE}, 'other');
	$node->sql(q{CREATE EXTENSION cmq}, 'other');
	foreach my $i (1 .. 5)
	{
		# a place may be free only after the next round
		$node->poll(qq{
			DO \$\$ BEGIN
				PERFORM cmq_create_queue('q$i');
			EXCEPTION WHEN configuration_limit_exceeded OR duplicate_object THEN
				NULL;
			END \$\$;
			SELECT count(*) = 1 FROM cmq.queues WHERE queue = 'q$i'}, "queue $i in a new extension", db => 'other');
	}
}

$node->stop;
done_testing();
