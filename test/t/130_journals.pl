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
is($standby->sql(qq{SELECT string_agg(body, ' ') FROM cmq_messages('a', '$_')}), $_ eq 'history' ? 'm1' : 'm2 m3 prepared m4', "... and cmq_messages(), $_") foreach qw(pending history);

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

note 'a partition that is missing';

my $drop_leaf = q{DO $$ DECLARE l regclass; BEGIN FOR l IN SELECT messages FROM cmq.partition WHERE queue = '>of_app' LOOP EXECUTE 'DROP TABLE ' || l; END LOOP; END $$};
$standby->sql(qq{
	CREATE ROLE app;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO app;
	SELECT cmq_create_queue('app_a'), cmq_create_queue('app_b');
	SET ROLE app;
	SELECT cmq_create_topic('of_app');
	RESET ROLE;
	SELECT cmq_subscribe('of_app', q, q) FROM unnest('{app_a,app_b}'::text[]) q;
	$drop_leaf});
is($standby->sql(q{SELECT count(*) FROM cmq_publish('of_app', 'on demand'); SELECT body FROM cmq_data.j_of_app}), "2\non demand", 'a publish has it made');
$standby->sql("REVOKE CREATE ON SCHEMA cmq_data FROM app; $drop_leaf");
like($standby->complaint(q{SELECT cmq_publish('of_app', 'x')}), qr/no partition for the present time in topic "of_app".*owner of the topic needs CREATE/s, '... or says why it cannot be made');
is($standby->sql(q{SELECT count(*) FROM cmq_consume('app_a')}), '0', '... and what was in it is gone');
$standby->sql(q{SELECT cmq_drop_queue('app_a'), cmq_drop_queue('app_b'); SELECT cmq_drop_topic('of_app')});

note 'a publisher that stands still while a partition ends';

# partitions that end soon, and code of an owner's that holds a publish up before the pending
# rows of another queue are written
$standby->sql(q{
	SELECT cmq_create_queue('early'), cmq_create_queue('late'), cmq_create_topic('slow');
	SELECT cmq_subscribe('slow', q, q) FROM unnest('{early,late}'::text[]) q;
	CREATE FUNCTION hold(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(1); RETURN n; END $$;
	CREATE INDEX ON cmq_data.q_late_pending (public.hold(receive_count));
	DO $$
	DECLARE
		l record;
		a timestamptz := date_trunc('second', clock_timestamp()) - interval '1 s';
		b timestamptz := a + interval '5 s';
		c timestamptz := a + interval '1 day';
		t text;
	BEGIN
		FOR l IN SELECT * FROM cmq.partition WHERE queue IN ('early', 'late', '>slow') LOOP
			EXECUTE format('DROP TABLE %s', l.messages);
			IF l.rewind <> l.messages THEN EXECUTE format('DROP TABLE %s', l.rewind); END IF;
		END LOOP;
		DELETE FROM cmq.partition WHERE queue IN ('early', 'late', '>slow');
		FOREACH t IN ARRAY '{q_early,q_early_rewind,q_late,q_late_rewind,j_slow}'::text[] LOOP
			EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)', t || '_1', t, a, b);
			EXECUTE format('CREATE TABLE cmq_data.%I PARTITION OF cmq_data.%I FOR VALUES FROM (%L) TO (%L)', t || '_2', t, b, c);
		END LOOP;
		INSERT INTO cmq.partition (queue, lower, upper, messages, rewind) VALUES
			('early', a, b, 'cmq_data.q_early_1', 'cmq_data.q_early_rewind_1'), ('early', b, c, 'cmq_data.q_early_2', 'cmq_data.q_early_rewind_2'),
			('late', a, b, 'cmq_data.q_late_1', 'cmq_data.q_late_rewind_1'), ('late', b, c, 'cmq_data.q_late_2', 'cmq_data.q_late_rewind_2'),
			('>slow', a, b, 'cmq_data.j_slow_1', 'cmq_data.j_slow_1'), ('>slow', b, c, 'cmq_data.j_slow_2', 'cmq_data.j_slow_2');
	END $$});
my $holder = $standby->session;
$holder->query_safe('BEGIN; SELECT pg_advisory_xact_lock(1)');
my $publisher = $standby->start_psql(q{SELECT count(*) FROM cmq_publish('slow', 'slow')});
$standby->wait_until(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'});
$standby->wait_until(q{SELECT max(upper) < cmq._clock('early') FROM (SELECT upper FROM cmq.partition WHERE queue = 'early' ORDER BY lower LIMIT 1) p});
$standby->sql('SELECT cmq_maintain()') for 1 .. 2;
$holder->query_safe('COMMIT');
$publisher->succeeds('it goes on');
$standby->sql('SELECT cmq_maintain()') for 1 .. 2;
is($standby->sql(q{SELECT body FROM cmq_consume('late')}), 'slow', 'what it has published is there');
$standby->sql('SELECT cmq_maintain()') for 1 .. 2;
is($standby->sql(q{SELECT string_agg(queue, ' ' ORDER BY queue) FROM cmq.partition WHERE upper < now() AND queue IN ('early', 'late', '>slow')}), '>slow early', 'it stays as long as one queue needs it');
is($standby->sql(q{SELECT body FROM cmq_consume('early')}), 'slow', '... which has it');
$standby->sql('SELECT cmq_maintain()') for 1 .. 2;
is($standby->sql(q{SELECT count(*) FROM cmq.partition WHERE upper < now() AND queue IN ('early', 'late', '>slow')}), '0', 'then all partitions of that time are dropped');
$holder->quit;

note 'the first use of a queue after a restart, whatever the owner of its topic does';

# a time to come in the journal
$standby->sql(q{
	SELECT cmq_create_queue('first'), cmq_create_queue('second'), cmq_create_topic('others');
	SELECT cmq_subscribe('others', q, q) FROM unnest('{first,second}'::text[]) q;
	SELECT count(*) FROM cmq_publish('others', 'published');
	INSERT INTO cmq_data.j_others (enqueued_at, body, queues) SELECT max(upper) - interval '1 s', 'to come', '{first,second}' FROM cmq.partition WHERE queue = '>others';
	-- as if the clock had been ahead when it was published
	INSERT INTO cmq_data.q_second_pending (visible_at, enqueued_at, receive_count, rewind_count, topic) SELECT enqueued_at, enqueued_at, 0, 0, 'others' FROM cmq_data.j_others WHERE body = 'to come'});
$standby->restart;
is($standby->sql(q{SELECT cmq._clock('first') < clock_timestamp() + interval '1 minute'}), 't', 'times to come in a journal move the clock of no queue');
is($standby->sql(q{SELECT cmq._clock('second') >= max(enqueued_at) FROM cmq_data.j_others}), 't', '... that has no such message');
is($standby->sql(q{SELECT count(*) FROM cmq_publish('others', 'more'); SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('first', 10)}), "2\npublished more", '... and publishing goes on');
# a lock that is there when maintenance first looks
$standby->sql(q{BEGIN; DO $$ BEGIN EXECUTE (SELECT format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', string_agg(messages::text, ', ')) FROM cmq.partition WHERE queue = '>others'); END $$; PREPARE TRANSACTION 'lock'});
$standby->restart;
is($standby->sql(q{SET lock_timeout = '30s'; SELECT cmq_send('first', 'sent') > 0; SELECT body FROM cmq_consume('first')}), "t\nsent", 'nobody waits for a lock on a partition of a journal');
$standby->sql(q{ROLLBACK PREPARED 'lock'});
$standby->sql(q{ALTER TABLE cmq_data.j_others DROP COLUMN queues});
$standby->restart;
is($standby->sql(q{SELECT cmq_send('first', 'sent again') > 0; SELECT body FROM cmq_consume('first')}), "t\nsent again", '... nor fails with a journal that was changed');
is($standby->complaint(q{SELECT cmq_drop_queue('first'), cmq_drop_queue('second')}), '', '... nor does a drop');
$standby->sql(q{SELECT cmq_drop_topic('others')});

note 'the retention of one queue';

$standby->sql(q{SELECT cmq_alter_queue('a', msg_retention_seconds => 1296000, rewind_seconds => 1296000), cmq_alter_queue('b', msg_retention_seconds => 60)});
is($standby->sql(q{SELECT count(*) FROM cmq_publish('t', 'altered'); SELECT cmq_maintain();
	SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('a', 10) WHERE body = 'altered'}), "3\n\naltered", 'publishing goes on');
is($standby->sql(q{SELECT string_agg(body, ' ') FROM cmq.q_a_history WHERE body = 'altered'}), 'altered', '... with the history of the longest');
is($standby->sql(q{SELECT cmq_drop_queue('a'), cmq_drop_queue('b'); SELECT cmq_maintain(); SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_receive('o', 10) WHERE body = 'altered'}),
	"|\n\naltered", 'what the last queue needs stays');

note 'a journal that the owner of the topic has changed, after a restart';

$standby->sql(q{SELECT cmq_create_queue('c'), cmq_create_queue('d'), cmq_create_topic('w');
	SELECT cmq_subscribe('w', q, q) FROM unnest('{c,d}'::text[]) q;
	SELECT count(*) FROM cmq_publish('w', 'published');
	ALTER TABLE cmq_data.j_w ADD more int});
$standby->restart;
is($standby->sql(q{SELECT cmq_send('c', 'sent') IS NOT NULL; SELECT string_agg(body, ' ') FROM cmq_consume('c', 10)}), "t\nsent", 'the queues of the topic can be used');
$standby->restart;
is($standby->sql(q{SELECT cmq_drop_queue('c'); SELECT cmq_unsubscribe('w', 'd'), cmq_drop_topic('w'); SELECT cmq_drop_queue('d')}), "\n|\n", '... and dropped, and so can the topic');

note 'a journal that the owner of the topic has locked';

$standby->sql(q{SELECT cmq_create_queue('app_c');
	SELECT cmq_create_topic('locked')});
$holder = $standby->session;
$holder->query_safe('BEGIN; LOCK TABLE cmq_data.j_locked IN ACCESS EXCLUSIVE MODE');
is($standby->sql(q{SET lock_timeout = '10s'; SELECT cmq_subscribe('locked', q, q) FROM unnest('{app_c,o}'::text[]) q; SELECT string_agg(queue, ' ') FROM cmq_publish('locked', 'x')}),
	"\n\napp_c o", 'a subscription, which has topics locked, does not wait for it, nor does a publish');
$holder->quit;
$standby->sql(q{SELECT cmq_unsubscribe('locked', q) FROM unnest('{app_c,o}'::text[]) q; SELECT cmq_create_topic('dropped'); SELECT cmq_subscribe('dropped', q, q) FROM unnest('{app_c,o}'::text[]) q;
	SELECT cmq_unsubscribe('dropped', q) FROM unnest('{app_c,o}'::text[]) q});
$standby->sql(q{DROP VIEW cmq.t_dropped});
my $leaf_key = $standby->sql(q{SELECT min(indexrelid::regclass::text) FROM pg_index JOIN cmq.partition ON indrelid = messages WHERE queue = '>dropped'});
$holder = $standby->session;
$holder->query_safe("BEGIN; ALTER INDEX $leaf_key RENAME TO of_mine");
# statistics wait, which the worker makes when it has no topics locked any more
unlike($standby->complaint(q{SET lock_timeout = '5s'; SELECT cmq_maintain()}), qr/dropping/, 'nor does maintenance that drops what is left');
$holder->quit;
$standby->sql('SELECT cmq_maintain()') for 1 .. 2;
is($standby->sql(q{SELECT count(*) FROM cmq.topic_journal WHERE name = '>dropped'}), '0', '... later');

$standby->stop;
$_->is_sound foreach $node, $standby, $restored;
done_testing();
