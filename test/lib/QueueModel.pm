package QueueModel;

# A simple model of queues, topics and subscriptions, as several sessions see them.
#
# Rows are kept in tables, by key.  A session sees what it has changed itself, and else
# what is committed; its commit makes its changes committed, its rollback forgets them.
# Rows are replaced, never changed in place.
#
#   queue              settings; paused; rewind: the rewind under way, or undef; life:
#                      which one of the queues that have had this name
#   messages of <q>    see add()
#   keys of <q>        of messages that were sent with a key: id; age: by how many seconds
#                      they were made older
#   topic              name, type
#   subscription       topic, name, queue, filters
#   rewinds            what cmq.rewinds should show
#
# A rewind is the set of the deletions that it undoes: due.  Each deletion has a
# number of its own, so a message that came back and was deleted again is not in it.
#
# A session is a hash that belongs to the caller, of which changes, counted and locks
# are the model's.
#
# In an ordered queue a message of a group waits for others, also for what other sessions
# have not committed: see is_blocked().

use strict;
use warnings;

use Storable qw(dclone);

sub new
{
	my ($class, @sessions) = @_;
	my $self = bless {
		sessions => [@sessions], committed => {}, counted => {}, empty_receives => {}, stuck => {}, last_id => {},
		numbers => 0, duplicates => 0, id_step => 1, id_class => 0
	}, $class;
	$self->rollback($_) foreach @sessions;
	return $self;
}

# A session that sees what is committed.
sub observer { return { changes => {}, counted => {}, locks => {} }; }

sub number { my ($self) = @_; return sprintf '%08d', ++$self->{numbers}; }

#
# Transactions
#

sub rollback
{
	my ($self, $s) = @_;
	@$s{qw(changes counted locks)} = ({}, {}, {});
	return;
}

sub commit
{
	my ($self, $s) = @_;
	foreach my $table (grep { !/^rows of / } keys %{ $s->{changes} })
	{
		my $changes = $s->{changes}{$table};
		foreach my $key (keys %$changes)
		{
			if   (defined $changes->{$key}) { $self->{committed}{$table}{$key} = $changes->{$key}; }
			else                            { delete $self->{committed}{$table}{$key}; }
		}
	}
	foreach my $life (keys %{ $s->{counted} })
	{
		$self->{counted}{$life}{$_} += $s->{counted}{$life}{$_} foreach keys %{ $s->{counted}{$life} };
	}
	$self->rollback($s);
	return;
}

# Prepare the transaction of the session.  Returns a session that has it, to be committed
# or rolled back.
sub prepare
{
	my ($self, $s, %more) = @_;
	my $prepared = { prepared => 1, %more, map { $_ => $s->{$_} } qw(changes counted locks) };
	push @{ $self->{sessions} }, $prepared;
	$self->rollback($s);
	return $prepared;
}

sub end_prepared
{
	my ($self, $prepared, $commit) = @_;
	$commit ? $self->commit($prepared) : $self->rollback($prepared);
	@{ $self->{sessions} } = grep { $_ != $prepared } @{ $self->{sessions} };
	return;
}

# For savepoints.  A rollback to one also gives back the locks taken since: then
# maintenance can have them.
sub save { my ($self, $s) = @_; return dclone([ @$s{qw(changes counted locks)} ]); }

sub rollback_to
{
	my ($self, $s, $saved) = @_;
	@$s{qw(changes counted locks)} = @{ dclone($saved) };
	return;
}

# May the session have this lock to the end of its transaction, without waiting?
sub lock
{
	my ($self, $s, $what) = @_;
	return 0 if grep { $_ != $s && $_->{locks}{$what} } @{ $self->{sessions} };
	$s->{locks}{$what} = 1;
	return 1;
}

# Has no other open transaction used the queue?
sub is_alone
{
	my ($self, $s, $q) = @_;
	return !grep { $_ != $s && $_->{locks}{"use of $q"} } @{ $self->{sessions} };
}

# Has another open transaction changed the row?
sub is_busy
{
	my ($self, $s, $table, $key) = @_;
	return !!grep { $_ != $s && exists +($_->{changes}{$table} // {})->{$key} } @{ $self->{sessions} };
}

# The server has stopped and started again.  What is prepared is still there, and is not
# counted when it commits.
sub restart
{
	my ($self) = @_;
	$self->rollback($_) foreach grep { !$_->{prepared} } @{ $self->{sessions} };
	$_->{counted} = {} foreach grep { $_->{prepared} } @{ $self->{sessions} };
	@$self{qw(counted empty_receives stuck)} = ({}, {}, {});
	return;
}

#
# Rows
#

sub rows
{
	my ($self, $s, $table) = @_;
	my %rows = (%{ $self->{committed}{$table} // {} }, %{ $s->{changes}{$table} // {} });
	return grep { defined } map { $rows{$_} } sort keys %rows;
}

sub row
{
	my ($self, $s, $table, $key) = @_;
	my $changes = $s->{changes}{$table} // {};
	return exists $changes->{$key} ? $changes->{$key} : ($self->{committed}{$table} // {})->{$key};
}

sub set
{
	my ($self, $s, $table, $key, $row) = @_;
	$s->{changes}{$table}{$key} = $row;
	$self->note_row($s, $1, $row) if $table =~ /^messages of (.*)/ && $row && $row->{state} ne 'deleted' && $row->{group} ne '';
	return;
}

sub queue
{
	my ($self, $s, $q) = @_;
	$s->{locks}{"use of $q"} = 1;
	return $self->row($s, 'queue', $q);
}

sub alter
{
	my ($self, $s, $q, %settings) = @_;
	$self->set($s, 'queue', $q, { %{ $self->queue($s, $q) }, %settings });
	return;
}

sub create
{
	my ($self, $s, $q, %settings) = @_;
	$self->set(
		$s, 'queue', $q,
		{
			name => $q, visibility_timeout => 30, msg_retention_seconds => 345600, rewind_seconds => 0,
			max_msg_size => 1048576, max_msg_heap_num => 100000000, dead_letter_queue => '', max_receive_count => 0, max_time_to_live => 0,
			retry_backoff_seconds => 0, retry_backoff_max_seconds => 3600, rewind_share => 100, ordered => 0, dedup_seconds => 0, paused => 0, rewind => undef, life => $self->number, %settings
		});
	return;
}

sub drop
{
	my ($self, $s, $q) = @_;
	$self->remove($s, $q, $_) foreach $self->messages($s, $q);
	$self->forget_keys($s, $q);
	$self->set($s, 'queue', $q, undef);
	$self->set($s, 'subscription', "$_->{topic} $_->{name}", undef) foreach $self->subscriptions_of($s, $q);
	return;
}

sub subscriptions_of
{
	my ($self, $s, $q) = @_;
	return grep { $_->{queue} eq $q } $self->rows($s, 'subscription');
}

# The queues whose dead letters go to this one.
sub sources
{
	my ($self, $s, $q) = @_;
	return grep { $_->{dead_letter_queue} eq $q } $self->rows($s, 'queue');
}

#
# Messages
#

# The messages of a queue in the order of production; due: a rewind brings it back.
sub messages
{
	my ($self, $s, $q) = @_;
	my $queue = $self->queue($s, $q) or return ();
	my $due = $queue->{rewind} ? $queue->{rewind}{due} : {};
	return map { +{ %$_, due => $_->{state} eq 'deleted' && $due->{ $_->{deletion} } ? 1 : 0 } } $self->rows($s, "messages of $q");
}

sub pending
{
	my ($self, $s, $q) = @_;
	return grep { $_->{state} ne 'deleted' } $self->messages($s, $q);
}

# The first of them that waits for a receive, is delayed or in flight, or undef: no rewind
# begins later.
sub oldest
{
	my ($self, $s, $q) = @_;
	my ($oldest) = grep { $_->{due} || $_->{state} ne 'deleted' } $self->messages($s, $q);
	return $oldest;
}

# Has another open transaction changed the message?  Receives pass it over, others wait.
sub is_held { my ($self, $s, $q, $m) = @_; return $self->is_busy($s, "messages of $q", $m->{id}); }

sub is_paused { my ($self, $s, $q) = @_; my $queue = $self->queue($s, $q); return $queue && $queue->{paused}; }

# What a receive may take, in order, unless the queue is paused.
sub ready
{
	my ($self, $s, $q) = @_;
	my $key = sub { $_[0]{due} ? $_[0]{id} : $_[0]{key} };
	return sort { $key->($a) <=> $key->($b) || $a->{id} <=> $b->{id} }
	  grep { ($_->{due} || $_->{state} eq 'ready') && !$self->is_held($s, $q, $_) } $self->messages($s, $q);
}

# The same as lists, each with an order of its own: with a rewind_share what a rewind
# brings back and the other messages take turns, and the model does not say whose it is.
sub sources_of_receive
{
	my ($self, $s, $q) = @_;
	my @ready = $self->is_paused($s, $q) ? () : $self->ready($s, $q);
	return [@ready] if !$self->queue($s, $q) || $self->queue($s, $q)->{rewind_share} == 100;
	return ([ grep { $_->{due} } @ready ], [ grep { !$_->{due} } @ready ]);
}

# A receive of so many messages of a kind ('': all) has returned these ids.  Returns what
# is wrong with them; the messages; the dead ones that it has passed over, and those that
# it may have.
sub received
{
	my ($self, $s, $q, $n, $kind, @ids) = @_;
	my @sources = $self->sources_of_receive($s, $q);
	my (@taken, @dead, @perhaps);
	my $wanted = sub { my ($m) = @_; return !$self->is_dead($s, $q, $m) && ($kind eq '' || $m->{kind} eq $kind); };
	foreach my $id (@ids)
	{
		my $found;
		foreach my $source (@sources)
		{
			my ($i) = grep { $wanted->($source->[$_]) } 0 .. $#$source;
			next if $found || !defined $i || $source->[$i]{id} != $id;
			push @dead, grep { $self->is_dead($s, $q, $_) } splice @$source, 0, $i;
			$found = shift @$source;
		}
		return "not the turn of $id" unless $found;
		push @taken, $found;
	}
	my $left = grep { $wanted->($_) } map { @$_ } @sources;
	return 'too many' if @ids > $n;
	return "$left left" if @ids < $n && $left;
	foreach my $source (@sources)
	{
		next if grep { $wanted->($_) } @$source;
		# at the end of one source it may have been that one's turn
		my $passed = @ids < $n ? \@dead : @sources > 1 && $taken[-1]{due} ? \@perhaps : [];
		push @$passed, grep { $self->is_dead($s, $q, $_) } @$source;
	}
	my %place = do { my $i = 0; map { $_->{id} => $i++ } $self->ready($s, $q) };
	@dead = sort { $place{ $a->{id} } <=> $place{ $b->{id} } } @dead;
	return ('', \@taken, \@dead, \@perhaps);
}

#
# Groups
#

sub is_ordered { my ($self, $s, $q) = @_; my $queue = $self->queue($s, $q); return $queue && $queue->{ordered}; }

# Was the pending message received in this life, or moved?  Then it stands before all that
# wait in its group as they were sent or brought back.
sub is_moved { my ($self, $m) = @_; return $m->{state} ne 'ready' || $m->{rc} > 0 || $m->{key} != $m->{id}; }

# A session has written a row that others can see to be there until it commits, also if
# it replaces it in the same transaction.
sub note_row
{
	my ($self, $s, $q, $m) = @_;
	my $rows = $s->{changes}{"rows of $q"} //= {};
	$rows->{ $m->{id} } = { %{ $rows->{ $m->{id} } // {} }, group => $m->{group}, ($self->is_moved($m) ? 'moved' : 'waiting') => 1 };
	return;
}

# Can nothing of a group be had?  And from which id on not, undef if there is none.
sub is_blocked
{
	my ($self, $s, $q, $group) = @_;
	my $due = ($self->queue($s, $q)->{rewind} // { due => {} })->{due};
	my @closed;
	foreach my $m (grep { $_->{group} eq $group && !$_->{due} } $self->pending($s, $q))
	{
		return 1 if $m->{state} ne 'ready';
	}
	foreach my $other (grep { $_ != $s } @{ $self->{sessions} })
	{
		# it has consumed messages of the group
		return 1 if $other->{locks}{"group $group of $q"};
		foreach my $id (keys %{ $other->{changes}{"messages of $q"} // {} })
		{
			my $was = $self->{committed}{"messages of $q"}{$id};
			my $row = ($other->{changes}{"rows of $q"} // {})->{$id};
			if ($was && $was->{group} eq $group)
			{
				push @closed, $id if $was->{state} ne 'deleted' || $due->{ $was->{deletion} };
				return 1 if $was->{state} ne 'deleted' && $self->is_moved($was);
			}
			if ($row && $row->{group} eq $group)
			{
				push @closed, $id;
				return 1 if $row->{moved};
			}
		}
	}
	return (0, (sort { $a <=> $b } @closed)[0]);
}

# What can be had of a group, in order.
sub of_group
{
	my ($self, $s, $q, $group) = @_;
	my ($blocked, $closed) = $self->is_blocked($s, $q, $group);
	return () if $blocked;
	return grep { $_->{group} eq $group && ($_->{due} || $_->{state} eq 'ready') && (!defined $closed || $_->{id} < $closed) } $self->messages($s, $q);
}

# What a receive of a kind may take from an ordered queue: lists, each of which is to be
# taken in order; and the dead that it meets, a list for each of these.  gone: ids of
# messages that are not there any more.
sub ordered_lists
{
	my ($self, $s, $q, $kind, $gone) = @_;
	return () if $self->is_paused($s, $q);
	my %groups = map { $_->{group} => 1 } grep { $_->{group} ne '' } $self->messages($s, $q);
	my @ready = grep { $_->{group} eq '' } $self->ready($s, $q);
	my @lists;
	foreach my $source ([ grep { $_->{due} } @ready ], [ grep { !$_->{due} } @ready ])
	{
		my @there = grep { !$gone->{ $_->{id} } } @$source;
		push @lists, { take => [ grep { !$self->is_dead($s, $q, $_) && ($kind eq '' || $_->{kind} eq $kind) } @there ], dead => [ grep { $self->is_dead($s, $q, $_) } @there ], free => 1 };
	}
	foreach my $group (sort keys %groups)
	{
		my %list = (take => [], dead => [], free => 0);
		foreach my $m (grep { !$gone->{ $_->{id} } } $self->of_group($s, $q, $group))
		{
			my $dead = $self->is_dead($s, $q, $m);
			# what is behind a dead one has to wait
			last if !$dead && (@{ $list{dead} } || ($kind ne '' && $m->{kind} ne $kind));
			push @{ $list{ $dead ? 'dead' : 'take' } }, $m;
		}
		push @lists, \%list;
	}
	return @lists;
}

# The same as received(), for an ordered queue; moves: dead letters can be moved.  The dead
# are those that have been moved for sure.
sub received_in_order
{
	my ($self, $s, $q, $n, $kind, $moves, @ids) = @_;
	my (%gone, @taken, @dead, @lists);
	for (;;)
	{
		@lists = $self->ordered_lists($s, $q, $kind, \%gone);
		last if !$moves || grep { @{ $_->{take} } } @lists;
		# then the receive looks again
		my @now = map { @{ $_->{dead} } } @lists or last;
		push @dead, @now;
		$gone{ $_->{id} } = 1 foreach @now;
	}
	foreach my $id (@ids)
	{
		my ($list) = grep { @{ $_->{take} } && $_->{take}[0]{id} == $id } @lists or return "not the turn of $id";
		push @taken, shift @{ $list->{take} };
	}
	my $left = map { @{ $_->{take} } } @lists;
	return 'too many' if @ids > $n;
	return "$left left" if @ids < $n && $left;
	my @met = map { @{ $_->{dead} } } grep { $_->{free} || !@{ $_->{take} } } @lists;
	return ('', \@taken, $moves ? @ids < $n ? ([ @dead, @met ], []) : (\@dead, \@met) : ([], []));
}

# What a receive of these ids takes from an ordered queue, in order.
sub chosen_in_order
{
	my ($self, $s, $q, @ids) = @_;
	my %wanted = map { $_ => 1 } @ids;
	my (%seen, @chosen);
	foreach my $m ($self->waiting($s, $q, @ids))
	{
		if ($m->{group} eq '')
		{
			push @chosen, $m unless $self->is_dead($s, $q, $m);
			next;
		}
		next if $seen{ $m->{group} }++;
		foreach my $of_group ($self->of_group($s, $q, $m->{group}))
		{
			last if !$wanted{ $of_group->{id} } || $self->is_dead($s, $q, $of_group);
			push @chosen, $of_group;
		}
	}
	return @chosen;
}

# Those of these ids that wait, in the order of production.
sub waiting
{
	my ($self, $s, $q, @ids) = @_;
	my %wanted = map { $_ => 1 } @ids;
	return grep { $wanted{ $_->{id} } && ($_->{due} || $_->{state} =~ /ready|delayed/) && !$self->is_held($s, $q, $_) } $self->messages($s, $q);
}

# Why a message is dead, '' if it is not.  A message older than max_time_to_live is dead;
# the age of one that was delayed begins with the end of the delay, that of one that was
# brought back with its first receive.
sub is_dead
{
	my ($self, $s, $q, $m) = @_;
	my $queue = $self->queue($s, $q);
	return '' if $queue->{dead_letter_queue} eq '' || $m->{due} || $m->{state} ne 'ready';
	return 'max_receive_count' if $queue->{max_receive_count} && $m->{rc} >= $queue->{max_receive_count};
	return 'max_time_to_live' if $queue->{max_time_to_live} && ($m->{wc} ? $m->{first} eq 'old' : $m->{old});
	return '';
}

# Moving dead letters has failed: all sessions know at once, until maintenance tries.
sub stick { my ($self, $s, $q, $stuck) = @_; $self->{stuck}{ $self->queue($s, $q)->{life} } = $stuck; return; }

sub is_stuck { my ($self, $s, $q) = @_; return $self->{stuck}{ $self->queue($s, $q)->{life} }; }

# Make all messages of a queue older by so much, while no transaction is open.  Delays go
# on: they end when they would have ended.
sub age
{
	my ($self, $s, $q, $usecs) = @_;
	foreach my $m ($self->messages($s, $q))
	{
		my %new = (%$m, id => $m->{id} - $usecs, old => $m->{waits} ? 0 : 1, first => $m->{first} eq '' ? '' : 'old');
		delete $new{due};
		$new{key} -= $usecs if $m->{state} eq 'ready';
		my (undef, $key, @counts) = split /-/, $m->{handle};
		$new{handle} = join '-', $new{id}, $m->{state} eq 'ready' ? $new{key} : $key, @counts if $m->{handle} ne '';
		$self->remove($s, $q, $m);
		$self->set($s, "messages of $q", $new{id}, \%new);
	}
	foreach my $key ($self->rows($s, "keys of $q"))
	{
		$self->set($s, "keys of $q", $key->{key}, { %$key, id => $key->{id} - $usecs, age => $key->{age} + $usecs / 1_000_000 });
	}
	return;
}

# All delays in a queue are over, since this time, while no transaction is open.
sub end_delays
{
	my ($self, $s, $q, $time) = @_;
	$self->change($s, $q, $_, waits => 0, $_->{state} eq 'delayed' ? (state => 'ready', key => $time) : ()) foreach $self->messages($s, $q);
	return;
}

# The pending message that the receipt handle is good for.
sub holder
{
	my ($self, $s, $q, $handle) = @_;
	my ($m) = grep { $_->{handle} eq $handle } $self->pending($s, $q);
	return $m;
}

# A message: id; key, what it is ordered by when it is ready; state: ready, delayed, in
# flight or deleted; deletion, its number if it is deleted; rc and wc, receive_count
# and rewind_count; handle of the last delivery; kind, a header; bytes of the body;
# source, of a dead letter; old, if it has been made so; first, when it was first received
# since it was sent or brought back: '', new or old; waits, if the delay that it was sent
# with goes on; group, in an ordered queue; carried, the group of a dead letter whose queue
# has none.
sub add
{
	my ($self, $s, $q, $id, %more) = @_;
	my %m = (
		id => $id, key => $id, state => 'ready', deletion => '', rc => 0, wc => 0, handle => '', kind => '', bytes => 1,
		source => '', old => 0, first => '', waits => 0, group => '', carried => '', %more);
	$self->set($s, "messages of $q", $id, \%m);
	$self->count($s, $q, sent => 1, bytes => $m{bytes});
	return;
}

sub change
{
	my ($self, $s, $q, $m, %changes) = @_;
	$self->set($s, "messages of $q", $m->{id}, { %$m, %changes });
	return;
}

sub remove
{
	my ($self, $s, $q, $m) = @_;
	$self->set($s, "messages of $q", $m->{id}, undef);
	return;
}

# Receive the message; returns what it is then.
sub receive
{
	my ($self, $s, $q, $m) = @_;
	my ($rc, $wc) = $m->{due} ? (1, $m->{wc} + 1) : ($m->{rc} + 1, $m->{wc});
	$self->count($s, $q, received => 1, redelivered => $rc > 1 ? 1 : 0, rewound => $rc == 1 && $wc > 0 ? 1 : 0);
	return { %$m, rc => $rc, wc => $wc, first => $m->{due} || $m->{first} eq '' ? 'new' : $m->{first} };
}

# For how many seconds a message that is released stays away.
sub back_off
{
	my ($self, $s, $q, $m) = @_;
	my $queue = $self->queue($s, $q);
	my $seconds = $queue->{retry_backoff_seconds} * 2**($m->{rc} - 1);
	return $seconds < $queue->{retry_backoff_max_seconds} ? $seconds : $queue->{retry_backoff_max_seconds};
}

# The receiver gives a message back: it becomes visible at key.
sub release
{
	my ($self, $s, $q, $m, $seconds, $counted, $key) = @_;
	my $rc = $m->{rc} - ($counted ? 0 : 1);
	$self->change($s, $q, $m, state => !$seconds ? 'ready' : $rc ? 'in_flight' : 'delayed', rc => $rc, first => $rc ? $m->{first} : '', key => $key, handle => '');
	return;
}

sub consume
{
	my ($self, $s, $q, $m) = @_;
	if   ($self->queue($s, $q)->{rewind_seconds}) { $self->change($s, $q, $m, state => 'deleted', deletion => $self->number); }
	else                                          { $self->remove($s, $q, $m); }
	$self->count($s, $q, deleted => 1);
	return;
}

# Delete a message that waits.  If a rewind brings it back nobody has received it since.
sub take_back
{
	my ($self, $s, $q, $m) = @_;
	return $self->consume($s, $q, $m->{due} ? { %$m, rc => 0, wc => $m->{wc} + 1 } : $m);
}

# Is one of these ids or handles of a class that another server gives out?
sub is_foreign { my ($self, @ids) = @_; return !!grep { /^(-?\d+)/ && $1 % $self->{id_step} != $self->{id_class} } @ids; }

# Add the messages sent by one call, with the ids that the server gave them.  Returns
# what is wrong with the ids.
sub deliver
{
	my ($self, $s, $q, $ids, @messages) = @_;
	my $last = $self->{last_id}{$q} // 0;
	return 'ids of ' . @messages . " messages in $q: @$ids" if @$ids != @messages || grep { !/^\d+$/ } @$ids;
	foreach my $id (@$ids)
	{
		return "ids in $q that do not increase: $last, $id" if $id <= $last;
		$last = $id;
		$self->add($s, $q, $id, %{ shift @messages });
	}
	$self->{last_id}{$q} = $last;
	return '';
}

#
# Keys
#

# The id of the message that keeps another one with this key from being stored, or undef.
sub sent_before
{
	my ($self, $s, $q, $key) = @_;
	my $queue = $self->queue($s, $q);
	return if $key eq '' || !$queue || !$queue->{dedup_seconds};
	my $row = $self->row($s, "keys of $q", $key);
	return $row && $row->{age} < $queue->{dedup_seconds} ? $row->{id} : undef;
}

# Would a send with one of these keys wait for another open transaction?
sub waits_for_key
{
	my ($self, $s, $q, @keys) = @_;
	return !!grep { $_ ne '' && $self->is_busy($s, "keys of $q", $_) } @keys;
}

# How many messages with these keys are not stored; earlier are those that the same call
# has sent before.
sub count_duplicates
{
	my ($self, $s, $q, $earlier, @keys) = @_;
	my $queue = $self->queue($s, $q);
	return 0 if !$queue || !$queue->{dedup_seconds};
	return scalar grep { $_ ne '' && (defined $self->sent_before($s, $q, $_) || $earlier->{$_}++) } @keys;
}

# The same as deliver() for messages with keys: '' is none.
sub deliver_once
{
	my ($self, $s, $q, $keys, $ids, @messages) = @_;
	return $self->deliver($s, $q, $ids, @messages) if @$ids != @messages;
	foreach my $i (0 .. $#messages)
	{
		my $before = $self->sent_before($s, $q, $keys->[$i]);
		if (defined $before)
		{
			return "key $keys->[$i] in $q: got $ids->[$i], expected $before" if $ids->[$i] ne $before;
			$self->{duplicates}++;
			next;
		}
		my $wrong = $self->deliver($s, $q, [ $ids->[$i] ], $messages[$i]);
		return $wrong if $wrong;
		$self->keep_key($s, $q, $keys->[$i], $ids->[$i]);
	}
	return '';
}

sub keep_key
{
	my ($self, $s, $q, $key, $id) = @_;
	my $queue = $self->queue($s, $q);
	$self->set($s, "keys of $q", $key, { key => $key, id => $id, age => 0 }) if $key ne '' && $queue->{dedup_seconds};
	return;
}

sub forget_keys
{
	my ($self, $s, $q) = @_;
	$self->set($s, "keys of $q", $_->{key}, undef) foreach $self->rows($s, "keys of $q");
	return;
}

# The error that a send of so many bytes must meet, '' if none; n more messages have
# been sent before it by the same call, and as many of these are duplicates.  The delay is in seconds.
sub refusal
{
	my ($self, $s, $q, $bytes, $n, $delay, $duplicates) = @_;
	my $stored = @$bytes - ($duplicates // 0);
	my $queue = $self->queue($s, $q) or return '!42704';
	return '!54000' if grep { $_ > $queue->{max_msg_size} } @$bytes;
	return '!22023' if ($delay // 0) >= $queue->{msg_retention_seconds};
	return '!53400' if $stored > 0 && $self->pending($s, $q) + $n + $stored > $queue->{max_msg_heap_num};
	return '';
}

# What a restore of [from, to) brings back; undef: no bound; kind '': all.
sub history
{
	my ($self, $s, $q, $from, $to, $kind) = @_;
	return grep { $_->{state} eq 'deleted' && !$_->{due} && $_->{id} >= ($from // 0) && (!defined $to || $_->{id} < $to) && ($kind eq '' || $_->{kind} eq $kind) }
	  $self->messages($s, $q);
}

#
# What manages queues and topics, and brings messages back.  Each does it, and returns what
# the server must answer; if that is an error, as ! and SQLSTATE, nothing has happened.
#

sub create_queue
{
	my ($self, $s, $q, %settings) = @_;
	return '!42710' if $self->queue($s, $q);
	$self->create($s, $q, %settings);
	return '-';
}

sub drop_queue
{
	my ($self, $s, $q) = @_;
	return '!42704' unless $self->queue($s, $q);
	return '!2BP01' if $self->sources($s, $q);
	$self->drop($s, $q);
	return '-';
}

sub alter_queue
{
	my ($self, $s, $q, %settings) = @_;
	my $queue = $self->queue($s, $q) or return '!42704';
	my $dead = $settings{dead_letter_queue};
	if (defined $dead)
	{
		# not to itself, nor to a queue that has one
		return '!22023' if $dead eq $q;
		my $target = $self->queue($s, $dead) or return '!42704';
		return '!22023' if $self->sources($s, $q) || $target->{dead_letter_queue} ne '';
	}
	return '!22023' if ($dead // $queue->{dead_letter_queue}) eq '' && grep { /^max_(?:receive|time)/ } keys %settings;
	if (($settings{rewind_seconds} // 1) == 0)
	{
		$self->remove($s, $q, $_) foreach grep { $_->{state} eq 'deleted' } $self->messages($s, $q);
		$settings{rewind} = undef;
	}
	$self->forget_keys($s, $q) if ($settings{dedup_seconds} // 1) == 0;
	$self->alter($s, $q, %settings);
	return '-';
}

sub unbind_dead_letter
{
	my ($self, $s, $q) = @_;
	return '!42704' unless $self->queue($s, $q);
	$self->alter($s, $q, dead_letter_queue => '', max_receive_count => 0, max_time_to_live => 0);
	return '-';
}

sub set_paused
{
	my ($self, $s, $q, $paused) = @_;
	my $queue = $self->queue($s, $q) or return '!42704';
	return 'false' if $queue->{paused} == $paused;
	$self->record($s, kind => $paused ? 'pause' : 'resume', queue => $q);
	$self->alter($s, $q, paused => $paused);
	return 'true';
}

sub clear_queue
{
	my ($self, $s, $q) = @_;
	my $queue = $self->queue($s, $q) or return '!42704';
	my @pending = $self->pending($s, $q);
	$self->remove($s, $q, $_) foreach @pending;
	$self->record($s, kind => 'cancel', queue => $q) if $queue->{rewind};
	$self->alter($s, $q, rewind => undef);
	return scalar @pending;
}

# From this id on; -1: from before the rewind window.
sub rewind
{
	my ($self, $s, $q, $from) = @_;
	my $queue = $self->queue($s, $q) or return '!42704';
	return '!55000' unless $queue->{rewind_seconds};
	my $oldest = $self->oldest($s, $q);
	return '!22023' if $from < 0 || ($oldest && $from > $oldest->{id});
	my @back = grep { $_->{state} eq 'deleted' && $_->{id} >= $from } $self->messages($s, $q);
	my $no = @back || $queue->{rewind} ? $self->record($s, kind => 'rewind', queue => $q) : 0;
	$self->alter($s, $q, rewind => @back ? { no => $no, due => { map { $_->{deletion} => 1 } @back } } : undef);
	return @back ? $back[0]{id} : '-';
}

sub cancel_rewind
{
	my ($self, $s, $q) = @_;
	my $queue = $self->queue($s, $q) or return '!42704';
	return '!55000' unless $queue->{rewind_seconds};
	return 'false' unless $queue->{rewind};
	$self->record($s, kind => 'cancel', queue => $q);
	$self->alter($s, $q, rewind => undef);
	return 'true';
}

# The window and kind are those of history().
sub refusal_of_window
{
	my ($self, $s, $q, $from, $to) = @_;
	my $queue = $self->queue($s, $q) or return '!42704';
	return '!55000' unless $queue->{rewind_seconds};
	return defined $to && $from > $to ? '!22023' : '';
}

sub preview
{
	my ($self, $s, $q, $from, $to, $kind) = @_;
	my $refusal = $self->refusal_of_window($s, $q, $from, $to);
	return $refusal if $refusal;
	my @meant = $self->history($s, $q, $from, $to, $kind);
	my $bytes = 0;
	$bytes += $_->{bytes} foreach @meant;
	return join ' ', scalar @meant, $bytes, @meant ? ($meant[0]{id}, $meant[-1]{id}) : ();
}

# expected: how many messages, undef: any number.
sub restore
{
	my ($self, $s, $q, $from, $to, $kind, $expected) = @_;
	my $refusal = $self->refusal_of_window($s, $q, $from, $to);
	return $refusal if $refusal;
	my @meant = $self->history($s, $q, $from, $to, $kind);
	return '!21000' if defined $expected && $expected != @meant;
	return $self->bring_back($s, $q, @meant);
}

sub restore_messages
{
	my ($self, $s, $q, @ids) = @_;
	return '!42704' unless $self->queue($s, $q);
	return '!55000' unless $self->queue($s, $q)->{rewind_seconds};
	return '!22023' if $self->is_foreign(@ids);
	my %ids = map { $_ => 1 } @ids;
	my @meant = grep { $ids{ $_->{id} } } $self->history($s, $q, undef, undef, '');
	$self->bring_back($s, $q, @meant);
	return join(' ', map { $_->{id} } @meant) || '-';
}

# What restores do.
sub bring_back
{
	my ($self, $s, $q, @messages) = @_;
	foreach my $m (@messages)
	{
		$self->change($s, $q, $m, state => 'ready', key => $m->{id}, rc => 0, wc => $m->{wc} + 1, handle => '', first => '');
	}
	$self->record($s, kind => 'restore', queue => $q, messages => scalar @messages) if @messages;
	return scalar @messages;
}

sub create_topic
{
	my ($self, $s, $name, $type) = @_;
	return '!42710' if $self->row($s, 'topic', $name);
	$self->set($s, 'topic', $name, { name => $name, type => $type });
	return '-';
}

sub drop_topic
{
	my ($self, $s, $name) = @_;
	return '!42704' unless $self->row($s, 'topic', $name);
	return '!2BP01' if grep { $_->{topic} eq $name } $self->rows($s, 'subscription');
	$self->set($s, 'topic', $name, undef);
	return '-';
}

sub subscribe
{
	my ($self, $s, $topic, $name, $q, $tags, $keys) = @_;
	my $row = $self->row($s, 'topic', $topic) or return '!42704';
	return '!42704' unless $self->queue($s, $q);
	return '!22023' if $row->{type} eq 'tag' ? $keys : $tags || !$keys;
	return '!42710' if $self->row($s, 'subscription', "$topic $name");
	$self->set($s, 'subscription', "$topic $name", { topic => $topic, name => $name, queue => $q, filters => $tags // $keys });
	return '-';
}

sub unsubscribe
{
	my ($self, $s, $topic, $name) = @_;
	return '!42704' unless $self->row($s, 'subscription', "$topic $name");
	$self->set($s, 'subscription', "$topic $name", undef);
	return '-';
}

# Does the subscription want what is published with these tags, or this routing key?
sub wants
{
	my ($self, $topic, $subscription, $tags, $key) = @_;
	my $filters = $subscription->{filters} or return 1;
	if ($topic->{type} eq 'tag')
	{
		my %tags = map { $_ => 1 } @$tags;
		return !!grep { $tags{$_} } @$filters;
	}
	foreach my $filter (@$filters)
	{
		my $regex = join '', map { $_ eq '#' ? '(?:[^.]*[.])*' : $_ eq '*' ? '[^.]+[.]' : "\Q$_\E[.]" } split /[.]/, $filter;
		return 1 if "$key." =~ /^$regex$/;
	}
	return 0;
}

#
# What the views show
#

sub count
{
	my ($self, $s, $q, %n) = @_;
	my $life = $self->queue($s, $q)->{life};
	$s->{counted}{$life}{$_} += $n{$_} foreach keys %n;
	return;
}

# What is counted at once, whatever becomes of the transaction.
sub count_empty_receive
{
	my ($self, $s, $q) = @_;
	$self->{empty_receives}{ $self->queue($s, $q)->{life} }++;
	return;
}

sub record
{
	my ($self, $s, %row) = @_;
	my $no = $self->number;
	$self->set($s, 'rewinds', $no, { no => $no, into => '', messages => '', %row });
	return $no;
}

sub contents
{
	my ($self, $s, $q) = @_;
	return join ' ', map { ($_->{due} ? "$_->{id}:ready:0:" . ($_->{wc} + 1) : "$_->{id}:$_->{state}:$_->{rc}:$_->{wc}") . ($_->{group} eq '' ? '' : ":$_->{group}") }
	  $self->messages($s, $q);
}

sub attributes
{
	my ($self, $s, $q) = @_;
	my $queue = $self->queue($s, $q);
	my @messages = $self->messages($s, $q);
	my $oldest = $self->oldest($s, $q);
	my %n;
	$n{ $_->{due} ? 'ready' : $_->{state} }++ foreach @messages;
	return join ' ', (map { $n{$_} // 0 } 'ready', 'in_flight', 'delayed', 'deleted'),
	  @$queue{qw(visibility_timeout msg_retention_seconds rewind_seconds rewind_share dedup_seconds max_msg_size max_msg_heap_num)},
	  $queue->{dead_letter_queue} || '-', @$queue{qw(max_receive_count max_time_to_live)}, $oldest ? $oldest->{id} : 'now', 't';
}

sub metrics
{
	my ($self, $s, $q) = @_;
	my $life = $self->queue($s, $q)->{life};
	my $counted = $self->{counted}{$life} // {};
	my @messages = $self->messages($s, $q);
	my $left = grep { $_->{due} } @messages;
	my %n;
	$n{ $_->{state} }++ foreach @messages;
	return join ' ', (map { $counted->{$_} // 0 } qw(sent received redelivered rewound deleted dead_lettered bytes)),
	  $self->{empty_receives}{$life} // 0, 0, $left + $self->pending($s, $q), $left, (map { $n{$_} // 0 } 'in_flight', 'delayed'),
	  (grep { $_->{due} || $_->{state} eq 'ready' } @messages) ? 't' : 'f';
}

# cmq.status: what it shows exactly, however large the history.
sub status
{
	my ($self, $s, $q) = @_;
	my @messages = $self->messages($s, $q);
	my $oldest = $self->oldest($s, $q);
	my $dead = $self->queue($s, $q)->{dead_letter_queue};
	my $left = grep { $_->{due} } @messages;
	my %n;
	$n{ $_->{due} ? 'ready' : $_->{state} }++ foreach @messages;
	return join ' ', (map { $n{$_} // 0 } 'ready', 'in_flight', 'delayed'), $left, $self->is_paused($s, $q) ? 'paused' : 'goes',
	  $dead ? (grep { $_->{due} || $_->{state} ne 'deleted' } $self->messages($s, $dead)) + 0 : '-',
	  !$self->queue($s, $q)->{rewind_seconds} ? 'none' : $oldest ? $oldest->{id} : 'now';
}

# A rewind shows what it has left to bring back.
sub rewinds
{
	my ($self, $s) = @_;
	my @lines;
	foreach my $row ($self->rows($s, 'rewinds'))
	{
		my $queue = $self->queue($s, $row->{queue});
		my $left = $queue && $queue->{rewind} && $queue->{rewind}{no} eq $row->{no} ? grep { $_->{due} } $self->messages($s, $row->{queue}) : 0;
		push @lines, join ' ', grep { $_ ne '' } @$row{qw(queue kind into)}, $row->{kind} eq 'rewind' ? $left : $row->{messages};
	}
	return @lines;
}

1;
