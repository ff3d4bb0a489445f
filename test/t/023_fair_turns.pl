# Code and locks of an owner's that take time, but not so much that something is
# cancelled: rounds of the worker go on to the queues of others, and a redrive sends
# their letters back.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = '1h'
fsync = off
CONF
$node->start;

sub sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

sub set
{
	my ($name, $value) = @_;
	sql("ALTER SYSTEM SET $name = '$value'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('$name') = '$value'") or die;
	return;
}

# Wait until maintenance has been at the queue: it saves the clock of one in use.
sub maintained
{
	my ($queue, $name) = @_;
	sql("SELECT cmq_send('$queue', 'x')");
	ok($node->poll_query_until('postgres', "SELECT clock >= (SELECT max(enqueued_at) FROM cmq_data.q_$queue) FROM cmq.queue WHERE name = '$queue'"), $name);
	return;
}

# Received as often as it may be.
my $kill = q{SELECT FROM cmq_receive('%s', 1000) r, cmq_change_visibility('%1$s', r.receipt_handle, 0)};

sub dead
{
	my ($queue, $n) = @_;
	sql(qq{SELECT FROM cmq_send_batch('$queue', array_fill('letter'::text, ARRAY[$n])); } . sprintf($kill, $queue));
	return;
}

sql('CREATE EXTENSION cmq');
sql(q{
	CREATE ROLE attacker; CREATE ROLE victim; CREATE ROLE other; CREATE ROLE operator;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker, victim, other, operator;
	CREATE SCHEMA a AUTHORIZATION attacker; GRANT USAGE ON SCHEMA a TO PUBLIC;
	SET ROLE attacker;
	CREATE TABLE a.go (code text); INSERT INTO a.go VALUES (''); GRANT SELECT ON a.go TO PUBLIC;
	CREATE FUNCTION a.trap(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF t = 'letter' THEN EXECUTE (SELECT code FROM a.go); END IF;
		RETURN 1;
	END $$;
	CREATE FUNCTION a.trap(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN a.trap(CASE WHEN n >= 0 THEN 'letter' END); END $$});
sql(q{UPDATE a.go SET code = 'SELECT'});

note 'a source that its owner keeps locked';

sql(q{
	SET ROLE victim; SELECT FROM cmq_create_queue('graves'); GRANT INSERT ON cmq.q_graves TO attacker, other;
	RESET ROLE;
	SET ROLE attacker; SELECT FROM cmq_create_queue('locked', visibility_timeout => 43200, dead_letter_queue => 'graves', max_receive_count => 1);
	RESET ROLE;
	SET ROLE other; SELECT FROM cmq_create_queue('honest', visibility_timeout => 43200, dead_letter_queue => 'graves', max_receive_count => 1)});
dead('locked', 3);
my $leaf = sql(q{SELECT messages FROM cmq.partition WHERE queue = 'locked' AND now() >= lower AND now() < upper});
my $locker = $node->background_psql('postgres');
$locker->query_safe("SET ROLE attacker; BEGIN; LOCK TABLE $leaf IN ACCESS EXCLUSIVE MODE");
my $offset = -s $node->logfile;
set('cmq.maintenance_interval', '1s');
foreach my $round (1 .. 3)
{
	$offset = $node->wait_for_log(qr/moving dead letters of queue "locked" failed/, $offset);
	ok($offset > 0, "the worker cannot move letters ($round)");
	# who is maintained twice after a send has seen a whole round
	sql(q{SELECT cmq_send('graves', 'x')});
	my $sent = sql(q{SELECT max(enqueued_at) FROM cmq_data.q_graves});
	maintained('honest', '... there is another round') foreach 1 .. 2;
	is(sql("SELECT clock >= '$sent' FROM cmq.queue WHERE name = 'graves'"), 't', '... in which the dead-letter queue is maintained');
	my $graves = sql(q{SELECT count(*) FROM cmq.q_graves_live WHERE headers ? 'cmq_dead_letter'});
	dead('honest', 1);
	ok($node->poll_query_until('postgres', qq{SELECT count(*) > $graves FROM cmq.q_graves_live WHERE headers ? 'cmq_dead_letter'}), '... and the letters of others are moved to it');
}
$locker->query_safe('ROLLBACK');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM cmq.q_graves_live WHERE headers->'cmq_dead_letter'->>'queue' = 'locked'}), 'when the lock is gone its letters are moved, too');
set('cmq.maintenance_interval', '1h');
$locker->quit;
sql(q{SELECT cmq_drop_queue(q) FROM unnest('{locked,honest,graves}'::text[]) q});

note 'code that ends just in time, in many queues';

# Each queue takes more than two seconds, all of them more than an owner may.  Not
# ANALYZE: it does not look at pending rows.
my $nslow = 5;
sql(join ';', 'SET ROLE attacker', map { qq{
	SELECT FROM cmq_create_queue('slow${_}_dead'); CREATE INDEX ON cmq_data.q_slow${_}_dead_pending (a.trap(receive_count));
	SELECT FROM cmq_create_queue('slow$_', visibility_timeout => 43200, dead_letter_queue => 'slow${_}_dead', max_receive_count => 1)} } 1 .. $nslow);
sql(q{SET ROLE other; SELECT FROM cmq_create_queue('zzz')});
sql(q{SET ROLE attacker; CREATE FUNCTION a.slow() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.1); RAISE LOG 'slow letter'; END $$; UPDATE a.go SET code = 'SELECT a.slow()'});
$offset = -s $node->logfile;
dead("slow$_", 2) foreach 1 .. $nslow;
set('cmq.maintenance_interval', '1s');
ok($node->poll_query_until('postgres', "SELECT count(*) = $nslow FROM generate_series(1, $nslow) i WHERE (SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'slow' || i || '_dead') = 2"), 'all of them are moved in the end');
my $log = substr(PostgreSQL::Test::Utils::slurp_file($node->logfile), $offset);
my %letters;
$letters{$1}++ while $log =~ /\[(\d+)\] LOG:  slow letter/g;
my ($most) = sort { $b <=> $a } values %letters;
cmp_ok($most, '>=', 2, 'in the rounds of a few workers');
cmp_ok($most, '<=', 6, '... none of which has taken more turns than an owner may');
my $total = 0;
$total += $_ foreach values %letters;
is($total, 2 * $nslow, '... and each letter once');
maintained('zzz', 'others are maintained');
sql(q{UPDATE a.go SET code = 'SELECT'});
set('cmq.maintenance_interval', '1h');
sql(join ';', map { "SELECT cmq_drop_queue('slow$_'), cmq_drop_queue('slow${_}_dead')" } 1 .. $nslow);

note 'a redrive to queues of several owners';

sql(q{CREATE SCHEMA v AUTHORIZATION victim; GRANT USAGE ON SCHEMA v TO PUBLIC;
	SET ROLE victim; CREATE FUNCTION v.honest(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN 1; END $$;
	RESET ROLE;
	SET ROLE operator; SELECT FROM cmq_create_queue('dead'); GRANT INSERT ON cmq.q_dead TO attacker, victim;
	RESET ROLE;
	SET ROLE attacker; SELECT FROM cmq_create_queue('slow', visibility_timeout => 43200, dead_letter_queue => 'dead', max_receive_count => 1);
	CREATE INDEX ON cmq_data.q_slow (a.trap(body)); GRANT INSERT ON cmq.q_slow TO operator;
	RESET ROLE;
	SET ROLE victim; SELECT FROM cmq_create_queue('orders', visibility_timeout => 43200, dead_letter_queue => 'dead', max_receive_count => 1);
	CREATE INDEX ON cmq_data.q_orders (v.honest(body)); GRANT INSERT ON cmq.q_orders TO operator});

# Another attacker, whose code is not slow but for one letter.
sql(q{CREATE ROLE attacker2; GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker2; GRANT INSERT ON cmq.q_dead TO attacker2;
	SET ROLE attacker2; SELECT FROM cmq_create_queue('slow2', visibility_timeout => 43200, dead_letter_queue => 'dead', max_receive_count => 1);
	CREATE INDEX ON cmq_data.q_slow2 (a.trap(body)); GRANT INSERT ON cmq.q_slow2 TO operator});

sub redrive
{
	my ($code, $name, $two) = @_;
	my $nslow = $two ? 2 : 1;
	my $n = 400 + $nslow;

	dead('slow', 1);
	dead('slow2', 1) if $two;
	dead('orders', 400);
	set('cmq.maintenance_interval', '1s');
	ok($node->poll_query_until('postgres', qq{SELECT pending_msg_num = $n FROM cmq.metrics WHERE queue = 'dead'}), "$name: letters of two owners are in one queue");
	set('cmq.maintenance_interval', '1h');
	sql("UPDATE a.go SET code = \$code\$$code\$code\$");
	my ($ret, $out, $err) = $node->psql('postgres', qq{SET statement_timeout = '90s'; SET ROLE operator; SELECT cmq_redrive('dead')});
	is($out, '400', "$name: the other's letters are sent back");
	like($err, qr/$nslow messages of queue "dead" were left where they are/, "$name: ... and the slow ones are left");
	is(sql(q{SELECT count(*), count(*) FILTER (WHERE headers->'cmq_dead_letter'->>'queue' LIKE 'slow%') FROM cmq.q_dead_live}), "$nslow|$nslow", "$name: ... no others");
	is(sql(q{SELECT count(*), count(DISTINCT msg_id) FROM cmq_receive('orders', 1000)}), '400|400', "$name: ... each is there once");
	sql(q{UPDATE a.go SET code = 'SELECT'; SELECT cmq_clear_queue(q) FROM unnest('{slow,slow2,orders,dead}'::text[]) q});
	return;
}

# The limit of the first is reached while the other's letters are sent.
redrive('SELECT pg_sleep(4.9)', 'code that takes almost all the time');
redrive('SELECT pg_sleep(1000)', 'code of two owners that does not end', 1);

# A lock_timeout that the code itself has set is no cancel from outside.
sql(q{SET ROLE attacker; CREATE TABLE a.lk (); CREATE FUNCTION a.locks() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('lock_timeout', '10ms', true);
		BEGIN LOCK TABLE a.lk; EXCEPTION WHEN lock_not_available THEN NULL; END;
		PERFORM pg_sleep(1000);
	END $$});
my $lk = $node->background_psql('postgres');
$lk->query_safe($_) foreach 'SET ROLE attacker', 'BEGIN', 'LOCK TABLE a.lk';
redrive('SELECT a.locks()', 'code that catches a lock_timeout of its own');
$lk->query_safe('ROLLBACK');
$lk->quit;

# A redrive within a redrive: what it leaves behind has no limit of its own.
sql(q{SET ROLE attacker; SELECT FROM cmq_create_queue('inner_dead');
	SELECT FROM cmq_create_queue('inner', visibility_timeout => 43200, dead_letter_queue => 'inner_dead', max_receive_count => 1)});
dead('inner', 1);
sql(q{SELECT cmq_maintain('inner')});
is(sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'inner_dead'}), '1', 'another dead-letter queue');
sql(q{SET ROLE attacker; CREATE FUNCTION a.nested() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN RAISE LOG 'inner redrive: %', public.cmq_redrive('inner_dead'); PERFORM pg_sleep(1000); END $$});
redrive(q{SELECT a.nested()}, 'code that redrives');

# A cancel that comes after that of the limit, to code that has caught the first one,
# ends the call; and nothing of the limit is left for what follows.
sql(q{SET ROLE attacker; CREATE FUNCTION a.once() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(1000); END; END $$;
	UPDATE a.go SET code = 'SELECT a.once()'; RESET ROLE;
	SELECT FROM cmq_send('dead', 'letter', headers => '{"cmq_dead_letter": {"queue": "slow"}}')});
my ($ret, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '7s'; SET ROLE operator; SELECT cmq_redrive('dead');
	SET statement_timeout = 0; SELECT 'alive' FROM pg_sleep(5.5)}, on_error_stop => 0);
like($err, qr/ERROR:  canceling statement due to statement timeout/, 'a statement timeout after the limit of a redrive');
is($out, 'alive', '... and the session goes on');
is(sql(q{SELECT count(*) FROM cmq.q_dead_live}), '1', '... with the letter where it was');

$log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
like($log, qr/inner redrive: 1/, 'a redrive within a redrive works');
unlike($log, qr/PANIC|TRAP|terminated by signal|leak|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
