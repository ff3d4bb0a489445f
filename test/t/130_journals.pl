# What is published to several queues, after a crash, on a standby, after a promotion and a
# recovery to a point in time; beside drops of topics, subscriptions and queues; and after the
# retention of one of the queues was changed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->configured('primary', <<'CONF', allows_streaming => 1, has_archiving => 1);
autovacuum = off
max_prepared_transactions = 5
CONF
$node->start;
$node->sql(q{
	CREATE EXTENSION cmq;
	SELECT cmq_create_queue('a', rewind_seconds => 3600, visibility_timeout => 43200), cmq_create_queue('b'), cmq_create_queue('o', ordered => true);
	SELECT cmq_create_topic('t');
	SELECT cmq_subscribe('t', q, q) FROM unnest('{a,b,o}'::text[]) q});

# Bodies in a queue by state, from the view.
sub bodies
{
	my ($on, $queue) = @_;
	return $on->sql("SELECT coalesce(string_agg(concat_ws(':', state, body), ' ' ORDER BY msg_id), '') FROM cmq.q_${queue}_all");
}

note 'a crash';

$node->sql(q{SELECT count(*) FROM cmq_publish_batch('t', '{m1,m2,m3}', message_groups => '{g,g,g}'); SELECT count(*) FROM cmq_consume('a')});
$node->sql(q{BEGIN; SELECT count(*) FROM cmq_publish('t', 'prepared', message_group => 'g'); PREPARE TRANSACTION 'p'});
my $session = $node->session;
$session->query_safe(q{BEGIN; SELECT count(*) FROM cmq_publish('t', 'lost')});
$node->crash;
eval { $session->quit };
is(bodies($node, 'a'), 'deleted:m1 ready:m2 ready:m3', 'what was published is there');
is(bodies($node, 'o'), 'ready:m1 ready:m2 ready:m3', '... in each queue');
my $last = $node->sql('SELECT max(msg_id) FROM cmq.q_b_all');
$node->sql(q{SELECT count(*) FROM cmq_publish('t', 'm4', message_group => 'g')});
is($node->sql(q{SELECT string_agg(body, ' ') FROM cmq_receive('o', 10)}), 'm1 m2 m3', 'a group waits for what is prepared');
$node->sql(q{COMMIT PREPARED 'p'});
is($node->sql("SELECT count(DISTINCT msg_id) = 1 AND min(msg_id) > $last FROM (SELECT msg_id FROM cmq.q_a_live WHERE body = 'm4' UNION ALL SELECT msg_id FROM cmq.q_b_live WHERE body = 'm4') x"),
	't', 'ids go on increasing');
is(bodies($node, 'b'), 'ready:m1 ready:m2 ready:m3 ready:prepared ready:m4', 'what was prepared has its place');

note 'a standby';

my $standby = $node->standby('standby');
$node->wait_for_catchup($standby);
is(bodies($standby, 'a'), bodies($node, 'a'), 'the views of a standby show it');
is($standby->sql(q{SELECT string_agg(body, ' ') FROM cmq_history('a', '-infinity')}), 'm1', '... and so does cmq_history()');

note 'a recovery to a point in time';

$node->backup('before');
$node->sql(q{SELECT count(*) FROM cmq_publish('t', 'kept')});
my $target = $node->sql('SELECT pg_current_wal_lsn()');
$node->sql(q{SELECT count(*) FROM cmq_consume('b', 10); SELECT cmq_unsubscribe('t', 'b'); SELECT count(*) FROM cmq_publish('t', 'later'); SELECT pg_switch_wal()});
my $restored = CmqNode->new('restored');
$restored->init_from_backup($node, 'before', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', "recovery_target_lsn = '$target'\nrecovery_target_action = 'promote'\n");
$restored->start;
$restored->wait_until('SELECT NOT pg_is_in_recovery()');
is(bodies($restored, 'b'), 'ready:m1 ready:m2 ready:m3 ready:prepared ready:m4 ready:kept', 'all is as it was then');
is($restored->sql(q{SELECT string_agg(queue, ' ') FROM cmq_publish('t', 'again')}), 'a b o', '... subscriptions too');
is($restored->sql(q{SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('b', 10)}), 'm1 m2 m3 prepared m4 kept again', '... and goes on');
$restored->stop;

note 'a promotion';

$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
is($standby->sql(q{SELECT string_agg(queue, ' ') FROM cmq_publish('t', 'promoted')}), 'a o', 'the promoted standby publishes');
is(bodies($standby, 'a'), 'deleted:m1 ready:m2 ready:m3 ready:prepared ready:m4 ready:kept ready:later ready:promoted', 'all is there');
is($standby->sql(q{SELECT count(*) = count(DISTINCT enqueued_at) FROM cmq_data.j_t}), 't', 'no id came twice');
is($standby->sql(q{SELECT cmq_restore('a', '-infinity'); SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_receive('a', 10)}),
	"1\nm1 m2 m3 prepared m4 kept later promoted", 'the history comes back');

note 'while others change topics and queues';

$standby->sql(q{SELECT cmq_clear_queue('a'), cmq_clear_queue('o'); SELECT cmq_subscribe('t', 'b', 'b')});
my $drops = $standby->session;
$drops->query_safe(q{BEGIN; SELECT cmq_unsubscribe('t', q) FROM unnest('{a,b,o}'::text[]) q; SELECT cmq_drop_topic('t')});
is($standby->sql(q{SELECT string_agg(queue, ' ') FROM cmq_publish('t', 'beside a drop')}), 'a b o', 'a publish waits for no drop that has not committed');
is($standby->sql(q{SELECT topic IS NULL FROM cmq_data.q_a_pending}), 't', '... and stores a message for each queue');
$drops->query_safe('ROLLBACK');
$standby->sql(q{SELECT count(*) FROM cmq_publish('t', 'after it')});
is($standby->sql(q{SELECT body FROM cmq_data.j_t ORDER BY enqueued_at DESC LIMIT 1}), 'after it', '... and into the journal when the drop is undone');
# maintenance that has the journal alone, and a consumer
$drops->query_safe(q{BEGIN; LOCK TABLE cmq_data.j_t IN ACCESS EXCLUSIVE MODE});
is($standby->sql(q{SET lock_timeout = '30s'; SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_receive('b', 10)}),
	'beside a drop', 'nobody waits for a lock on a journal');
$drops->query_safe('COMMIT');
is($standby->sql(q{SELECT state || ' ' || body FROM cmq.q_b_live WHERE body = 'after it'}), 'in_flight after it', 'what could not be read is put off');
$drops->quit;

note 'the retention of one queue';

$standby->sql(q{SELECT cmq_alter_queue('a', msg_retention_seconds => 1296000, rewind_seconds => 1296000), cmq_alter_queue('b', msg_retention_seconds => 60)});
is($standby->sql(q{SELECT count(*) FROM cmq_publish('t', 'altered'); SELECT cmq_maintain();
	SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('a', 10) WHERE body = 'altered'}), "3\n\naltered", 'publishing goes on');
is($standby->sql(q{SELECT string_agg(body, ' ') FROM cmq.q_a_history WHERE body = 'altered'}), 'altered', '... with the history of the longest');
is($standby->sql(q{SELECT cmq_drop_queue('a'), cmq_drop_queue('b'); SELECT cmq_maintain(); SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_receive('o', 10) WHERE body = 'altered'}),
	"|\n\naltered", 'what the last queue needs stays');
$standby->stop;
$_->is_sound foreach $node, $standby, $restored;
done_testing();
