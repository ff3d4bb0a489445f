package ClientLedger;

# Clients that send, receive, delete, consume, rewind and restore, and a ledger, on their
# side, of what a server acknowledged: a result is printed only when its transaction
# has committed.  A client whose server goes away tries again, on each server that takes
# writes, until it gets on.
#
#   my $ledger = ClientLedger->new($node);           makes queue q
#   $ledger->start(8, $node);                        or more nodes, one of them the primary
#   $ledger->wait_for(1000);                         answers
#   $ledger->rewind_all;
#   $node->kill_server; or any other end; $ledger->{node} = the next one
#   $ledger->wait_for_next_server(100);              if the clients shall go on
#   $ledger->finish('crash');
#   $ledger->check('crash');
#   $ledger->check_complaints($node);                of all servers, once

use strict;
use warnings;

use CmqNode;
use Complaints;
use File::Temp;
use POSIX ();
use PostgreSQL::Test::Utils;
use Seed;
use Test::More;
use Time::HiRes qw(usleep);

# A server from its start to its end, as clients see it.  Later ones have later
# times: a standby that is to be promoted is started after its primary.
my $era = q{(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint};

sub new
{
	my ($class, $node) = @_;
	my $self = bless {
		node => $node, dir => File::Temp->newdir, clients => [], no => 0,
		sent => {}, deleted => {}, calls => {}, useful => {}, overtaken => 0, complaints => [], last_id => 0
	}, $class;

	$self->sql(q{
		SELECT FROM cmq_create_queue('q', visibility_timeout => 1, rewind_seconds => 3600, msg_retention_seconds => 7200);
		-- since when some of the last messages are, and of those in the history; whatever the clock does
		CREATE FUNCTION recently_sent() RETURNS timestamptz LANGUAGE sql AS
		$$ SELECT min(enqueued_at) FROM (SELECT enqueued_at FROM cmq_data.q_q ORDER BY 1 DESC LIMIT 1 + (random() * 200)::int) m $$;
		CREATE FUNCTION recently_deleted() RETURNS timestamptz LANGUAGE sql AS
		$$ SELECT coalesce(min(enqueued_at), now()) FROM (SELECT enqueued_at FROM cmq.q_q_history ORDER BY 1 DESC LIMIT 1 + (random() * 50)::int) h $$;
		CREATE TABLE history_before_rewind (enqueued_at timestamptz, rewind_count int);
	});
	return $self;
}

sub sql
{
	my ($self, $sql) = @_;
	return $self->{node}->sql($sql);
}

my $consume = q{WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 3)) SELECT 'd', msg_id FROM got WHERE cmq_delete('q', receipt_handle);};

# A name for a call, by which the record finds it.
my $named = q{set_config('cmq.reason', gen_random_uuid()::text, false)};

# Each is a transaction and prints one line.
my @statements = (
	(q{SELECT 's', cmq_send('q', 'm');}) x 16,
	(q{SELECT 's', id FROM cmq_send_batch('q', ARRAY['b1', 'b2', 'b3']) id;}) x 6,
	(q{SELECT 's', cmq_send('q', 'late', 1);}) x 2,
	($consume) x 16,
	(q{SELECT 'd', msg_id FROM cmq_consume('q', 3);}) x 12,
	(q{SELECT 'd', id FROM cmq_delete_messages('q', array(SELECT msg_id FROM cmq.q_q_live LIMIT 2)) id;}) x 2,
	(q{SELECT FROM cmq_receive('q', 2);}) x 4,
	(q{SELECT FROM (SELECT cmq_change_visibility('q', receipt_handle, 0) FROM cmq_receive('q')) v;}) x 2,
	qq{SELECT 'rewind', $named, cmq_rewind('q', least(recently_sent(), latest_rewind_time)) IS NOT NULL FROM cmq_queue_attributes('q');},
	qq{SELECT 'restore', $named, cmq_restore('q', recently_deleted());},
	(q{BEGIN; SELECT cmq_send('q', 'never') \g /dev/null
ROLLBACK;}) x 2,
	(q{BEGIN; SELECT count(*) FROM cmq_consume('q', 3) \g /dev/null
ROLLBACK;}) x 2);

# Runs in a client until it is killed, or the test is gone.
sub run_client
{
	my ($test, $file, $connstr) = @_;

	setpgrp;
	open STDIN, '<', '/dev/null' or return;
	open STDOUT, '>>', "$file.out" or return;
	open STDERR, '>>', "$file.err" or return;
	while (getppid() == $test)
	{
		system('psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $connstr, '-f', "$file.sql");
		# most likely the server refused it: leave the machine to what changes that
		usleep(100_000);
	}
	return;
}

sub start
{
	my ($self, $n, @nodes) = @_;
	my $connstr = 'dbname=postgres target_session_attrs=read-write'
	  . ' host=' . join(',', map { $_->host } @nodes)
	  . ' port=' . join(',', map { $_->port } @nodes);

	$self->{era} = $self->sql("SELECT $era");
	foreach (1 .. $n)
	{
		my $file = $self->{dir} . '/' . $self->{no}++;
		my $test = $$;

		open my $script, '>', "$file.sql" or die $!;
		print $script "SELECT 'era', $era;\n";
		print $script $statements[ rand @statements ], "\n" foreach 1 .. 20_000;
		close $script;

		my $pid = fork;
		die $! unless defined $pid;
		if ($pid == 0)
		{
			run_client($test, $file, $connstr);
			# not exit: that would stop the servers, which are the test's
			POSIX::_exit(0);
		}
		# the client does this, too, but may be killed before
		setpgrp $pid, $pid;
		push @{ $self->{clients} }, { file => $file, pid => $pid };
	}
	return;
}

# What a client has been told: lists of server, kind, and the rest of the line.
sub read_book
{
	my ($client) = @_;
	my ($server, @book);

	open my $out, '<', "$client->{file}.out" or return ();
	while (my $line = <$out>)
	{
		# a client at work, or killed, may have written half a line
		last unless $line =~ s/\n$//;
		my ($kind, @rest) = split /\|/, $line;
		if ($kind eq 'era')
		{
			$server = $rest[0];
			next;
		}
		push @book, [ $server, $kind, @rest ];
	}
	close $out;
	return @book;
}

# Did a rewind or restore bring anything back?
sub is_useful
{
	my ($kind, $result) = @_;
	return $kind eq 'rewind' && $result eq 't' || $kind eq 'restore' && $result > 0;
}

sub no_complaints
{
	my ($what, @lines) = @_;
	my $more = @lines - 20;

	splice @lines, 20, $more, "and $more more lines" if $more > 0;
	is(join("\n", @lines), '', $what);
	return;
}

# Wait until the books of all running clients are as wanted.
sub poll_books
{
	my ($self, $what, $wanted) = @_;

	return if eventually { $wanted->(map { [ read_book($_) ] } @{ $self->{clients} }) };
	no_complaints('clients can work', Complaints::of_clients($self->client_errors), Complaints::of_server($self->{node}));
	BAIL_OUT("clients have $what");
}

# Wait until the running clients have had so many answers, and messages were brought back.
sub wait_for
{
	my ($self, $n) = @_;
	$self->poll_books('too few answers', sub {
		my @entries = map { @$_ } @_;
		my %useful = map { $_->[1] => 1 } grep { @$_ == 4 && is_useful(@$_[ 1, 3 ]) } @entries;
		return @entries >= $n && $useful{rewind} && $useful{restore};
	});
	return;
}

# Wait until each of the running clients has had so many answers of a server that was
# not there when they were started.
sub wait_for_next_server
{
	my ($self, $n) = @_;
	$self->poll_books('too few answers of the next server', sub {
		return !grep { (grep { $_->[0] > $self->{era} } @$_) < $n } @_;
	});
	return;
}

# What the clients wrote, without half lines.
sub client_errors
{
	my ($self) = @_;
	return join '', map { slurp_file($_) =~ s/[^\n]*\z//r } grep { -e } map { "$_->{file}.err" } @{ $self->{clients} };
}

# Wait until some client has been refused: there is no server that takes writes.
sub wait_for_refused
{
	my ($self) = @_;
	$self->poll_books('not been refused', sub { grep { Complaints::is_refused($_) } split /\n/, $self->client_errors });
	return;
}

# Bring everything in the history back, and remember what that is.
sub rewind_all
{
	my ($self) = @_;
	$self->sql(q{
		TRUNCATE history_before_rewind;
		INSERT INTO history_before_rewind SELECT enqueued_at, rewind_count FROM cmq_data.q_q_rewind;
		SELECT cmq_rewind('q', min(enqueued_at)) FROM cmq_data.q_q;
	});
	return;
}

sub rewind_is_under_way
{
	my ($self) = @_;
	return $self->sql(q{SELECT rewinding_from IS NOT NULL FROM cmq.queues WHERE queue = 'q'}) eq 't';
}

sub note_entry
{
	my ($self, $servers, $server, $kind, $id, $result) = @_;

	if ($kind eq 'd')
	{
		$self->{deleted}{$id}++;
	}
	elsif ($kind eq 's')
	{
		my $range = $servers->{$server} //= { first => $id, last => $id };

		$self->{duplicates}++ if exists $self->{sent}{$id};
		$self->{sent}{$id} = 1;
		$range->{first} = $id if $id < $range->{first};
		$range->{last} = $id if $id > $range->{last};
	}
	else
	{
		# a call that brings nothing back leaves no row
		$self->{calls}{$id} = $kind eq 'restore' ? "restore $result" : $kind if is_useful($kind, $result);
		$self->{useful}{$kind}++ if is_useful($kind, $result);
	}
	return;
}

# When the clients have lost their server, or are told to stop: read their books.
sub finish
{
	my ($self, $when) = @_;
	my %servers;
	my ($answers, $early) = (0, 0);

	kill 'KILL', map { -$_->{pid} } @{ $self->{clients} };
	waitpid $_->{pid}, 0 foreach @{ $self->{clients} };

	$self->{duplicates} = 0;
	foreach my $client (@{ $self->{clients} })
	{
		my @book = read_book($client);
		$self->note_entry(\%servers, @$_) foreach @book;
		$answers += @book;
	}
	my $errors = $self->client_errors;
	$self->{overtaken} += Complaints::count_overtaken($errors);
	push @{ $self->{complaints} }, Complaints::of_clients($errors);
	$self->{clients} = [];

	foreach my $server (sort { $a <=> $b } keys %servers)
	{
		$early++ if $servers{$server}{first} <= $self->{last_id};
		$self->{last_id} = $servers{$server}{last};
	}
	cmp_ok($answers, '>', 0, "$when: $answers answers");
	is($self->{duplicates}, 0, "$when: no id was given out twice");
	is($early, 0, "$when: ids are greater than those before, of " . keys(%servers) . ' servers');
	return;
}

# Receive and delete all, whatever its state.
sub consume_all
{
	my ($self) = @_;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $out = $self->sql(q{UPDATE cmq_data.q_q_pending SET visible_at = enqueued_at;} . $consume =~ s/, 3\)/, 1000)/r);
		return if $out eq '';
		$self->{deleted}{$_}++ foreach $out =~ /^d\|(\d+)$/mg;
	}
	BAIL_OUT('messages do not come to an end');
}

# Compare the books with the record.
sub check_record
{
	my ($self, $when) = @_;
	my %record = map { split /\|/ } split /\n/, $self->sql(
		q{SELECT reason, CASE kind WHEN 'restore' THEN 'restore ' || messages ELSE kind END FROM cmq.rewinds WHERE reason IS NOT NULL});
	my $calls = $self->{calls};

	is(scalar(grep { ($record{$_} // '') ne $calls->{$_} } keys %$calls), 0,
		"$when: each rewind and restore that was acknowledged is in the record, of " . keys %$calls);
	return;
}

# Compare the books with the tables; consume what is left, and compare again.
sub check
{
	my ($self, $when) = @_;

	# a client that was killed may have left its last transaction behind
	$self->{node}->wait_until(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});

	my %there = map { $_ => 1 } split /\n/, $self->sql('SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_q');
	is(scalar(grep { !$there{$_} } keys %{ $self->{sent} }), 0,
		"$when: each message whose send was acknowledged is there, of " . keys %{ $self->{sent} });
	my $two_states = q{
		SELECT count(*)
		  FROM cmq_data.q_q m
		  FULL JOIN (SELECT enqueued_at, count(*) AS states
					   FROM (SELECT enqueued_at FROM cmq_data.q_q_pending UNION ALL SELECT enqueued_at FROM cmq_data.q_q_rewind) s
					  GROUP BY 1) s ON s.enqueued_at = m.enqueued_at
		 WHERE m.enqueued_at IS NULL OR states IS DISTINCT FROM 1};
	is($self->sql($two_states), '0', "$when: each message is in one state");
	$self->check_record($when);

	$self->consume_all;
	is($self->sql('SELECT count(*) FROM cmq_data.q_q_pending'), '0', "$when: all that was left can be consumed");
	is($self->sql(q{SELECT active_msg_num + inactive_msg_num + delay_msg_num FROM cmq_queue_attributes('q')}), '0',
		"$when: and nothing is due");
	is($self->sql($two_states), '0', "$when: and then is in the history");

	# a message is deleted once, and once more each time it came back
	my %allowed = map { split /\|/ } split /\n/,
	  $self->sql('SELECT cmq.msg_id(enqueued_at), rewind_count + 1 FROM cmq_data.q_q_rewind');
	is(scalar(grep { $self->{deleted}{$_} > ($allowed{$_} // 0) } keys %{ $self->{deleted} }), 0,
		"$when: no delete that was acknowledged was undone, of " . keys %{ $self->{deleted} });
	return;
}

# After rewind_all() and check(): what was in the history has come back.
sub check_came_back
{
	my ($self, $when) = @_;
	my ($all, $missing) = split /\|/, $self->sql(q{
		SELECT count(*), count(*) FILTER (WHERE r.rewind_count IS NULL OR r.rewind_count <= h.rewind_count)
		  FROM history_before_rewind h LEFT JOIN cmq_data.q_q_rewind r USING (enqueued_at)});

	cmp_ok($all, '>', 0, "$when: $all messages had been deleted before the rewind");
	is($missing, '0', "$when: and each came back");
	return;
}

# At the end: clients brought messages back, and all complaints are of what was done to
# the servers.
sub check_complaints
{
	my ($self, @nodes) = @_;

	my %useful = (rewind => 0, restore => 0, %{ $self->{useful} });

	cmp_ok($useful{$_}, '>', 0, "messages were brought back by $useful{$_} calls of $_") foreach qw(rewind restore);
	cmp_ok($self->{overtaken}, '<', $useful{rewind}, "few rewinds were overtaken: $self->{overtaken}");
	no_complaints('clients had no errors but those to be expected', @{ $self->{complaints} });
	no_complaints('nor had ' . $_->name, Complaints::of_server($_)) foreach @nodes;
	return;
}

1;
