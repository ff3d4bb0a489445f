# A receive from an ordered queue that begins behind floors, with laggards, finds the same
# in each group as one that begins at the beginning, whatever sessions have done before in
# random order, in transactions that are open, undone, prepared or committed.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Seed;
use Test::More;

my $rounds = $ENV{CMQ_TEST_LONG} ? 2000 : 100;
my $sessions = 4;

my $node = CmqNode->running('floors', <<'CONF');
max_prepared_transactions = 10
lock_timeout = 30ms
log_min_messages = fatal
CONF

# Nothing becomes visible by time: what is in flight, or delayed, stays so.
$node->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 3600, ordered => true);
	CREATE TABLE taken (no serial, handle text);

	CREATE FUNCTION send(n int) RETURNS bigint LANGUAGE sql AS $$
		SELECT count(*) FROM cmq_send_batch('q', array_fill('m'::text, ARRAY[n]),
			message_groups => array(SELECT CASE WHEN random() > 0.1 THEN 'g' || floor(random() * 10) END FROM generate_series(1, n)))
	$$;
	CREATE FUNCTION take(n int) RETURNS bigint LANGUAGE sql AS
	$$ WITH t AS (INSERT INTO taken (handle) SELECT receipt_handle FROM cmq_receive('q', n) RETURNING 1) SELECT count(*) FROM t $$;
	CREATE FUNCTION grips(n int) RETURNS text[] LANGUAGE sql AS
	$$ SELECT array_agg(handle) FROM (SELECT handle FROM (SELECT handle FROM taken ORDER BY no DESC LIMIT 15) t ORDER BY random() LIMIT n) s $$;
	CREATE FUNCTION ids(n int) RETURNS bigint[] LANGUAGE sql AS
	$$ SELECT array_agg(cmq.msg_id(enqueued_at)) FROM (SELECT enqueued_at FROM cmq_data.q_q_rewind ORDER BY random() LIMIT n) s $$;
	CREATE FUNCTION since() RETURNS timestamptz LANGUAGE sql AS
	$$ SELECT enqueued_at FROM (SELECT enqueued_at FROM cmq_data.q_q ORDER BY enqueued_at DESC LIMIT 30) m ORDER BY random() LIMIT 1 $$;

	-- what a receive would get now, of each group
	CREATE FUNCTION found() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		result text;
	BEGIN
		SELECT string_agg(g || ': ' || ids, E'\n' ORDER BY g) INTO result FROM (
			SELECT coalesce(message_group, 'free') AS g,
				   string_agg(msg_id::text, ' ' ORDER BY CASE WHEN message_group IS NULL THEN msg_id END, ordinality) AS ids
			  FROM cmq_receive('q', 1000) WITH ORDINALITY GROUP BY 1) r;
		RAISE SQLSTATE 'UNDO0' USING MESSAGE = coalesce(result, 'nothing');
	EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
		RETURN SQLERRM;
	END $$;
});

sub pick { return $_[ rand @_ ]; }

my @steps = (
	(map { "SELECT send($_)" } 1, 1, 1, 2, 5, 10),
	(map { "SELECT take($_)" } 1, 1, 2, 4),
	(map { "SELECT cmq_delete_batch('q', grips($_))" } 1, 3, 5, 15),
	(map { "SELECT FROM cmq_consume('q', $_)" } 1, 3),
	q{SELECT cmq_change_visibility('q', h, 0) FROM unnest(grips(2)) h},
	q{SELECT cmq_change_visibility_batch('q', grips(15), 0)},
	q{SELECT cmq_change_visibility('q', h, 43200) FROM unnest(grips(1)) h},
	q{SELECT cmq_release('q', grips(2), 0)},
	q{SELECT cmq_release('q', grips(2), 0, false)},
	q{SELECT cmq_release('q', grips(1), 40000, random() < 0.5)},
	q{SELECT cmq_restore('q', since())},
	q{SELECT cmq_restore_messages('q', ids(1))},
	q{SELECT cmq_restore_messages('q', ids(3))},
	q{SELECT cmq_rewind('q', since())},
	q{SELECT cmq_cancel_rewind('q')},
	q{SELECT cmq_delete_messages('q', array(SELECT msg_id FROM cmq.q_q_live WHERE state <> 'in_flight' ORDER BY random() LIMIT 1))});

my @session = map { { psql => $node->session(on_error_stop => 0), open => 0, saved => 0 } } 1 .. $sessions;
$_->{psql}->set_query_timer_restart foreach @session;
my ($prepares, %done) = (0);

# A command may fail when another session is in its way; then its transaction is over.
sub run
{
	my ($s, $sql) = @_;
	$s->{psql}{stderr} = '';
	$s->{psql}->query($sql);
	my $failed = $s->{psql}{stderr} =~ /ERROR/;
	$s->{psql}{stderr} = '';
	$done{ $failed ? 'failed' : 'done' }++;
	return if !$failed || !$s->{open};
	$s->{psql}->query('ROLLBACK');
	$s->{open} = $s->{saved} = 0;
	return;
}

sub end
{
	my ($s, $how) = @_;
	run($s, $how);
	$done{ ($how =~ /^(\w+)/)[0] }++;
	$s->{open} = $s->{saved} = 0;
	return;
}

sub step
{
	my $s = pick(@session);
	my $what = rand;
	if (!$s->{open})
	{
		if ($what < 0.35) { run($s, 'BEGIN'); $s->{open} = 1; }
		elsif ($what < 0.42 && (my $gid = $node->sql('SELECT gid FROM pg_prepared_xacts ORDER BY random() LIMIT 1')))
		{
			run($s, pick('COMMIT', 'ROLLBACK') . " PREPARED '$gid'");
			return;
		}
	}
	elsif ($what < 0.1)  { end($s, 'COMMIT'); return; }
	elsif ($what < 0.18) { end($s, 'ROLLBACK'); return; }
	elsif ($what < 0.21) { end($s, q{PREPARE TRANSACTION 'p} . ++$prepares . q{'}); return; }
	elsif ($what < 0.28) { run($s, 'SAVEPOINT a'); $s->{saved} = $s->{open}; return; }
	elsif ($what < 0.34 && $s->{saved}) { run($s, 'ROLLBACK TO a'); return; }
	elsif ($what < 0.38 && $s->{saved}) { run($s, 'RELEASE a'); $s->{saved} = 0; return; }
	run($s, pick(@steps));
	return;
}

my ($compared, $some) = (0, 0);
foreach my $round (1 .. $rounds)
{
	step() foreach 1 .. 5 + rand 20;
	# now and then all comes to an end
	if (rand() < 0.2)
	{
		end($_, pick('COMMIT', 'ROLLBACK')) foreach grep { $_->{open} } @session;
		$node->sql(pick('COMMIT', 'ROLLBACK') . " PREPARED '$_'") foreach split /\n/, $node->sql('SELECT gid FROM pg_prepared_xacts');
	}
	my $found = $node->sql('SELECT found()');
	my $again = $node->sql('SELECT found()');
	# a change by hand, though of nothing, takes all floors back
	$node->sql('UPDATE cmq_data.q_q_pending SET visible_at = visible_at WHERE false');
	my $all = $node->sql('SELECT found()');
	$compared++;
	$some++ if $all ne 'nothing';
	if ($found ne $all || $again ne $all)
	{
		is($found, $all, "round $round: a receive finds what one from the beginning does");
		is($again, $all, "round $round: ... and the next one");
		diag($node->sql(q{SELECT msg_id, state, receive_count, rewind_count, message_group FROM cmq.q_q_all WHERE state <> 'deleted' OR msg_id IN (SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_q_rewind) ORDER BY msg_id}));
		last;
	}
	# so that there are not too many
	run($session[0], q{SELECT FROM cmq_consume('q', 1000)}) if $node->sql('SELECT ready FROM cmq.status') > 200 && !$session[0]{open};
}
is($compared, $rounds, "$compared times a receive has found what one from the beginning does, $some times something");
cmp_ok($some, '>', $rounds / 4, 'often enough');
note(join ', ', map { "$_ $done{$_}" } sort keys %done);
cmp_ok($done{$_} // 0, '>', 0, "$_: " . ($done{$_} // 0)) foreach qw(COMMIT ROLLBACK PREPARE done failed);
end($_, 'ROLLBACK') foreach grep { $_->{open} } @session;
$_->{psql}->quit foreach @session;
$node->is_sound;
$node->stop;
done_testing();
