# An owner's code and locks take time, but not so much that something is cancelled:
# rounds of the worker go on to the queues of others, and a redrive sends the letters of
# others back.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->running('main');

# Received as often as it may be.
my $kill = q{SELECT FROM cmq_receive('%s', 1000) r, cmq_change_visibility('%1$s', r.receipt_handle, 0)};

sub dead
{
	my ($queue, $n) = @_;
	$node->sql(qq{SELECT FROM cmq_send_batch('$queue', array_fill('letter'::text, ARRAY[$n])); } . sprintf($kill, $queue));
	return;
}

$node->sql(q{
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
$node->sql(q{UPDATE a.go SET code = 'SELECT'});

note 'a source that its owner keeps locked';

$node->sql(q{
	SET ROLE victim; SELECT FROM cmq_create_queue('graves'); GRANT INSERT ON cmq.q_graves TO attacker, other;
	RESET ROLE;
	SET ROLE attacker; SELECT FROM cmq_create_queue('locked', visibility_timeout => 43200, dead_letter_queue => 'graves', max_receive_count => 1);
	RESET ROLE;
	SET ROLE other; SELECT FROM cmq_create_queue('honest', visibility_timeout => 43200, dead_letter_queue => 'graves', max_receive_count => 1)});
dead('locked', 3);
my $leaf = $node->sql(q{SELECT messages FROM cmq.partition WHERE queue = 'locked' AND now() >= lower AND now() < upper});
my $locker = $node->session;
$locker->query_safe("SET ROLE attacker; BEGIN; LOCK TABLE $leaf IN ACCESS EXCLUSIVE MODE");
my $offset = $node->log_size;
$node->set('cmq.maintenance_interval', '1s');
foreach my $round (1 .. 3)
{
	$offset = $node->wait_for_log(qr/moving dead letters of queue "locked" failed/, $offset);
	ok($offset > 0, "the worker cannot move letters ($round)");
	# who is maintained twice after a send has seen a whole round
	$node->sql(q{SELECT cmq_send('graves', 'x')});
	my $sent = $node->sql(q{SELECT max(enqueued_at) FROM cmq_data.q_graves});
	$node->maintained('honest', '... there is another round') foreach 1 .. 2;
	is($node->sql("SELECT clock >= '$sent' FROM cmq.queue WHERE name = 'graves'"), 't', '... in which the dead-letter queue is maintained');
	my $graves = $node->sql(q{SELECT count(*) FROM cmq.q_graves_live WHERE headers ? 'cmq_dead_letter'});
	dead('honest', 1);
	$node->poll(qq{SELECT count(*) > $graves FROM cmq.q_graves_live WHERE headers ? 'cmq_dead_letter'}, '... and the letters of others are moved to it');
}
$locker->query_safe('ROLLBACK');
$node->poll(q{SELECT count(*) = 3 FROM cmq.q_graves_live WHERE headers->'cmq_dead_letter'->>'queue' = 'locked'}, 'when the lock is gone its letters are moved, too');
$node->set('cmq.maintenance_interval', '1h');
$locker->quit;
$node->sql(q{SELECT cmq_drop_queue(q) FROM unnest('{locked,honest,graves}'::text[]) q});

note 'code that ends just in time, in many queues';

# Each queue takes more than two seconds, all of them more than an owner may.  Not
# ANALYZE: it does not look at pending rows.
my $nslow = 5;
$node->sql(join ';', 'SET ROLE attacker', map { qq{
	SELECT FROM cmq_create_queue('slow${_}_dead'); CREATE INDEX ON cmq_data.q_slow${_}_dead_pending (a.trap(receive_count));
	SELECT FROM cmq_create_queue('slow$_', visibility_timeout => 43200, dead_letter_queue => 'slow${_}_dead', max_receive_count => 1)} } 1 .. $nslow);
$node->sql(q{SET ROLE other; SELECT FROM cmq_create_queue('zzz')});
$node->sql(q{SET ROLE attacker; CREATE FUNCTION a.slow() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1.1); RAISE LOG 'slow letter'; END $$; UPDATE a.go SET code = 'SELECT a.slow()'});
$offset = $node->log_size;
dead("slow$_", 2) foreach 1 .. $nslow;
$node->set('cmq.maintenance_interval', '1s');
$node->poll("SELECT count(*) = $nslow FROM generate_series(1, $nslow) i WHERE (SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'slow' || i || '_dead') = 2", 'all of them are moved in the end');
my $log = $node->log_since($offset);
my %letters;
$letters{$1}++ while $log =~ /\[(\d+)\] LOG:  slow letter/g;
my ($most) = sort { $b <=> $a } values %letters;
cmp_ok($most, '>=', 2, 'in the rounds of a few workers');
cmp_ok($most, '<=', 6, '... none of which has taken more turns than an owner may');
my $total = 0;
$total += $_ foreach values %letters;
is($total, 2 * $nslow, '... and each letter once');
$node->maintained('zzz', 'others are maintained');
$node->sql(q{UPDATE a.go SET code = 'SELECT'});
$node->set('cmq.maintenance_interval', '1h');
$node->sql(join ';', map { "SELECT cmq_drop_queue('slow$_'), cmq_drop_queue('slow${_}_dead')" } 1 .. $nslow);

note 'a redrive to queues of several owners';

$node->sql(q{CREATE SCHEMA v AUTHORIZATION victim; GRANT USAGE ON SCHEMA v TO PUBLIC;
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
$node->sql(q{CREATE ROLE attacker2; GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker2; GRANT INSERT ON cmq.q_dead TO attacker2;
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
	$node->set('cmq.maintenance_interval', '1s');
	$node->poll(qq{SELECT pending_msg_num = $n FROM cmq.metrics WHERE queue = 'dead'}, "$name: letters of two owners are in one queue");
	$node->set('cmq.maintenance_interval', '1h');
	$node->sql("UPDATE a.go SET code = \$code\$$code\$code\$");
	my ($out, $err) = $node->both(qq{SET statement_timeout = '90s'; SET ROLE operator; SELECT cmq_redrive('dead')});
	is($out, '400', "$name: the other's letters are sent back");
	like($err, qr/$nslow messages of queue "dead" were left where they are/, "$name: ... and the slow ones are left");
	is($node->sql(q{SELECT count(*), count(*) FILTER (WHERE headers->'cmq_dead_letter'->>'queue' LIKE 'slow%') FROM cmq.q_dead_live}), "$nslow|$nslow", "$name: ... no others");
	is($node->sql(q{SELECT count(*), count(DISTINCT msg_id) FROM cmq_receive('orders', 1000)}), '400|400', "$name: ... each is there once");
	$node->sql(q{UPDATE a.go SET code = 'SELECT'; SELECT cmq_clear_queue(q) FROM unnest('{slow,slow2,orders,dead}'::text[]) q});
	return;
}

# The limit of the first is reached while the other's letters are sent.
redrive('SELECT pg_sleep(4.9)', 'code that takes almost all the time');
redrive('SELECT pg_sleep(1000)', 'code of two owners that does not end', 1);

# A lock_timeout that the code itself has set is no cancel from outside.
$node->sql(q{SET ROLE attacker; CREATE TABLE a.lk (); CREATE FUNCTION a.locks() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('lock_timeout', '10ms', true);
		BEGIN LOCK TABLE a.lk; EXCEPTION WHEN lock_not_available THEN NULL; END;
		PERFORM pg_sleep(1000);
	END $$});
my $lk = $node->session;
$lk->query_safe($_) foreach 'SET ROLE attacker', 'BEGIN', 'LOCK TABLE a.lk';
redrive('SELECT a.locks()', 'code that catches a lock_timeout of its own');
$lk->query_safe('ROLLBACK');
$lk->quit;

# A redrive within a redrive: what it leaves behind has no limit of its own.
$node->sql(q{SET ROLE attacker; SELECT FROM cmq_create_queue('inner_dead');
	SELECT FROM cmq_create_queue('inner', visibility_timeout => 43200, dead_letter_queue => 'inner_dead', max_receive_count => 1)});
dead('inner', 1);
$node->sql(q{SELECT cmq_maintain('inner')});
is($node->sql(q{SELECT pending_msg_num FROM cmq.metrics WHERE queue = 'inner_dead'}), '1', 'another dead-letter queue');
$node->sql(q{SET ROLE attacker; CREATE FUNCTION a.nested() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN RAISE LOG 'inner redrive: %', public.cmq_redrive('inner_dead'); PERFORM pg_sleep(1000); END $$});
redrive(q{SELECT a.nested()}, 'code that redrives');

# A cancel that comes after that of the limit, to code that has caught the first one,
# ends the call; and nothing of the limit is left for what follows.
$node->sql(q{SET ROLE attacker; CREATE FUNCTION a.once() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(1000); END; END $$;
	UPDATE a.go SET code = 'SELECT a.once()'; RESET ROLE;
	SELECT FROM cmq_send('dead', 'letter', headers => '{"cmq_dead_letter": {"queue": "slow"}}')});
my ($out, $err) = $node->both(q{SET statement_timeout = '7s'; SET ROLE operator; SELECT cmq_redrive('dead');
	SET statement_timeout = 0; SELECT 'alive' FROM pg_sleep(5.5)}, undef, on_error_stop => 0);
like($err, qr/ERROR:  canceling statement due to statement timeout/, 'a statement timeout after the limit of a redrive');
is($out, 'alive', '... and the session goes on');
is($node->sql(q{SELECT count(*) FROM cmq.q_dead_live}), '1', '... with the letter where it was');

like(slurp_file($node->logfile), qr/inner redrive: 1/, 'a redrive within a redrive works');
$node->is_sound;
$node->stop;
done_testing();
