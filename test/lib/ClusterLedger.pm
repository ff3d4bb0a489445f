package ClusterLedger;

# Clients of queues of a cluster, and a ledger on their side.  A client asks the front where
# to connect to, has a short session there, and asks again, also after an error.  It notes
# what was acknowledged, and what was in doubt: under way when the connection was lost.
#
#   my $ledger = ClusterLedger->new($front);
#   $ledger->start_senders('q', 2); $ledger->start_consumers('q', 4);
#   $ledger->start_caller('q', 'rewind', 'restore');    calls these in turn
#   $ledger->goes_on('when', q => [ 1, 2 ]);    a test: soon each of these nodes has traffic
#   $ledger->wait_for('what', sub { ... });     a test: soon that is true of the ledger
#   $ledger->mark; ... since($client, 'session')    what a client has noted since then
#   $ledger->stop('sender');                    they end when nothing of theirs is in doubt
#   $ledger->check('q');
#
# In the ledger:
#   sent{queue}{body}{id}             of a send that was acknowledged: its node
#   maybe_sent{queue}{body}           how many sends of it were in doubt; each was repeated
#   gone{queue}{id}{life}             how many acknowledged deletions; a life is rewind_count
#   maybe_gone{queue}{id}{life}       how many in doubt: that life can be received again
#   body{queue}{id}
#   sent_on, gone_on{queue}{node}     how many were acknowledged
#   calls                             of rewind and restore: queue, kind, name; done: its result,
#                                     or failed: the SQLSTATE

use strict;
use warnings;

use CmqNode;
use File::Temp;
use List::Util qw(max min sum0);
use POSIX ();
use Test::More;
use Time::HiRes qw(usleep);

# How psql ends.
use constant { LOST => 2, ERROR => 3 };

sub new
{
	my ($class, $front) = @_;
	return bless {
		front => $front, dir => File::Temp->newdir, clients => [], no => 0, calls => [], errors => {}, complaints => [],
		map { $_ => {} } qw(sent maybe_sent sent_on gone maybe_gone gone_on body eras)
	}, $class;
}

#
# Clients; what follows runs in a process of its own
#

sub note_line
{
	my ($client, @fields) = @_;
	syswrite $client->{book}, join('|', @fields) . "\n";
	return;
}

# Run psql; returns what it wrote, as lists of fields, and how it ended.
sub psql
{
	my ($client, $connstr, $script) = @_;
	my $file = $client->{file};

	open my $out, '>', "$file.sql" or die $!;
	print $out $script;
	close $out;
	local @ENV{qw(CONNSTR FILE)} = ($connstr, $file);
	my $status = system('exec psql -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -d "$CONNSTR" -f "$FILE.sql" > "$FILE.out" 2> "$FILE.err"') >> 8;
	open my $in, '<', "$file.out" or die $!;
	my @lines = map { chomp; [ split /\|/, $_, -1 ] } <$in>;
	close $in;
	open $in, '<', "$file.err" or die $!;
	my $complaints = join ' ', map { chomp; $_ } <$in>;
	close $in;
	$client->{code} = $complaints =~ /(?:ERROR|FATAL):  (\w{5}): / ? $1 : $status == LOST ? 'lost' : $status;
	note_line($client, 'error', $client->{code}) if $status;
	# leave the machine to what changes that
	usleep(200_000) if $status;
	# an error of a known state is for the test to judge; whatever else there is for the reader
	note_line($client, 'complaint', $complaints =~ s/\|/!/gr) if $complaints =~ /WARNING/ || $status && $status != LOST && $status != ERROR;
	return ($status, @lines);
}

# Where to connect to.
sub ask
{
	my ($client) = @_;
	my $number = defined $client->{number} ? ", $client->{number}" : '';
	my ($status, $line) = psql($client, $client->{front}, "SELECT cmq_cluster.connection('$client->{queue}'$number);");
	return $status ? undef : $line->[0];
}

my $session = q{SELECT 'session', current_setting('cmq.msg_id_offset'), (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint;} . "\n";

# Three kinds of sends, of bodies that no other message has.
sub send_script
{
	my ($queue, @bodies) = @_;
	my $try = "\\echo try|@bodies\n";
	return $try . "SELECT 'sent', cmq_send('$queue', '$bodies[0]');\n" if @bodies == 1;
	return $try . "SELECT 'sent', string_agg(id::text, ' ') FROM cmq_send_batch('$queue', '{" . join(',', @bodies) . "}') id;\n" if @bodies == 3;
	return $try . "BEGIN;\nSELECT cmq_send('$queue', '$bodies[0]') AS id0 \\gset\nSELECT cmq_send('$queue', '$bodies[1]') AS id1 \\gset\nCOMMIT;\n\\echo sent|:id0 :id1\n";
}

sub run_sender
{
	my ($client) = @_;
	my (@again, $n);

	until (!@again && -e $client->{stop})
	{
		usleep(150_000);
		my $connstr = ask($client) // next;
		my @requests = (@again, map { my $more = $_ % 3; [ map { $client->{name} . '-' . ++$n } 0 .. $more ] } 0 .. 5);
		my $open;
		my ($status, @lines) = psql($client, $connstr, $session . join '', map { send_script($client->{queue}, @$_) } @requests);
		@again = ();
		foreach (@lines)
		{
			my ($what, @rest) = @$_;
			$open = $rest[0] if $what eq 'try';
			note_line($client, $what, @rest) if $what eq 'session';
			if ($what eq 'sent')
			{
				note_line($client, 'sent', $rest[0], $open);
				undef $open;
			}
		}
		if (defined $open)
		{
			note_line($client, 'maybe_sent', $open) if $status == LOST;
			@again = ([ split / /, $open ]);
		}
	}
	return;
}

# Messages that are deleted after they were received, and messages that are consumed in one
# transaction, by turns.
sub consume_script
{
	my ($queue, $turn) = @_;
	my $columns = q{count(*) = 0 AS none, string_agg(what, ' ') AS got};
	my $what = q{(SELECT msg_id || ':' || rewind_count || ':' || body AS what, receipt_handle};
	my $quit = "\\if :none\n\\q\n\\endif\n\\echo try|:got\n";
	return "BEGIN;\nSELECT $columns FROM $what FROM cmq_consume('$queue', 10, polling_wait_seconds => 1)) m \\gset\n${quit}COMMIT;\n\\echo gone|:got\n" if $turn % 2;
	return "SELECT $columns, array_agg(receipt_handle) AS handles, array_agg(what) AS whats FROM $what FROM cmq_receive('$queue', 10, polling_wait_seconds => 1)) m \\gset\n"
	  . $quit . "SELECT 'gone', string_agg(u.what, ' ') FROM cmq_delete_batch('$queue', :'handles') d JOIN unnest(:'handles'::text[], :'whats'::text[]) u(handle, what) ON u.handle = d;\n";
}

sub run_consumer
{
	my ($client) = @_;
	until (-e $client->{stop})
	{
		usleep(50_000);
		my $connstr = ask($client) // next;
		my $open;
		my ($status, @lines) = psql($client, $connstr, $session . join '', map { consume_script($client->{queue}, $_ + $client->{number}) } 1 .. 8);
		foreach (@lines)
		{
			my ($what, @rest) = @$_;
			$open = $rest[0] if $what eq 'try';
			note_line($client, $what, @rest) if $what eq 'session';
			if ($what eq 'gone')
			{
				note_line($client, 'gone', $rest[0]);
				undef $open;
			}
		}
		note_line($client, 'maybe_gone', $open) if defined $open && $status == LOST;
	}
	return;
}

# Brings back what was produced within the last two seconds, and what is unconsumed and older.
sub run_caller
{
	my ($client) = @_;
	my $n = 0;
	until (-e $client->{stop})
	{
		usleep(500_000);
		my $kind = $client->{kinds}[ $n % @{ $client->{kinds} } ];
		my $name = $client->{name} . '-' . ++$n;
		my $result = $kind eq 'restore' ? 'restored' : 'rewound_from';
		my ($status, @lines) = psql($client, $client->{front}, <<SQL);
SET cmq.reason = '$name';
SELECT greatest(earliest_rewind_time, least(latest_rewind_time, now() - interval '2 s')) AS start FROM cmq_cluster.queue_attributes('$client->{queue}') WHERE node IS NULL AND error IS NULL
UNION ALL SELECT now() - interval '2 s' LIMIT 1 \\gset
\\echo called
CALL cmq_cluster.$kind('$client->{queue}', :'start') \\gset
\\echo done|:$result
SQL
		next if !@lines;	# the front did not get that far
		note_line($client, 'call', $kind, $name, $status ? ('failed', $client->{code}) : ('done', $lines[-1][1]));
	}
	return;
}

#
# The test's side
#

sub start
{
	my ($self, $run, $role, $queue, %more) = @_;
	my $test = $$;
	my $no = $self->{no}++;
	my $file = "$self->{dir}/$no";
	my $client = { %more, role => $role, queue => $queue, file => $file, name => "c$no", stop => "$self->{dir}/stop_$role", front => $self->{front}->connstr('postgres'), read => 0, notes => [] };

	open $client->{book}, '>', "$file.book" or die $!;
	my $pid = fork;
	die $! unless defined $pid;
	if ($pid == 0)
	{
		setpgrp;
		open STDIN, '<', '/dev/null';
		# if the test is gone, so is its folder
		eval { $run->($client); 1 } or note_line($client, 'complaint', $@ =~ s/\|/!/gr =~ s/\n/ /gr);
		# not exit: that would stop the servers, which are the test's
		POSIX::_exit(0);
	}
	setpgrp $pid, $pid;
	$client->{pid} = $pid;
	push @{ $self->{clients} }, $client;
	return $client;
}

sub start_senders { my ($self, $queue, $n) = @_; $self->start(\&run_sender, 'sender', $queue) foreach 1 .. $n; return; }

sub start_consumers { my ($self, $queue, $n) = @_; $self->start(\&run_consumer, 'consumer', $queue, number => $_) foreach 0 .. $n - 1; return; }

sub start_caller { my ($self, $queue, @kinds) = @_; $self->start(\&run_caller, 'caller', $queue, kinds => \@kinds); return; }

sub of_role { my ($self, $role, $queue) = @_; return grep { $_->{role} eq $role && (!defined $queue || $_->{queue} eq $queue) } @{ $self->{clients} }; }

sub enter_gone
{
	my ($self, $client, $book, $list) = @_;
	foreach (split / /, $list)
	{
		my ($id, $life, $body) = split /:/;
		$self->{$book}{ $client->{queue} }{$id}{$life}++;
		$self->{body}{ $client->{queue} }{$id} = $body;
	}
	return;
}

sub enter
{
	my ($self, $client, $what, @rest) = @_;
	my $queue = $client->{queue};

	push @{ $client->{notes} }, [ $what, @rest ];
	if ($what eq 'session')
	{
		@$client{qw(node era)} = @rest;
	}
	elsif ($what eq 'sent')
	{
		my @ids = split / /, $rest[0];
		my @bodies = split / /, $rest[1];
		foreach (0 .. $#bodies)
		{
			$self->{sent}{$queue}{ $bodies[$_] }{ $ids[$_] } = $client->{node};
			push @{ $self->{eras}{$queue}{ $client->{node} }{ $client->{era} } }, $ids[$_];
		}
		$self->{sent_on}{$queue}{ $client->{node} } += @ids;
	}
	elsif ($what eq 'maybe_sent')
	{
		$self->{maybe_sent}{$queue}{$_}++ foreach split / /, $rest[0];
	}
	elsif ($what eq 'gone' || $what eq 'maybe_gone')
	{
		$self->enter_gone($client, $what, $rest[0]);
		$self->{gone_on}{$queue}{ $client->{node} } += split / /, $rest[0] if $what eq 'gone';
	}
	elsif ($what eq 'call')
	{
		push @{ $self->{calls} }, { queue => $queue, kind => $rest[0], name => $rest[1], $rest[2] => $rest[3] };
	}
	elsif ($what eq 'error')
	{
		$self->{errors}{"$client->{role}s of $queue: $rest[0]"}++;
	}
	else
	{
		push @{ $self->{complaints} }, "$client->{role} of $queue: @rest";
	}
	return;
}

# Enter what clients have noted.
sub read_books
{
	my ($self) = @_;
	foreach my $client (@{ $self->{clients} })
	{
		open my $book, '<', "$client->{file}.book" or die $!;
		seek $book, $client->{read}, 0;
		while (my $line = <$book>)
		{
			last unless $line =~ /\n\z/;
			$client->{read} += length $line;
			chomp $line;
			$self->enter($client, split /\|/, $line, -1);
		}
		close $book;
	}
	return;
}

# A test: soon that is true of the ledger.
sub wait_for
{
	my ($self, $name, $wanted) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ok = ok(eventually(sub { $self->read_books; return $wanted->() }), $name);
	BAIL_OUT('clients do not get on: ' . join ', ', map { "$_ ($self->{errors}{$_})" } sort keys %{ $self->{errors} }) unless $ok;
	return;
}

sub mark
{
	my ($self) = @_;
	$self->read_books;
	$_->{mark} = @{ $_->{notes} } foreach @{ $self->{clients} };
	return;
}

# What a client has noted since the mark, of this kind.
sub since
{
	my ($client, $what) = @_;
	my @notes = @{ $client->{notes} };
	return grep { $_->[0] eq $what } @notes[ $client->{mark} .. $#notes ];
}

# A test: from now on these nodes of each queue send and consume, and each caller of a queue
# has brought messages back in each of its ways.
sub goes_on
{
	my ($self, $when, %nodes) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my %before;

	$self->mark;
	foreach my $queue (keys %nodes)
	{
		$before{$_}{$queue} = { %{ $self->{$_}{$queue} // {} } } foreach qw(sent_on gone_on);
	}
	$self->wait_for("$when: traffic and calls go on", sub {
		foreach my $queue (keys %nodes)
		{
			foreach my $node (@{ $nodes{$queue} })
			{
				return 0 if grep { ($self->{$_}{$queue}{$node} // 0) <= ($before{$_}{$queue}{$node} // 0) } qw(sent_on gone_on);
			}
			foreach my $caller ($self->of_role('caller', $queue))
			{
				my %done = map { $_->[1] => 1 } grep { $_->[3] eq 'done' } since($caller, 'call');
				return 0 if grep { !$done{$_} } @{ $caller->{kinds} };
			}
		}
		return 1;
	});
	return;
}

sub stop
{
	my ($self, $role) = @_;
	open my $file, '>', "$self->{dir}/stop_$role" or die $!;
	close $file;
	foreach my $client ($self->of_role($role))
	{
		if (!eventually { waitpid($client->{pid}, POSIX::WNOHANG()) == $client->{pid} })
		{
			kill 'KILL', -$client->{pid};
			waitpid $client->{pid}, 0;
			push @{ $self->{complaints} }, "$role of $client->{queue} did not end";
		}
		delete $client->{pid};
	}
	$self->read_books;
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	my @pids = grep { defined } map { $_->{pid} } @{ $self->{clients} };
	kill 'KILL', map { -$_ } @pids;
	waitpid $_, 0 foreach @pids;
	return;
}

sub is_none
{
	my ($name, @wrong) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $more = @wrong - 10;
	splice @wrong, 10, $more, "and $more more" if $more > 0;
	is(join("\n", @wrong), '', $name);
	return;
}

# How many times was each message brought back, as its consumers saw it?
sub lives { my ($self, $queue, $id) = @_; return max(keys %{ $self->{gone}{$queue}{$id} // {} }, keys %{ $self->{maybe_gone}{$queue}{$id} // {} }); }

sub ids { my ($self, $queue) = @_; my %ids = (%{ $self->{gone}{$queue} }, %{ $self->{maybe_gone}{$queue} // {} }); return sort { $a <=> $b } keys %ids; }

# When the queue is empty and the clients have ended: compare what was sent with what was
# consumed.
sub check
{
	my ($self, $queue) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($sent, $gone, $maybe) = map { $self->{$_}{$queue} // {} } qw(sent gone maybe_gone);
	my %acknowledged = map { my $body = $_; map { $_ => $body } keys %{ $sent->{$body} } } keys %$sent;
	my (%ids_of, @twice, @skipped, @foreign);

	push @{ $ids_of{ $self->{body}{$queue}{$_} } }, $_ foreach $self->ids($queue);
	is_none("queue $queue: each message whose send was acknowledged was consumed, of " . keys %acknowledged,
		grep { !$gone->{$_} && !$maybe->{$_} } sort keys %acknowledged);
	is_none("queue $queue: each has its body", grep { ($self->{body}{$queue}{$_} // $acknowledged{$_}) ne $acknowledged{$_} } sort keys %acknowledged);
	foreach my $id ($self->ids($queue))
	{
		foreach (0 .. $self->lives($queue, $id))
		{
			push @twice, "$id in life $_" if ($gone->{$id}{$_} // 0) > 1;
			push @skipped, "$id in life $_" if !$gone->{$id}{$_} && !$maybe->{$id}{$_};
		}
		push @foreign, $id if !$acknowledged{$id} && !$self->{maybe_sent}{$queue}{ $self->{body}{$queue}{$id} };
	}
	my $back = sum0(map { $self->lives($queue, $_) } $self->ids($queue));
	is_none("queue $queue: nothing was consumed twice, but for what was brought back, $back times", @twice);
	is_none("queue $queue: and all that was brought back was consumed", @skipped);
	is_none("queue $queue: all that was consumed had been sent, or its send was in doubt", @foreign);
	my $more = sum0(map { @{ $ids_of{$_} } - 1 } keys %ids_of);
	is_none("queue $queue: only what was in doubt was sent twice, $more of " . keys %{ $self->{maybe_sent}{$queue} // {} },
		grep { @{ $ids_of{$_} } - 1 > ($self->{maybe_sent}{$queue}{$_} // 0) } sort keys %ids_of);
	return;
}

# Ids are of the class of their node, none was given out twice, and those of a server that
# took a node's place are greater than those before.
sub check_ids
{
	my ($self, $queue, $step) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $nodes = $self->{eras}{$queue};
	my (%seen, @foreign, @twice, @early);

	foreach my $node (sort keys %$nodes)
	{
		my $last = 0;
		foreach my $era (sort { $a <=> $b } keys %{ $nodes->{$node} })
		{
			my @ids = @{ $nodes->{$node}{$era} };
			push @foreign, "$_ of node $node" foreach grep { $_ % $step != $node } @ids;
			push @twice, grep { $seen{$_}++ } @ids;
			push @early, "node $node, server of $era" if min(@ids) <= $last;
			$last = max(@ids);
		}
	}
	is_none("queue $queue: ids are of the class of their node", @foreign);
	is_none("queue $queue: no id was given out twice", @twice);
	is_none("queue $queue: ids are greater than those of the server before", @early);
	return;
}

1;
