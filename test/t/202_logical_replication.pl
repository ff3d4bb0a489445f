# A queue as the target of logical replication: what comes is received at once, counts
# and marks are right.  Replication as the way to another cluster, of a newer major say:
# schema, initial copy, traffic that goes on meanwhile, switch, going on there.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my ($old, $new) = map { CmqNode->running($_, <<'CONF', allows_streaming => 'logical') } 'old', 'new';
max_worker_processes = 20
max_prepared_transactions = 20
wal_retrieve_retry_interval = 100ms
autovacuum = off
CONF
my $connection = $old->connstr . ' dbname=postgres';

sub catch_up { $old->wait_for_catchup('sub'); return; }

note 'partitions must not be replicated one by one';

$_->sql(q{SELECT cmq_create_queue('leaves', rewind_seconds => 3600)}) foreach $old, $new;
$old->sql(q{CREATE PUBLICATION leaves FOR TABLE cmq_data.q_leaves, cmq_data.q_leaves_pending, cmq_data.q_leaves_rewind; SELECT cmq_send('leaves', 'm')});
$new->sql("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION leaves");
$new->logs(qr/ERROR:  queue "leaves" cannot be replicated partition by partition/, 'a subscription of partitions is refused');
is($new->sql('SELECT count(*) FROM cmq_data.q_leaves_pending'), '0', 'nothing pending has come of it');
$new->sql(q{DROP SUBSCRIPTION sub; SELECT cmq_drop_queue('leaves')});
$old->sql(q{DROP PUBLICATION leaves; SELECT cmq_drop_queue('leaves')});

note 'what comes is received at once';

my $make = q{SELECT cmq_create_queue('lr', visibility_timeout => 43200, rewind_seconds => 3600)};
$_->sql($make) foreach $old, $new;
# older than all that the subscriber has partitions for
$old->sql(q{CREATE PUBLICATION lr FOR TABLES IN SCHEMA cmq_data WITH (publish_via_partition_root = true);
	SELECT cmq_send('lr', 'm1')});
$new->sql("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION lr WITH (enabled = false); SELECT cmq_maintain(); ALTER SUBSCRIPTION sub ENABLE");
$new->wait_for_subscription_sync($old, 'sub');
is($new->receive('lr'), 'm1', 'the initial copy');
$new->counts_agree('lr', 'after it');

my $sender = $old->session;
$sender->query_safe(q{BEGIN; SELECT cmq_send('lr', 'm2')});
is($new->receive('lr'), '-', 'nothing yet, which raises the floor');
$old->sql(q{SELECT cmq_send('lr', 'm3')});
catch_up();
is($new->receive('lr'), 'm3', 'what has come is there');
$sender->query_safe('COMMIT');
catch_up();
is($new->receive('lr'), 'm2', 'what comes later with an earlier time, too');
my $waiter = $new->wait_for_message('lr');
$old->sql(q{SELECT cmq_send('lr', 'm4')});
is($new->waited($waiter), 'm4 at once', 'who waits is woken');
$new->counts_agree('lr', 'after sends there and receives here');
is($new->sql(q{SELECT bool_and(cmq_delete('lr', receipt_handle)) FROM cmq_receive('lr')}), '', 'nothing is left');

note 'all kinds of changes';

$old->sql(q{SELECT FROM cmq_send_batch('lr', '{a,b,c,d,e}')});
$old->sql(q{DELETE FROM cmq_data.q_lr_pending WHERE enqueued_at = (SELECT enqueued_at FROM cmq_data.q_lr WHERE body = 'a')});
catch_up();
$new->counts_agree('lr', 'after a row is deleted');
$old->sql(q{UPDATE cmq_data.q_lr_pending SET visible_at = '2000-01-01' WHERE enqueued_at = (SELECT enqueued_at FROM cmq_data.q_lr WHERE body = 'c')});
catch_up();
is($new->receive('lr', 1), 'c', 'a row whose time is changed is received by it');
$new->counts_agree('lr', 'after it');
$waiter = $new->session;
is($waiter->query_safe(q{BEGIN; SELECT string_agg(body, ' ') FROM cmq_receive('lr', 10)}), 'b d e', 'somebody has the rest');
my $waiter2 = $new->wait_for_message('lr');
$waiter->query_safe('ROLLBACK');
is($new->waited($waiter2), 'b at once', '... and gives it back');
$waiter->quit;
$old->sql(q{BEGIN; SAVEPOINT s; SELECT cmq_send('lr', 'undone'); ROLLBACK TO s; SELECT cmq_send('lr', 'done'); COMMIT;
	SET session_replication_role = replica; TRUNCATE cmq_data.q_lr_pending; RESET session_replication_role; SELECT cmq_send('lr', 'last')});
catch_up();
is($new->receive('lr'), 'last', 'after TRUNCATE there is what came since');
$new->counts_agree('lr', 'after it');
$old->consume('lr', 1000);
catch_up();
$new->sql(q{SET session_replication_role = replica; TRUNCATE cmq_data.q_lr_pending});
$new->counts_agree('lr', 'after TRUNCATE here');
$new->sql(q{SET session_replication_role = replica; INSERT INTO cmq_data.q_lr_pending SELECT '2000-01-01', min(enqueued_at), NULL, 0, 0 FROM cmq_data.q_lr});
is($new->receive('lr'), 'm1', 'a row written by hand as a replica is received');
$new->counts_agree('lr', 'after it');
$new->sql(q{BEGIN; SAVEPOINT s; DELETE FROM cmq_data.q_lr_pending; ROLLBACK TO s; SELECT FROM cmq_receive('lr'); COMMIT});
$new->counts_agree('lr', 'after a subtransaction that is undone');

note 'who sends';

like($new->complaint("\\set VERBOSITY verbose\n" . q{SELECT cmq_send('lr', 'here')}), qr/55000: cannot send to queue "lr" while a subscription writes it.*HINT/s, 'nobody sends to a queue that a subscription writes');
is($old->sql(q{SELECT cmq_send('lr', 'there') > 0}), 't', 'there, it goes on');
$old->consume('lr', 1000);

note 'a deep queue';

$old->sql(q{SELECT count(*) FROM (SELECT cmq_send_batch('lr', array_fill('m'::text, '{10000}')) FROM generate_series(1, 20)) s});
catch_up();
$new->sql(q{SELECT * FROM cmq_queue_attributes('lr'), cmq.metrics});
cmp_ok($new->sql(q{SELECT pg_relation_size('cmq_data.q_lr_pending') / 8192}), '>', 1024, 'the pending table has more pages than are read');
$old->sql(q{SELECT FROM cmq_delete_batch('lr', ARRAY(SELECT receipt_handle FROM cmq_receive('lr', 1000))); SELECT cmq_send('lr', 'x')});
catch_up();
my $metrics = q{SELECT * FROM cmq.metrics WHERE queue = 'lr'};
cmp_ok($new->pages($metrics, $metrics), '<', 600, 'counts follow without reading it');
$new->counts_agree('lr', 'are right');
my $min = q{SELECT min_msg_time = (SELECT min(enqueued_at) FROM cmq_data.q_lr_pending) FROM cmq_queue_attributes('lr')};
is($new->sql($min), 't', 'the earliest message is right');
# an older one comes up again
$old->sql(q{SELECT cmq_restore_messages('lr', ARRAY(SELECT msg_id FROM cmq.q_lr_history WHERE body = 'there'))});
catch_up();
is($new->sql($min), 't', '... also when one from before comes up');
is($new->receive('lr', 1), 'there', '... and is received first');
$new->counts_agree('lr', 'are right');

note 'a limit';

my $n = $new->sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'lr'});
$new->sql(q{DROP SUBSCRIPTION sub});
$new->sql("SELECT cmq_alter_queue('lr', max_msg_heap_num => $n)");
like($new->complaint("\\set VERBOSITY verbose\n" . q{SELECT cmq_send('lr', 'more')}), qr/53400: queue "lr" is full/, 'what has come counts for the limit');
$new->sql(q{SELECT cmq_alter_queue('lr', max_msg_heap_num => 100000000)});
is($new->sql(q{SELECT cmq_send('lr', 'more') > 0}), 't', 'without a subscription one can send');
$_->sql(q{SELECT cmq_drop_queue('lr')}) foreach $old, $new;
$old->sql('DROP PUBLICATION lr');

note 'groups';

$_->sql(q{SELECT cmq_create_queue('groups', visibility_timeout => 43200, rewind_seconds => 3600, ordered => true)}) foreach $old, $new;
$old->sql(q{CREATE PUBLICATION groups FOR TABLES IN SCHEMA cmq_data WITH (publish_via_partition_root = true);
	SELECT FROM cmq_send_batch('groups', '{a1,a2,b1}', message_groups => '{a,a,b}')});
$new->sql("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION groups");
$new->wait_for_subscription_sync($old, 'sub');
my $a1 = $old->handle('groups');
catch_up();
is($new->receive('groups'), 'b1', 'a message in flight there blocks its group here');
is($new->receive('groups'), '-', '... which is known');
$waiter = $new->wait_for_message('groups');
$old->sql("SELECT cmq_delete('groups', '$a1')");
is($new->waited($waiter), 'a2 at once', '... until it is deleted there');
$new->counts_agree('groups', 'after it');
is($new->sql(q{SELECT string_agg(body || message_group, ' ') FROM cmq.q_groups_history}), 'a1a', 'the history has the groups');
$new->sql(q{DROP SUBSCRIPTION sub});
is($new->sql(q{SELECT cmq_delete('groups', d.receipt_handle) FROM cmq._deliveries_of('groups', array(SELECT msg_id FROM cmq.q_groups_live WHERE body = 'a2'), false) d;
	SELECT cmq_rewind('groups', (SELECT enqueued_at FROM cmq_data.q_groups WHERE body = 'a1')) IS NOT NULL;
	SELECT cmq_send('groups', 'a3', message_group => 'a') > 0}), "t\nt\nt", 'without a subscription all goes on');
is($new->receive('groups'), 'a1 a2 a3', '... in order');
$_->sql(q{SELECT cmq_drop_queue('groups')}) foreach $old, $new;
$old->sql('DROP PUBLICATION groups');

note 'rewind here beside replication';

$_->sql(q{SELECT cmq_create_queue('rw', visibility_timeout => 43200, rewind_seconds => 3600)}) foreach $old, $new;
$old->sql(q{CREATE PUBLICATION rw FOR TABLES IN SCHEMA cmq_data WITH (publish_via_partition_root = true);
	SELECT FROM cmq_send_batch('rw', '{a,b,c,d}');
	SELECT FROM cmq_delete_batch('rw', ARRAY(SELECT receipt_handle FROM cmq_receive('rw', 2)))});
$new->sql("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION rw");
$new->wait_for_subscription_sync($old, 'sub');
my $open = $old->session;
$open->query_safe(q{BEGIN; SELECT FROM cmq_delete_batch('rw', ARRAY(SELECT receipt_handle FROM cmq_receive('rw', 1)))});
is($new->sql(q{SELECT cmq_rewind('rw', now() - interval '50 min') IS NOT NULL}), 't', 'a rewind on the subscriber');
is($new->receive('rw', 2), 'a b', '... brings back what was deleted there');
is($new->receive('rw', 2), 'c d', '... then the rest');
$new->sql(q{UPDATE cmq_data.q_rw_pending SET visible_at = enqueued_at WHERE enqueued_at = (SELECT enqueued_at FROM cmq_data.q_rw WHERE body = 'c')});
$open->query_safe('COMMIT');
catch_up();
# deleted there before the rewind here, and replicated after it
is($new->receive('rw'), 'c', 'what is replicated since, but was deleted before, is due, too');
$new->counts_agree('rw', 'are right');
$new->sql('DROP SUBSCRIPTION sub');
$_->sql(q{SELECT cmq_drop_queue('rw')}) foreach $old, $new;
$old->sql('DROP PUBLICATION rw');
$open->quit;
$sender->quit;

note 'triggers disabled meanwhile';

# as pg_restore --data-only --disable-triggers does it
$new->sql(q{
	SELECT cmq_create_queue('dis', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('dis', '{a,b,c}');
	SELECT FROM cmq_delete_batch('dis', ARRAY(SELECT receipt_handle FROM cmq_receive('dis', 2)));
	CREATE TABLE kept AS TABLE cmq_data.q_dis_pending;
	SET session_replication_role = replica; TRUNCATE cmq_data.q_dis_pending});
is($new->receive('dis'), '-', 'nothing is there');
$new->sql(q{SELECT cmq_send('dis', 'd')});
is($new->receive('dis'), 'd', 'the floor is above what was there');
my $other = $new->session;
$other->query_safe(q{SELECT * FROM cmq.metrics});
$new->sql(q{
	ALTER TABLE cmq_data.q_dis_pending DISABLE TRIGGER ALL;
	INSERT INTO cmq_data.q_dis_pending TABLE kept;
	ALTER TABLE cmq_data.q_dis_pending ENABLE TRIGGER ALL});
$new->counts_agree('dis', 'after a restore with triggers disabled');
is($other->query_safe(q{SELECT body FROM cmq_receive('dis')}), 'c', 'what was restored is received');
$other->quit;
my $always = q{SELECT string_agg(DISTINCT tgenabled::text, ',') FROM pg_trigger WHERE tgname LIKE 'cmq\_%' AND tgname <> 'cmq_no_truncate' AND tgrelid::regclass::text LIKE '%dis%'};
is($new->sql($always), 'A,O', 'they are enabled for the origin alone');
$new->sql(q{DO $$ DECLARE r regclass; BEGIN FOR r IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'cmq_data.q_dis_rewind'::regclass LOOP
	-- as pg_restore does it: the tables that have data
	EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', r); EXECUTE format('ALTER TABLE %s ENABLE TRIGGER ALL', r); END LOOP; END $$;
	SELECT cmq_maintain('dis')});
is($new->sql($always), 'A', 'maintenance mends that');
is($new->sql(q{SELECT count(*) FROM pg_trigger t JOIN cmq.partition p ON p.rewind = t.tgrelid WHERE p.queue = 'dis' AND t.tgname = 'cmq_row_changed' AND t.tgenabled = 'A'}), $new->sql(q{SELECT count(*) FROM cmq.partition WHERE queue = 'dis'}), '... also in the partitions');
$new->counts_agree('dis', 'are right');
$new->sql(q{DROP TABLE kept; SELECT cmq_drop_queue('dis')});

note 'consumers here beside replication';

$_->sql(q{SELECT cmq_create_queue('fed', visibility_timeout => 43200, rewind_seconds => 3600)}) foreach $old, $new;
$old->sql(q{CREATE PUBLICATION fed FOR TABLES IN SCHEMA cmq_data WITH (publish_via_partition_root = true)});
$new->sql("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION fed WITH (two_phase = on)");
$new->wait_for_subscription_sync($old, 'sub');
$new->wait_until(q{SELECT subtwophasestate = 'e' FROM pg_subscription});
my $send = $old->script('send', <<'SQL');
\set how random(1, 4)
BEGIN;
SELECT count(*) FROM cmq_send_batch('fed', '{a,b,c}');
\if :how = 1
PREPARE TRANSACTION 'client_:client_id';
ROLLBACK PREPARED 'client_:client_id';
\elif :how = 2
PREPARE TRANSACTION 'client_:client_id';
COMMIT PREPARED 'client_:client_id';
\else
COMMIT;
\endif
SQL
my $take = $new->script('take', <<'SQL');
\set how random(1, 4)
BEGIN;
INSERT INTO taken SELECT msg_id, receipt_handle FROM cmq_receive('fed', 3);
\if :how = 1
ROLLBACK;
\else
SELECT count(*) FROM cmq_delete_batch('fed', ARRAY(SELECT receipt_handle FROM taken WHERE xmin::text = pg_current_xact_id()::text));
COMMIT;
\endif
SELECT sum(pending_msg_num) FROM cmq.metrics;
SQL
$new->sql('CREATE TABLE taken (msg_id bigint PRIMARY KEY, receipt_handle text)');
my $takers = $new->start_pgbench('-c', '3', '-T', '600', '-f', $take);
$old->start_pgbench('-c', '3', '-t', '150', '-f', $send)->succeeds('many send there, some with prepared transactions');
catch_up();
$new->poll(q{SELECT count(*) = 0 FROM cmq_data.q_fed_pending}, 'all is consumed here');
$takers->signal('TERM');
$takers->finish;
unlike($takers->{err}, qr/ERROR/, 'no consumer has failed');
is($new->sql(q{SELECT string_agg(msg_id::text, ',' ORDER BY msg_id) FROM taken}), $old->sql(q{SELECT string_agg(cmq.msg_id(enqueued_at)::text, ',' ORDER BY enqueued_at) FROM cmq_data.q_fed}), 'every message that was committed, each once');
$new->counts_agree('fed', 'are right');
$waiter = $new->wait_for_message('fed');
$old->sql(q{BEGIN; SELECT cmq_send('fed', 'prepared'); PREPARE TRANSACTION 'x'});
$new->wait_until('SELECT count(*) = 1 FROM pg_prepared_xacts');
$old->sql(q{COMMIT PREPARED 'x'});
is($new->waited($waiter), 'prepared at once', 'who waits is woken when a prepared send is committed there');
$new->counts_agree('fed', 'are right');
$new->sql('DROP SUBSCRIPTION sub');
$_->sql(q{SELECT cmq_drop_queue('fed')}) foreach $old, $new;
$old->sql('DROP PUBLICATION fed');
$new->sql('DROP EXTENSION cmq CASCADE');

note 'an upgrade';

# As the manual says it.
$old->sql(q{
	CREATE ROLE app;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO app;
	CREATE ROLE shop;
	SET ROLE app;
	SELECT cmq_create_queue('dead');
	SELECT cmq_create_queue('orders', visibility_timeout => 43200, rewind_seconds => 86400, dead_letter_queue => 'dead', max_receive_count => 100);
	SELECT cmq_create_queue('plain');
	SELECT cmq_create_queue('copies');
	SELECT cmq_create_queue('others', rewind_seconds => 3600);
	SELECT cmq_create_queue('accounts', visibility_timeout => 43200, rewind_seconds => 86400, ordered => true);
	SELECT cmq_create_queue('once', visibility_timeout => 43200, rewind_seconds => 86400, dedup_seconds => 3600);
	SELECT cmq_create_topic('events');
	SELECT cmq_subscribe('events', 'all', 'copies');
	SELECT cmq_subscribe('events', 'too', 'others');
	GRANT INSERT ON cmq.q_orders TO shop;
	RESET ROLE;
});
# the publisher's clock is ahead by some minutes
$old->sql(q{UPDATE cmq.queue SET clock = now() + interval '10 min' WHERE name = 'orders'});
$old->restart;
$old->sql(q{
	SELECT FROM cmq_send_batch('orders', array(SELECT 'early ' || i FROM generate_series(1, 300) i));
	SELECT FROM cmq_send_batch('plain', array(SELECT 'plain ' || i FROM generate_series(1, 30) i));
	SELECT FROM cmq_delete_batch('orders', ARRAY(SELECT receipt_handle FROM cmq_receive('orders', 100)));
	SELECT FROM cmq_receive('orders', 20);
	SELECT FROM cmq_receive('plain', 7, visibility_timeout => 1);
	SELECT cmq_send('plain', 'delayed', 3600);
	SELECT cmq_send('orders', 'dead for good');
	SELECT FROM cmq_send_batch('accounts', '{flying 1,flying 2,off 1,off 2}', message_groups => '{flying,flying,off,off}');
	SELECT cmq_send('once', 'consumed', dedup_key => 'consumed');
	SELECT cmq_delete('once', receipt_handle) FROM cmq_receive('once');
	-- what was sent, by keys and by groups
	CREATE TABLE asked (key int, msg_id bigint);
	CREATE TABLE booked (account text, msg_id bigint);
});
my ($flying) = split /\n/, $old->sql(q{SELECT receipt_handle FROM cmq_receive_messages('accounts', ARRAY(SELECT msg_id FROM cmq.q_accounts_live WHERE body IN ('flying 1', 'off 1'))) ORDER BY body});
$old->sql(q{SELECT FROM cmq_release('accounts', ARRAY(SELECT receipt_handle FROM cmq._deliveries_of('accounts', ARRAY(SELECT msg_id FROM cmq.q_accounts_live WHERE body = 'off 1'), false)), 43200)});
is($old->sql(q{SELECT max(enqueued_at) > now() + interval '5 min' FROM cmq_data.q_orders}), 't', 'the clock of the publisher is ahead');
# a partition of long ago, with a message that waits
my $old_leaf = q{
	DO $$ DECLARE t timestamptz := date_trunc('day', now()) - interval '2 days'; BEGIN
		EXECUTE format('CREATE TABLE cmq_data.m_old (LIKE cmq_data.q_plain INCLUDING ALL); ALTER TABLE cmq_data.q_plain ATTACH PARTITION cmq_data.m_old FOR VALUES FROM (%1$L) TO (%2$L);
			CREATE TABLE cmq_data.r_old (LIKE cmq_data.q_plain_rewind INCLUDING ALL); ALTER TABLE cmq_data.q_plain_rewind ATTACH PARTITION cmq_data.r_old FOR VALUES FROM (%1$L) TO (%2$L);', t, t + interval '1 hour');
		INSERT INTO cmq.partition VALUES ('plain', t, t + interval '1 hour', 'cmq_data.m_old', 'cmq_data.r_old');
		INSERT INTO cmq_data.q_plain VALUES (t + interval '1 min', NULL, 'long ago');
		INSERT INTO cmq_data.q_plain_pending VALUES (t + interval '1 min', t + interval '1 min', NULL, 0, 0);
	END $$;
	ALTER TABLE cmq_data.m_old OWNER TO app; ALTER TABLE cmq_data.r_old OWNER TO app};
$old->sql($old_leaf);

my $dump = $old->basedir . '/dump';
$old->command_ok([ 'pg_dumpall', '--roles-only', '-f', "$dump.roles" ], 'roles');
$old->command_ok([ 'pg_dump', '-s', '-f', "$dump.schema", 'postgres' ], 'schema');
$old->command_ok([ 'pg_dump', '-a', '-t', 'cmq.*', '-f', "$dump.settings", 'postgres' ], 'settings of the queues');
$new->command_fails([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.roles", 'postgres' ], 'roles that are there already are the only errors');
$new->command_ok([ 'psql', '-X', '-q', '-c', 'CREATE ROLE app', '-c', 'CREATE ROLE shop', 'postgres' ], 'roles there');
$new->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.schema", '-f', "$dump.settings", 'postgres' ], 'all of it there');
# what goes wrong when maintenance is at it before the subscription
$new->sql('SELECT cmq_maintain()');
$old->sql(q{CREATE PUBLICATION upgrade FOR TABLES IN SCHEMA cmq_data WITH (publish_via_partition_root = true)});

# traffic that goes on
my $script = $old->script('traffic', <<'SQL');
SELECT cmq_send('orders', 'traffic');
SELECT count(*) FROM cmq_delete_batch('orders', ARRAY(SELECT receipt_handle FROM cmq_receive('orders', 1)));
SELECT cmq_send('plain', 'traffic');
BEGIN;
SELECT count(*) FROM cmq_receive('plain', 1, visibility_timeout => 1);
ROLLBACK;
SELECT count(*) FROM cmq_publish('events', 'news');
SELECT count(*) FROM cmq_consume('others', 1, filter => '{}');
\set account random(1, 5)
\set key random(1, 60)
\set n random(1, 3)
INSERT INTO booked SELECT 'account ' || :account, id FROM cmq_send_batch('accounts', array_fill('booking'::text, ARRAY[2]), message_groups => array_fill('account ' || :account, ARRAY[2])) id;
SELECT count(*) FROM cmq_delete_batch('accounts', ARRAY(SELECT receipt_handle FROM cmq_receive('accounts', :n)));
INSERT INTO asked SELECT :key, cmq_send('once', :key::text, dedup_key => :key::text);
SELECT count(*) FROM cmq_delete_batch('once', ARRAY(SELECT receipt_handle FROM cmq_receive('once', 1))) WHERE :n = 1;
SQL
my $traffic = $old->start_pgbench('-c', '3', '-R', '60', '-T', '600', '-f', $script);

$new->sql("CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION upgrade WITH (enabled = false); SELECT cmq_maintain(); ALTER SUBSCRIPTION sub ENABLE");
is($new->sql(q{SELECT count(*) FROM cmq.partition p WHERE queue = 'plain' AND now() - interval '2 days' >= lower AND now() - interval '2 days' < upper}), '1', 'maintenance makes partitions for what is to come');
$new->wait_for_subscription_sync($old, 'sub');
$new->sql('SELECT cmq_maintain()');
is($new->sql(q{SELECT count(*) FROM cmq.partition p WHERE queue = 'plain' AND now() - interval '2 days' >= lower AND now() - interval '2 days' < upper}), '1', '... and does not drop them again');
$old->wait_until(q{SELECT count(*) > 60 FROM cmq_data.q_orders WHERE body = 'traffic'});
catch_up();
$old->wait_until(q{SELECT count(*) > 120 FROM cmq_data.q_orders WHERE body = 'traffic'});

note 'the switch';

$traffic->signal('TERM');
$traffic->finish;
$old->wait_until(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench'});
my $handle = $old->handle('orders');
my $body = $old->sql("SELECT msg_id FROM cmq.q_orders_live WHERE state = 'in_flight' ORDER BY visible_at DESC LIMIT 1");
catch_up();
foreach my $table ('j_events', (map { ("q_$_", "q_${_}_pending", "q_${_}_rewind") } 'orders', 'plain', 'copies', 'others', 'dead', 'accounts', 'once'), 'q_once_dedup')
{
	my $digest = "SELECT count(*) || ' ' || md5(coalesce(string_agg(t::text, ',' ORDER BY t::text), '')) FROM cmq_data.$table t";
	is($new->sql($digest), $old->sql($digest), "$table is the same");
}
$new->counts_agree($_, "of $_") foreach 'orders', 'plain', 'copies', 'others', 'accounts', 'once';
cmp_ok($old->sql('SELECT count(*) FROM cmq_data.j_events'), '>', 100, 'what is published is in the journal');
is($new->sql(qq{SELECT count(*) = (SELECT count(*) FROM cmq_data.j_events) FROM cmq.q_${_}_all WHERE body = 'news'}), 't', "... and $_ has all of it") foreach 'copies', 'others';
# the books go by themselves
my %books = map { $_ => $old->sql("COPY $_ TO STDOUT") } 'asked', 'booked';
$new->sql("COPY $_ FROM STDIN;\n$books{$_}\n\\.\n") foreach sort keys %books;
my $now = q{SELECT max(greatest(m.enqueued_at, r.deleted_at)) FROM cmq_data.q_orders m LEFT JOIN cmq_data.q_orders_rewind r USING (enqueued_at)};
my $newest = $old->sql($now);
$new->sql('DROP SUBSCRIPTION sub');
$old->stop;

note 'going on';

is($new->sql("SELECT cmq.enqueued_at(cmq_send('orders', 'new')) > '$newest'"), 't', 'msg_ids go on increasing');
is($new->sql("SELECT cmq_delete('orders', '$handle')"), 't', 'a handle of before is good');
is($new->sql("SELECT count(*) FROM cmq.q_orders_history WHERE msg_id = $body"), '1', '... and its message is history');
is($new->sql(q{SELECT string_agg(DISTINCT queue || ' ' || owner, ', ') FROM cmq.queues}), 'accounts app, copies app, dead app, once app, orders app, others app, plain app', 'the queues have their owner');
is($new->sql(q{SET ROLE shop; SELECT cmq_send('orders', 'from the shop') > 0}), 't', 'and their rights');
is($new->sql(q{SELECT queue FROM cmq_publish('events', 'last news')}), "copies\nothers", 'and the topic its subscriptions');
is($new->sql(q{SELECT count(*) FROM cmq_data.j_events WHERE body = 'last news'}), '1', '... and its journal');
is($new->sql(q{SELECT cmq_restore('others', '-infinity') > 10 FROM cmq_consume('others')}), 't', 'what was published is restored');
is($new->sql(q{SELECT DISTINCT body FROM cmq_receive('others', 20)}), 'news', '... and received');
is($new->receive('plain', 1), 'long ago', 'the oldest message is there');
# in flight with a timeout of a second, which is over or will be
$new->wait_until(q{SELECT count(*) = 0 FROM cmq.q_plain_live WHERE state = 'in_flight' AND body LIKE 'plain%'});
my $plain = $new->sql(q{SELECT count(*) FROM cmq.q_plain_live WHERE state = 'ready'});
is($new->consume('plain', 1000), $plain, 'all that is ready is received, also what was in flight there');
cmp_ok($plain, '>=', 90, "... $plain messages");
my $history = $new->sql(q{SELECT count(*) FROM cmq.q_orders_history});
cmp_ok($history, '>=', 200, 'the history is there');
$new->sql(q{UPDATE cmq_data.q_orders_pending SET visible_at = enqueued_at WHERE receive_count > 0});
my $live = $new->sql(q{SELECT count(*) FROM cmq.q_orders_live});
is($new->sql(q{SELECT cmq_rewind('orders', (SELECT earliest_rewind_time FROM cmq_queue_attributes('orders'))) IS NOT NULL}), 't', 'and can be rewound');
while ($new->consume('orders', 1000) > 0) { }
is($new->sql(q{SELECT count(*) FROM cmq.q_orders_history}), $history + $live, 'each of them once: the history and what was live');
is($new->sql(q{SELECT count(*) FROM cmq.q_orders_history WHERE rewind_count = 1}), $history, 'all of the history was brought back');
$new->counts_agree('orders', 'at the end');

# keys: what was asked for there is a duplicate here, whether it is consumed or not
cmp_ok($new->sql('SELECT count(*) FROM asked'), '>', 60, 'keys were asked for');
is($new->sql(q{SELECT count(*) FROM (SELECT FROM asked GROUP BY key HAVING count(DISTINCT msg_id) > 1) k}), 0, '... each had one message');
is($new->sql(q{SELECT count(*) FROM asked a WHERE cmq_send('once', 'again', dedup_key => key::text) <> msg_id}), 0, '... and has it here');
is($new->sql(q{SELECT (SELECT count(*) FROM cmq_data.q_once WHERE body <> 'consumed') = (SELECT count(DISTINCT key) FROM asked)}), 't', '... and no other one');
is($new->sql(q{SELECT cmq_send('once', 'once more', dedup_key => 'consumed'); SELECT count(*) FROM cmq_data.q_once WHERE body = 'once more'}) =~ s/^\d+\n//r, 0, '... also when all was consumed before the copy');
is($new->sql(q{SELECT cmq_send('once', 'new', dedup_key => 'new') = cmq_send('once', 'newer', dedup_key => 'new')}), 't', 'there are new ones');

# groups: all that is there is had in order, behind what was in flight or put off there
is($new->sql(q{SELECT blocked_groups FROM cmq.status WHERE queue = 'accounts'}), 2, 'groups are blocked as they were');
is($new->sql(q{SELECT cmq_send('accounts', 'flying 3', message_group => 'flying') < cmq_send('accounts', 'off 3', message_group => 'off')}), 't', 'others are sent here');
$new->sql(q{INSERT INTO booked SELECT 'account ' || i, cmq_send('accounts', 'booked here', message_group => 'account ' || i) FROM generate_series(1, 5) i;
	CREATE TABLE got (n serial, account text, msg_id bigint)});
my $booking = q{INSERT INTO got (account, msg_id) SELECT message_group, msg_id FROM cmq_consume('accounts', 3) WITH ORDINALITY ORDER BY ordinality};
while ($new->sql("WITH c AS ($booking RETURNING 1) SELECT count(*) FROM c") > 0) { }
is($new->sql(q{SELECT count(*) FROM (SELECT msg_id < max(msg_id) OVER (PARTITION BY account ORDER BY n) AS late FROM got) g WHERE late}), 0, 'groups are in order');
is($new->sql(q{SELECT count(*) FROM booked b LEFT JOIN cmq.q_accounts_history h USING (msg_id) WHERE h.message_group IS DISTINCT FROM account}), 0, 'all that was booked was had, in its group');
is($new->sql(q{SELECT count(*) FROM cmq.q_accounts_history} ), $new->sql('SELECT count(*) FROM booked'), '... and nothing else');
is($new->sql("SELECT cmq_delete('accounts', '$flying'); SELECT string_agg(body, ', ' ORDER BY ordinality) FROM cmq_receive('accounts', 10) WITH ORDINALITY"), "t\nflying 2, flying 3", 'what was in flight there is deleted, and its group goes on');
is($new->sql(q{SELECT cmq_rewind('accounts', (SELECT earliest_rewind_time FROM cmq_queue_attributes('accounts'))) IS NOT NULL; TRUNCATE got}), 't', 'groups are rewound');
while ($new->sql("WITH c AS ($booking RETURNING 1) SELECT count(*) FROM c") > 0) { }
is($new->sql(q{SELECT count(*) FROM (SELECT msg_id < max(msg_id) OVER (PARTITION BY account ORDER BY n) AS late FROM got) g WHERE late}), 0, '... come in order');
is($new->sql(q{SELECT count(DISTINCT msg_id) FROM got JOIN booked USING (account, msg_id)}), $new->sql('SELECT count(*) FROM booked'), '... and all of them');

$new->sql('SELECT cmq_maintain()');
is($new->sql(q{SELECT cmq_send('plain', 'at the end') > 0}), 't', 'maintenance goes on');

$new->stop;
done_testing();
