# Ordered groups that prepared transactions hold, over a restart, a crash and a promotion;
# and what wakes receives that wait for a group that is blocked.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('groups', <<'CONF', allows_streaming => 1);
max_prepared_transactions = 40
CONF

# Each message says in its header which group it is of, for filters, and which it is.
$node->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 3600, ordered => true);
	SELECT FROM cmq_create_queue('w', visibility_timeout => 43200, rewind_seconds => 3600, ordered => true);
	CREATE FUNCTION send(g text, body text) RETURNS bigint LANGUAGE sql AS
	$$ SELECT cmq_send('q', body, headers => jsonb_build_object('g', g), message_group => g) $$;
	CREATE FUNCTION wanted(g text) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('g', g) $$;
	CREATE TABLE taken (g text, handle text, msg_id bigint);
	CREATE FUNCTION take(g text) RETURNS bigint LANGUAGE sql AS
	$$ WITH t AS (INSERT INTO taken SELECT g, receipt_handle, msg_id FROM cmq_receive('q', 1, filter => wanted(g)) RETURNING 1) SELECT count(*) FROM t $$;
	CREATE FUNCTION handles(g text) RETURNS text[] LANGUAGE sql AS $$ SELECT array_agg(handle) FROM taken t WHERE t.g = handles.g $$;
});

note 'prepared transactions';

# For each: what comes before, what is prepared, what is sent after that; and which
# messages can be had when it was committed, and when it was rolled back.
my @holds = (
	consume => [ '1 2 3', '', q{SELECT FROM cmq_consume('q', 1, filter => wanted('%s'))}, '', '2 3', '1 2 3' ],
	delete => [ '1 2 3', q{SELECT take('%s')}, q{SELECT cmq_delete_batch('q', handles('%s'))}, '', '2 3', '' ],
	receive => [ '1 2 3', '', q{SELECT FROM cmq_receive('q', 1, filter => wanted('%s'))}, '', '', '1 2 3' ],
	release => [ '1 2 3', q{SELECT take('%s')}, q{SELECT cmq_release('q', handles('%s'), 0)}, '', '1 2 3', '' ],
	send => [ '', '', q{SELECT send('%s', '1')}, '2 3', '1 2 3', '2 3' ],
	savepoint => [ '', '', q{SAVEPOINT a; SELECT send('%1$s', '0'); ROLLBACK TO a; SAVEPOINT b; SELECT send('%1$s', '1'); RELEASE b}, '2', '1 2', '2' ],
	restore => [
		'1 2 3', q{SELECT take('%1$s'); SELECT cmq_delete_batch('q', handles('%1$s'))},
		q{SELECT cmq_restore_messages('q', array(SELECT msg_id FROM taken WHERE g = '%s'))}, '', '1 2 3', '2 3' ]);

sub send_all { my ($g, $bodies) = @_; $node->sql("SELECT send('$g', '$_')") foreach split / /, $bodies; return; }

# The groups of which something can be had, and what; nothing is taken.
sub groups
{
	my ($on) = @_;
	return $on->sql(q{BEGIN; SELECT g || ': ' || bodies FROM (
		SELECT message_group AS g, string_agg(body, ' ' ORDER BY ordinality) AS bodies FROM cmq_receive('q', 1000) WITH ORDINALITY GROUP BY 1) r ORDER BY g COLLATE "C"; ROLLBACK});
}

my $standby = $node->standby('standby');
my $round = 0;
foreach my $how (qw(restart crash promotion))
{
	my (@expected, @prepared);
	$round++;
	send_all("free$round", '1 2');
	my %holds = @holds;
	foreach my $kind (sort keys %holds)
	{
		foreach my $end (qw(COMMIT ROLLBACK))
		{
			# one restore of a queue waits for another
			next if $kind eq 'restore' && $end eq ($round == 2 ? 'COMMIT' : 'ROLLBACK');
			my ($before, $take, $hold, $after, $committed, $undone) = @{ $holds{$kind} };
			my $g = "$kind$round$end";
			send_all($g, $before);
			$node->sql(sprintf $take, $g) if $take;
			$node->sql('BEGIN; ' . sprintf($hold, $g) . "; PREPARE TRANSACTION '$g'");
			send_all($g, $after);
			push @prepared, "$end PREPARED '$g'";
			my $left = $end eq 'COMMIT' ? $committed : $undone;
			push @expected, "$g: $left" if $left ne '';
		}
	}
	is(groups($node), "free$round: 1 2", "before a $how: each of " . @prepared . ' prepared transactions holds its group');
	if ($how eq 'promotion')
	{
		$node->wait_for_catchup($standby, 'replay');
		$node->stop('immediate');
		$standby->promote;
		$node = $standby;
	}
	else { $how eq 'crash' ? $node->crash : $node->restart; }
	is(groups($node), "free$round: 1 2", "after a $how: so it does");
	is(groups($node), "free$round: 1 2", '... when receives know it, too');
	$node->sql($_) foreach @prepared;
	is(groups($node), join("\n", sort "free$round: 1 2", @expected), 'when they have ended each group goes on');
	is(groups($node), join("\n", sort "free$round: 1 2", @expected), '... in its order');
	# for the next one
	$node->sql(q{SELECT cmq_clear_queue('q'); DELETE FROM taken});
}

note 'wake-ups';

my ($open, $handle);

sub send_to_w { my ($body) = @_; $node->sql("SELECT cmq_send('w', '$body', message_group => 'g')"); return; }

sub take_from_w { my ($timeout) = @_; $handle = $node->sql('SELECT receipt_handle FROM cmq_receive(\'w\', 1, ' . ($timeout // 'NULL') . ')'); return; }

sub begin
{
	my ($sql) = @_;
	$open = $node->session;
	$open->query_safe("BEGIN; $sql");
	return;
}

# In a queue that is empty something blocks the group; a receive waits; something else
# happens, and the receive returns what it should.
sub wakes
{
	my ($name, $block, $free, $wanted, $filter) = @_;
	$block->();
	my $waiter = $node->wait_for_message('w', $filter);
	ref $free ? $free->() : defined $open ? $open->query_safe($free) : $node->sql($free =~ s/HANDLE/$handle/r);
	is($node->waited($waiter), "$wanted at once", $name);
	$open->quit if defined $open;
	undef $open;
	$node->sql(q{SELECT cmq_clear_queue('w'), cmq_cancel_rewind('w')});
	return;
}

# the first of two is received, and becomes visible after so many seconds
sub first_in_flight { my ($timeout) = @_; return sub { send_to_w($_) foreach 1, 2; take_from_w($timeout); }; }

# ... or a transaction is open that has done something with it
sub first_is_open { my ($sql) = @_; return sub { send_to_w($_) foreach 1, 2; begin($sql); }; }

my $consume = q{SELECT FROM cmq_consume('w')};
my $send = q{SELECT cmq_send('w', '1', message_group => 'g')};
my $sent = sub { begin($send); send_to_w(2); };
my $restored = sub {
	send_to_w(1);
	my $id = $node->sql(q{SELECT msg_id FROM cmq_consume('w')});
	send_to_w(2);
	# receives have passed its place
	$node->sql(q{BEGIN; SELECT FROM cmq_receive('w', 10); ROLLBACK});
	begin("SELECT cmq_restore_messages('w', ARRAY[$id])");
};

wakes('the one in flight is deleted', first_in_flight(), q{SELECT cmq_delete('w', 'HANDLE')}, 2);
wakes('... released', first_in_flight(), q{SELECT cmq_release('w', ARRAY['HANDLE'], 0)}, 1);
wakes('... visible by a change', first_in_flight(), q{SELECT cmq_change_visibility('w', 'HANDLE', 0)}, 1);
wakes('... visible by its time-out', first_in_flight(2), q{SELECT 1}, 1);
wakes('... removed by hand', first_in_flight(), q{DELETE FROM cmq_data.q_w_pending WHERE receive_count > 0}, 2);
wakes('... and all is cleared, and another one is sent', first_in_flight(), q{SELECT cmq_clear_queue('w'); SELECT cmq_send('w', '3', message_group => 'g')}, 3);
wakes('a receive is rolled back', first_is_open(q{SELECT FROM cmq_receive('w')}), 'ROLLBACK', 1);
wakes('... by a savepoint', first_is_open(q{SAVEPOINT a; SELECT FROM cmq_receive('w')}), 'ROLLBACK TO a', 1);
wakes('... by the end of the client', first_is_open(q{SELECT FROM cmq_receive('w')}), sub { $open->quit; undef $open; }, 1);
wakes('a consume commits', first_is_open($consume), 'COMMIT', 2);
wakes('... is rolled back', first_is_open($consume), 'ROLLBACK', 1);
wakes('... by a savepoint', first_is_open("SAVEPOINT a; $consume"), 'ROLLBACK TO a', 1);
wakes('a delete commits', sub { first_in_flight()->(); begin("SELECT cmq_delete('w', '$handle')"); }, 'COMMIT', 2);
wakes('a send commits', $sent, 'COMMIT', 1);
wakes('... is rolled back', $sent, 'ROLLBACK', 2);
wakes('... by a savepoint', sub { begin("SAVEPOINT a; $send"); send_to_w(2); }, 'ROLLBACK TO a', 2);
wakes('a restore commits', $restored, 'COMMIT', 1);
wakes('... is rolled back', $restored, 'ROLLBACK', 2);
wakes('what is delayed is deleted by its id',
	sub { first_in_flight()->(); $node->sql("SELECT cmq_release('w', ARRAY['$handle'], 1000, false)"); },
	q{SELECT cmq_delete_messages('w', array(SELECT msg_id FROM cmq.q_w_live WHERE body = '1'))}, 2);

# a receive with a filter takes nothing of a group whose first message does not fit
my $unwanted_is_due = sub {
	$node->sql(q{SELECT cmq_send('w', '1', message_group => 'g')});
	$node->sql(q{SELECT FROM cmq_consume('w')});
	$node->sql(q{SELECT cmq_send('w', '2', headers => '{"good": true}', message_group => 'g')});
	$node->sql(q{SELECT cmq_rewind('w', now() - interval '10 min')});
};
wakes('a rewind is cancelled, and a filter fits what is behind', $unwanted_is_due, q{SELECT cmq_cancel_rewind('w')}, 2, '{"good": true}');

# A send to more groups than are told apart, which has its ids and writes its rows: it keeps
# all groups from receives.  Its transaction stays open.
$node->sql(q{
	CREATE FUNCTION stops(body text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF length(body) > 60000 THEN
			PERFORM pg_advisory_xact_lock_shared(1);
		END IF;
		RETURN 0;
	END $$;
	CREATE INDEX stops ON cmq_data.q_w (stops(body));
});
my ($stopper, $sender);
my $in_the_window = sub {
	my ($group, $args) = @_;
	$stopper = $node->session;
	$stopper->query_safe('SELECT pg_advisory_lock(1)');
	$sender = $node->session;
	$sender->{stdin} .= q{BEGIN; SELECT FROM cmq_send_batch('w', array_fill(repeat('x', 70000), ARRAY[1]) || array_fill('x'::text, ARRAY[300]), message_groups => array(SELECT 'other' || i FROM generate_series(0, 300) i));} . "\n";
	$sender->{run}->pump_nb;
	$node->wait_until(q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	send_to_w(1);
};
wakes('a send to other groups has written its rows, and is open', $in_the_window, sub { $stopper->quit }, 1);
$sender->quit;
$node->sql('DROP INDEX cmq_data.stops');

foreach (
	[ 'a consume', sub { send_to_w($_) foreach 1, 2; $node->sql("BEGIN; $consume; PREPARE TRANSACTION 'w'"); }, 2, 1 ],
	[ 'a send', sub { $node->sql("BEGIN; $send; PREPARE TRANSACTION 'w'"); send_to_w(2); }, 1, 2 ])
{
	my ($name, $block, $committed, $undone) = @$_;
	wakes("$name that was prepared is committed", $block, q{COMMIT PREPARED 'w'}, $committed);
	wakes('... or rolled back', $block, q{ROLLBACK PREPARED 'w'}, $undone);
}

$node->is_sound;
$node->stop;
done_testing();
