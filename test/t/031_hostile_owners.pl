# Owners whose functions in indexes attack whoever writes their tables, and each
# other: nobody's code runs as a role that did not name its queue, nothing of
# another owner is read, the server stays up, and no message is lost.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\ncmq.maintenance_interval = '1h'\nfsync = off\n");
$node->start;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Run statements as a role in a session of their own; returns output and errors.
sub as
{
	my ($role, $sql) = @_;
	my ($out, $err) = ('', '');
	$node->psql('postgres', "SET SESSION AUTHORIZATION $role;\n$sql", stdout => \$out, stderr => \$err);
	return "$out\n$err";
}

sql(q{
	CREATE EXTENSION cmq;
	CREATE ROLE attacker; CREATE ROLE victim; CREATE ROLE operator;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker, victim;
	CREATE SCHEMA a AUTHORIZATION attacker;
	GRANT USAGE ON SCHEMA a TO PUBLIC;
	CREATE TABLE public.ran_as (role text, session text);
	GRANT INSERT ON public.ran_as TO PUBLIC});

note 'becoming superuser by what a superuser does to a queue';

as('attacker', q{
	SELECT FROM cmq_create_queue('bait', visibility_timeout => 43200, rewind_seconds => 3600);
	CREATE FUNCTION a.grab() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.ran_as VALUES (current_user, session_user);
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
			BEGIN
				EXECUTE 'ALTER ROLE attacker SUPERUSER';
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END IF;
	END $$;
	CREATE FUNCTION a.bait(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.grab(); RETURN length(t); END $$;
	CREATE FUNCTION a.bait(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.grab(); RETURN n; END $$;
	SELECT FROM cmq_create_queue('own_dead');
	SELECT FROM cmq_create_topic('own');
	SELECT FROM cmq_subscribe('own', 's', 'bait');
	GRANT INSERT ON cmq.t_own TO victim;
});
as('victim', q{
	SELECT FROM cmq_create_queue('shared_dead', rewind_seconds => 3600);
	GRANT INSERT ON cmq.q_shared_dead TO attacker;
	SELECT FROM cmq_create_queue('good', visibility_timeout => 43200, rewind_seconds => 3600, dead_letter_queue => 'shared_dead', max_receive_count => 1)});
as('attacker', q{
	SELECT FROM cmq_alter_queue('bait', dead_letter_queue => 'shared_dead', max_receive_count => 1);
	SELECT FROM cmq_send_batch('bait', '{h1,h2}');
	SELECT FROM cmq_delete_batch('bait', array(SELECT receipt_handle FROM cmq_receive('bait', 2)));
	SELECT cmq_send('shared_dead', 'forged', headers => '{"cmq_dead_letter": {"queue": "bait"}}');
	CREATE INDEX ON cmq_data.q_bait (a.bait(body));
	CREATE INDEX ON cmq_data.q_bait_pending (a.bait(receive_count));
	CREATE INDEX ON cmq_data.q_bait_rewind (a.bait(receive_count));
});
as('victim', q{SELECT cmq_send('shared_dead', 'back', headers => '{"cmq_dead_letter": {"queue": "good"}}')});
sql('TRUNCATE public.ran_as');
is(sql(q{SELECT cmq_redrive('shared_dead')}), '2', 'a superuser sends dead letters back');
is(sql(q{SELECT string_agg(DISTINCT role, ' ') FROM public.ran_as}), 'attacker', '... and code of a queue that it did not name runs as its owner');
foreach my $call (
	q{cmq_restore('bait', '-infinity', NULL)}, q{count(*) FROM cmq_restore_messages('bait', array(SELECT msg_id FROM cmq.q_bait_history))},
	q{cmq_maintain('bait')}, q{cmq_rewind('bait', (SELECT min(enqueued_at) FROM cmq.q_bait_history))}, q{cmq_cancel_rewind('bait')},
	q{count(*) FROM cmq_publish('own', 'p')}, q{cmq_replay('good', '-infinity', NULL, 'bait')}, q{cmq_alter_queue('bait', rewind_seconds => 3601)},
	q{cmq_alter_queue('bait', rewind_seconds => 0)}, q{cmq_alter_queue('bait', rewind_seconds => 3600)}, q{cmq_clear_queue('bait')},
	q{count(*) FROM cmq_queue_attributes('bait')}, q{count(*) FROM cmq.metrics}, q{count(*) FROM cmq.rewinds}, q{cmq_unbind_dead_letter('bait')})
{
	as('victim', q{SELECT cmq_send('good', 'g'); SELECT cmq_delete('good', receipt_handle) FROM cmq_receive('good')}) if $call =~ /replay/;
	# something to be brought back
	as('attacker', q{SELECT cmq_send('bait', 'h'); SELECT cmq_delete('bait', receipt_handle) FROM cmq_receive('bait', 100)});
	sql("TRUNCATE public.ran_as; SELECT $call");
	is(sql(q{SELECT count(*) FROM public.ran_as WHERE role <> 'attacker'}), '0', "$call runs none of it as a superuser");
}
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'attacker'}), 'f', 'the attacker is no superuser');
# what the threat model says of sends, receives and deletes
sql(q{CREATE ROLE bystander; GRANT INSERT, DELETE ON cmq.q_bait TO bystander; TRUNCATE public.ran_as});
as('bystander', q{SELECT cmq_send('bait', 'x'); SELECT cmq_delete('bait', receipt_handle) FROM cmq_receive('bait')});
is(sql(q{SELECT string_agg(DISTINCT role, ' ') FROM public.ran_as}), 'bystander', 'a send, a receive and a delete run it as the caller');

note 'reading what is another owner\'s in the midst of a call';

as('victim', q{
	SELECT FROM cmq_create_queue('gold', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('gold', array(SELECT 'secret account number ' || i FROM generate_series(101, 110) i));
	SELECT FROM cmq_delete_batch('gold', array(SELECT receipt_handle FROM cmq_receive('gold', 10)))});
# Which tables of 'src' are renamed before the drop, and by what call of ours the
# code comes to run.
my $attempt = 0;
foreach my $call (
	q{SELECT cmq_replay('src', now() - interval '30 minutes', NULL, 'dst')}, q{SELECT cmq_restore('src', now() - interval '30 minutes', NULL)},
	q{SELECT count(*) FROM cmq_send_batch('src', array(SELECT repeat('y', 50000) FROM generate_series(1, 100)))},
	q{SELECT count(*) FROM cmq_receive('src', 1000)}, q{SELECT cmq_redrive('src')})
{
	foreach my $rename (0, 1)
	{
		$attempt++;
		my $setup = as('attacker', qq{
			SELECT FROM cmq_create_queue('src', rewind_seconds => 3600, max_msg_size => 2000000);
			SELECT FROM cmq_create_queue('dst', max_msg_size => 2000000);
			SELECT FROM cmq_alter_queue('dst', dead_letter_queue => 'src', max_receive_count => 1);
			CREATE TABLE a.go (on_ bool); INSERT INTO a.go VALUES (false);
			CREATE FUNCTION a.trick() RETURNS void LANGUAGE plpgsql AS \$\$
			BEGIN
				IF NOT (SELECT on_ FROM a.go) THEN RETURN; END IF;
				UPDATE a.go SET on_ = false;
				IF $rename = 1 THEN
					ALTER VIEW cmq.q_src RENAME TO q_src_x;
					ALTER TABLE cmq_data.q_src RENAME TO q_src_x;             ALTER TABLE cmq_data.q_src_rewind RENAME TO q_src_rx;
					ALTER TABLE cmq_data.q_src_pending RENAME TO q_src_px;    ALTER VIEW cmq.q_src_live RENAME TO q_src_lx;
					ALTER VIEW cmq.q_src_history RENAME TO q_src_hx;          ALTER VIEW cmq.q_src_all RENAME TO q_src_ax;
					CREATE VIEW cmq.q_src AS SELECT 'src'::text AS queue;
				END IF;
				PERFORM public.cmq_unbind_dead_letter('dst');
				BEGIN PERFORM public.cmq_drop_queue('src'); EXCEPTION WHEN OTHERS THEN RAISE WARNING 'drop: %', SQLSTATE; END;
				BEGIN PERFORM cmq._readable('src');  EXCEPTION WHEN OTHERS THEN NULL; END;
				BEGIN PERFORM cmq._readable('gold'); EXCEPTION WHEN OTHERS THEN NULL; END;
				BEGIN PERFORM public.cmq_publish('own', 'x'); EXCEPTION WHEN OTHERS THEN NULL; END;
			END \$\$;
			CREATE FUNCTION a.idx(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN PERFORM a.trick(); RETURN length(t); END \$\$;
			CREATE FUNCTION a.idx(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN PERFORM a.trick(); RETURN n; END \$\$;
			CREATE INDEX ON cmq_data.q_dst (a.idx(body));
			CREATE INDEX ON cmq_data.q_src_pending (a.idx(receive_count));
			SELECT FROM cmq_send_batch('src', array(SELECT repeat('x', 300000) FROM generate_series(1, 8)));
			SELECT FROM cmq_delete_batch('src', array(SELECT receipt_handle FROM cmq_receive('src', 8)));
			SELECT FROM cmq_send_batch('src', array(SELECT repeat('w', 1000) FROM generate_series(1, 1200)), headers => array_fill('{"cmq_dead_letter": {"queue": "dst"}}'::jsonb, '{1200}'));
			GRANT ALL ON cmq.q_src, cmq.q_dst TO attacker});
		my $out = as('attacker', "UPDATE a.go SET on_ = true; $call; SELECT 'read ' || count(*) FROM cmq.q_dst_live WHERE body LIKE 'secret%'; SELECT 'had ' || count(*) FROM cmq_receive('dst', 1000) WHERE body LIKE 'secret%'");
		unlike($out, qr/read [1-9]|had [1-9]|connection|terminated/, "$call, renamed: $rename: nothing of another owner is read, and nothing crashes");
		like($out, qr/drop: (55006|55000|42501|42704)/, '... a drop in the midst of it is an error');
		is(sql('SELECT 1'), '1', '... the server is up');
		is(sql(q{SELECT count(*) FROM cmq.q_gold_history}), '10', '... and the history of the other queue is whole');
		as('attacker', q{DROP VIEW IF EXISTS cmq.q_src CASCADE; ALTER VIEW IF EXISTS cmq.q_src_x RENAME TO q_src; ALTER TABLE IF EXISTS cmq_data.q_src_x RENAME TO q_src;
			ALTER TABLE IF EXISTS cmq_data.q_src_rx RENAME TO q_src_rewind; ALTER TABLE IF EXISTS cmq_data.q_src_px RENAME TO q_src_pending}) if $rename;
		$node->psql('postgres', q{SET client_min_messages = error; SELECT cmq_unbind_dead_letter('dst'); SELECT cmq_drop_queue('src');});
		$node->psql('postgres', q{SET client_min_messages = error; SELECT cmq_drop_queue('dst'); DROP TABLE IF EXISTS cmq_data.q_src, cmq_data.q_src_pending, cmq_data.q_src_rewind, cmq_data.q_src_x, cmq_data.q_src_px, cmq_data.q_src_rx CASCADE;});
		$node->psql('postgres', q{SET client_min_messages = error; DROP VIEW IF EXISTS cmq.q_src, cmq.q_src_x, cmq_data.v_src, cmq.q_src_lx, cmq.q_src_hx, cmq.q_src_ax, cmq.q_src_live, cmq.q_src_history, cmq.q_src_all CASCADE;
			DELETE FROM cmq.queue WHERE name IN ('src', 'dst'); DELETE FROM cmq.partition WHERE queue IN ('src', 'dst')});
		sql(q{SET client_min_messages = error; DROP TABLE a.go; DROP FUNCTION a.trick(), a.idx(text), a.idx(int) CASCADE});
	}
}

note 'the rewind of a queue is switched in the midst of a redrive';

foreach my $way ([ 0, 3600 ], [ 3600, 0 ])
{
	my ($before, $after) = @$way;
	my $setup = as('attacker', qq{
		SELECT FROM cmq_create_queue('r_dlq', rewind_seconds => $before);
		SELECT FROM cmq_create_queue('r_src', visibility_timeout => 43200, dead_letter_queue => 'r_dlq', max_receive_count => 1);
		CREATE TABLE a.go (on_ bool); INSERT INTO a.go VALUES (false);
		CREATE FUNCTION a.trick() RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
			IF NOT (SELECT on_ FROM a.go) THEN RETURN; END IF;
			BEGIN
				PERFORM public.cmq_alter_queue('r_dlq', rewind_seconds => $after);
				PERFORM cmq._readable('r_dlq');
			EXCEPTION WHEN OTHERS THEN RAISE WARNING 'alter: %', SQLSTATE;
			END;
		END \$\$;
		CREATE FUNCTION a.idx(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$ BEGIN PERFORM a.trick(); RETURN length(t); END \$\$;
		CREATE INDEX ON cmq_data.q_r_src (a.idx(body));
		SELECT FROM cmq_send_batch('r_dlq', '{1,2,3,4,5}', headers => array_fill('{"cmq_dead_letter": {"queue": "r_src"}}'::jsonb, '{5}'))});
	my $out = as('attacker', q{UPDATE a.go SET on_ = true; SELECT 'back ' || cmq_redrive('r_dlq')});
	like($out, qr/alter: 55006/, "from $before to $after: it is an error");
	like($out, qr/back 5/, '... and the redrive goes on');
	is(sql(q{SELECT (SELECT string_agg(body, '' ORDER BY msg_id) FROM cmq.q_r_src_live), (SELECT count(*) FROM cmq.q_r_dlq_live), (SELECT count(*) FROM cmq.q_r_dlq_history)}),
		'12345|0|' . ($before ? 5 : 0), '... every message is in its place');
	is(sql(q{SELECT count(*) FROM cmq_data.q_r_dlq m WHERE (SELECT count(*) FROM cmq_data.q_r_dlq_rewind r WHERE r.enqueued_at = m.enqueued_at) <> 1}), '0', '... and no body is left alone');
	sql(q{SELECT cmq_unbind_dead_letter('r_src'); SELECT cmq_drop_queue('r_src'); SELECT cmq_drop_queue('r_dlq'); DROP TABLE a.go; DROP FUNCTION a.trick(), a.idx(text)});
}

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
