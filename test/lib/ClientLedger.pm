package ClientLedger;

# Clients that send, receive, delete, rewind and restore until their server goes
# away, and a ledger, on their side, of what the server acknowledged: a result is
# printed only when its transaction has committed.
#
#   my $ledger = ClientLedger->new($node, $seed);    makes queue q
#   $ledger->start(8);
#   $ledger->wait_for(1000);                         answers, on top of all before
#   ... the server crashes, is restarted or replaced ($ledger->{node} = ...)
#   $ledger->finish('crash');
#   $ledger->check('crash');

use strict;
use warnings;

use File::Temp;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

sub new
{
	my ($class, $node, $seed) = @_;
	my $self = bless {
		node => $node, dir => File::Temp->newdir, clients => [], no => 0,
		sent => {}, deleted => {}, last_id => 0, answers => 0
	}, $class;

	srand($seed);
	note("CMQ_TEST_SEED=$seed");
	$self->sql(q{
		CREATE EXTENSION IF NOT EXISTS cmq;
		SELECT FROM cmq_create_queue('q', visibility_timeout => 1, rewind_seconds => 3600, msg_retention_seconds => 7200);
	});
	return $self;
}

sub sql
{
	my ($self, $sql) = @_;
	return $self->{node}->safe_psql('postgres', $sql);
}

my $consume = q{WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('q', 3)) SELECT 'd', msg_id FROM got WHERE cmq_delete('q', receipt_handle);};

# Each a transaction; one line each.
my @statements = (
	(q{SELECT 's', cmq_send('q', 'm');}) x 8,
	(q{SELECT 's', id FROM cmq_send_batch('q', ARRAY['b1', 'b2', 'b3']) id;}) x 3,
	(q{SELECT 's', cmq_send('q', 'late', 1);}) x 1,
	($consume) x 14,
	(q{SELECT FROM cmq_receive('q', 2);}) x 2,
	(q{SELECT FROM (SELECT cmq_change_visibility('q', receipt_handle, 0) FROM cmq_receive('q')) v;}) x 1,
	q{SELECT FROM cmq_rewind('q', now() - interval '200 ms');},
	q{SELECT FROM cmq_restore('q', now() - interval '100 ms', NULL);},
	q{BEGIN; SELECT cmq_send('q', 'never') \g /dev/null
ROLLBACK;});

sub start
{
	my ($self, $n) = @_;
	my $node = $self->{node};

	foreach (1 .. $n)
	{
		my $file = $self->{dir} . '/' . $self->{no}++;
		open my $script, '>', "$file.sql" or die $!;
		print $script $statements[ rand @statements ], "\n" foreach 1 .. 20_000;
		close $script;
		push @{ $self->{clients} },
		  {
			out => "$file.out",
			run => IPC::Run::start(
				[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-f', "$file.sql", '-o', "$file.out" ],
				'<', \undef, '2>', "$file.err")
		  };
	}
	return;
}

sub lines
{
	my ($self) = @_;
	my $n = 0;
	foreach my $client (@{ $self->{clients} })
	{
		open my $out, '<', $client->{out} or next;
		$n++ while <$out>;
		close $out;
	}
	return $n;
}

# Until the running clients have had so many answers.
sub wait_for
{
	my ($self, $n) = @_;
	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if $self->lines >= $n;
		usleep(20_000);
	}
	BAIL_OUT('clients have too few answers');
}

sub note_line
{
	my ($self, $line) = @_;
	my ($what, $id) = $line =~ /^([sd])\|(\d+)$/ or return;

	if ($what eq 'd')
	{
		$self->{deleted}{$id}++;
		return;
	}
	$self->{duplicates}++ if exists $self->{sent}{$id};
	$self->{sent}{$id} = 1;
	$self->{early}++ if $id <= $self->{last_id};
	$self->{max_id} = $id if $id > ($self->{max_id} // 0);
}

# The clients have lost their server, or are told to stop; read their books.
sub finish
{
	my ($self, $when) = @_;
	my $answers = 0;

	$self->{early} = $self->{duplicates} = 0;
	foreach my $client (@{ $self->{clients} })
	{
		$client->{run}->kill_kill;
		open my $out, '<', $client->{out} or next;
		while (my $line = <$out>)
		{
			# a client that was killed may have written half a line
			last unless $line =~ s/\n$//;
			$self->note_line($line);
			$answers++;
		}
		close $out;
	}
	$self->{clients} = [];
	$self->{last_id} = $self->{max_id} // 0;
	cmp_ok($answers, '>', 0, "$when: $answers answers");
	is($self->{duplicates}, 0, "$when: no id was given out twice");
	is($self->{early}, 0, "$when: ids are greater than those before");
	return;
}

# Compare the books with the tables; consume what is left, and compare again.
sub check
{
	my ($self, $when) = @_;

	# a client that was killed may have left its last transaction behind
	$self->{node}->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()})
	  or BAIL_OUT('clients are still there');

	my %there = map { $_ => 1 } split /\n/, $self->sql('SELECT cmq.msg_id(enqueued_at) FROM cmq.q_q');
	is(scalar(grep { !$there{$_} } keys %{ $self->{sent} }), 0,
		"$when: each message whose send was acknowledged is there, of " . keys %{ $self->{sent} });
	my $two_states = q{SELECT count(*) FROM cmq.q_q m
		WHERE (SELECT count(*) FROM cmq.q_q_pending p WHERE p.enqueued_at = m.enqueued_at)
			+ (SELECT count(*) FROM cmq.q_q_rewind r WHERE r.enqueued_at = m.enqueued_at) <> 1};
	is($self->sql($two_states), '0', "$when: each message is in one state");

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $out = $self->sql(q{UPDATE cmq.q_q_pending SET visible_at = enqueued_at;} . $consume =~ s/, 3\)/, 1000)/r);
		last if $out eq '';
		$self->note_line($_) foreach split /\n/, $out;
	}
	is($self->sql('SELECT count(*) FROM cmq.q_q_pending'), '0', "$when: all that was left can be consumed");
	is($self->sql($two_states), '0', "$when: and then is in the history");

	# a message is deleted once, and once more each time it came back
	my %allowed = map { split /\|/ } split /\n/,
	  $self->sql('SELECT cmq.msg_id(enqueued_at), rewind_count + 1 FROM cmq.q_q_rewind');
	is(scalar(grep { $self->{deleted}{$_} > ($allowed{$_} // 0) } keys %{ $self->{deleted} }), 0,
		"$when: no delete that was acknowledged was undone, of " . keys %{ $self->{deleted} });
	return;
}

1;
