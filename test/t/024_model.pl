# A random program of the public functions on several sessions, checked after each
# step against a simple model of the queues.  CMQ_TEST_SEED repeats a run.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Storable qw(dclone);
use Test::More;

my $steps = $ENV{CMQ_TEST_STEPS} // ($ENV{CMQ_TEST_LONG} ? 10_000 : 700);
my $seed = $ENV{CMQ_TEST_SEED} || time();
srand($seed);
note("CMQ_TEST_SEED=$seed");

my $node = PostgreSQL::Test::Cluster->new('model');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = 1h
fsync = off
client_min_messages = error
CONF
$node->start;

my @sessions = map { $node->background_psql('postgres') } 1 .. 3;
my $observer = $node->background_psql('postgres');
$observer->query_safe(q{
	CREATE EXTENSION cmq;
	-- The result of a query, as one text, or its SQLSTATE.
	CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		result text;
	BEGIN
		EXECUTE command INTO result;
		RETURN coalesce(result, '-');
	EXCEPTION WHEN OTHERS THEN
		RETURN '!' || SQLSTATE;
	END $$;
});

#
# The model.  A message: its id; key, what it is ordered by; state: ready,
# delayed, in flight or deleted; rc and wc, receive_count and rewind_count; handle
# of the last delivery; kind, a header; due: a rewind brings it back.
#
my %model;
my $max_receive_count = 3;

sub messages { my ($q) = @_; return sort { $a->{id} <=> $b->{id} } values %{ $model{$q} }; }

sub is_pending { return $_[0]{state} ne 'deleted'; }

sub add
{
	my ($q, $id, %more) = @_;
	$model{$q}{$id} = { id => $id, key => $id, state => 'ready', rc => 0, wc => 0, kind => '', due => 0, handle => '', %more };
}

sub consumed
{
	my ($q, $m) = @_;
	if ($q eq 'q')
	{
		$m->{state} = 'deleted';
		$m->{due} = 0;
	}
	else { delete $model{$q}{ $m->{id} }; }    # no rewind there
}

# What a receive may take, in order.
sub ready
{
	my ($q) = @_;
	my $key = sub { $_[0]{due} ? $_[0]{id} : $_[0]{key} };
	return sort { $key->($a) <=> $key->($b) }
	  grep { $_->{due} || $_->{state} eq 'ready' } messages($q);
}

sub is_dead { my ($q, $m) = @_; return $q eq 'q' && !$m->{due} && $m->{state} eq 'ready' && $m->{rc} >= $max_receive_count; }

# Dead letters get their new ids from the server.
sub bury
{
	my ($try, @dead) = @_;
	foreach my $m (@dead)
	{
		my ($id, $rc) = split / /, $try->(qq{SELECT msg_id || ' ' || (headers #>> '{cmq_dead_letter,receive_count}')
			FROM cmq.q_dead_live WHERE headers #>> '{cmq_dead_letter,msg_id}' = '$m->{id}' ORDER BY msg_id DESC LIMIT 1});
		return "no dead letter of $m->{id}" unless defined $rc && $rc == $m->{rc};
		delete $model{q}{ $m->{id} };
		add('dead', $id, kind => $m->{kind}, source => 1);
	}
	return '';
}

sub pick { return $_[ rand @_ ]; }

# Handles that were good once.
my @stale;

sub restored
{
	foreach my $m (@_)
	{
		push @stale, $m->{handle} if $m->{handle} ne '';
		@$m{qw(state key rc wc handle)} = ('ready', $m->{id}, 0, $m->{wc} + 1, '');
	}
}

sub kind_sql { my ($kind) = @_; return $kind eq '' ? 'NULL' : "'{\"kind\": \"$kind\"}'"; }

sub a_handle
{
	my ($q) = @_;
	my @handles = map { $_->{handle} } grep { $_->{handle} ne '' } messages($q);
	return pick(@stale) if @stale && rand() < 0.1;
	return @handles ? pick(@handles) : '1-2-3-4';
}

sub holder
{
	my ($q, $handle) = @_;
	my ($m) = grep { is_pending($_) && $_->{handle} eq $handle } messages($q);
	return $m;
}

# Each operation calls the server through $try, changes the model, and returns
# what the two disagree on, '' if they agree.
sub differ { my ($what, $got, $expected) = @_; return $got eq $expected ? '' : "$what: got $got, expected $expected"; }

my %operations = (
	send => sub {
		my ($try) = @_;
		my $q = pick(qw(q q q copy));
		my ($kind, $delay) = (pick('', 'a', 'b'), rand() < 0.2 ? 3600 : 0);
		my $id = $try->("SELECT cmq_send('$q', 'x', $delay, @{[kind_sql($kind)]})");
		return "send: $id" unless $id =~ /^\d+$/;
		add($q, $id, kind => $kind, $delay ? (state => 'delayed', key => $id + $delay * 1_000_000) : ());
		return '';
	},
	send_batch => sub {
		my ($try) = @_;
		my ($n, $kind) = (1 + int rand 5, pick('', 'a', 'b'));
		my @ids = split / /, $try->("SELECT string_agg(i::text, ' ') FROM cmq_send_batch('q', array_fill('x'::text, '{$n}'), headers => array_fill(@{[kind_sql($kind)]}::jsonb, '{$n}')) i");
		return "send_batch: @ids" unless @ids == $n;
		add('q', $_, kind => $kind) foreach @ids;
		return '';
	},
	publish => sub {
		my ($try) = @_;
		my $tag = pick(qw(yes no));
		my $got = $try->("SELECT string_agg(queue || ' ' || msg_id, ' ') FROM cmq_publish('topic', 'x', '{$tag}')");
		return differ('publish', $got, '-') if $tag eq 'no';
		return "publish: $got" unless $got =~ /^q (\d+)$/;
		add('q', $1);
		return '';
	},
	receive => sub {
		my ($try) = @_;
		my $q = pick(qw(q q q q dead copy));
		my $n = 1 + int rand 4;
		my (@take, @dead);
		foreach my $m (ready($q))
		{
			last if @take == $n;
			push @{ is_dead($q, $m) ? \@dead : \@take }, $m;
		}
		my $got = $try->("SELECT string_agg(concat_ws(' ', msg_id, receive_count, rewind_count, receipt_handle), ';' ORDER BY o)
			FROM cmq_receive('$q', $n) WITH ORDINALITY r (msg_id, receipt_handle, b, h, e, f, v, receive_count, rewind_count, o)");
		my @got = $got eq '-' ? () : split /;/, $got;
		foreach my $m (@take)
		{
			if ($m->{due}) { $m->{due} = 0; $m->{rc} = 1; $m->{wc}++; }
			else { $m->{rc}++; }
			$m->{state} = 'in flight';
			my $line = shift @got // 'nothing';
			my ($handle) = $line =~ s/ (\S+)$// ? $1 : '';
			return differ("receive from $q", $line, "$m->{id} $m->{rc} $m->{wc}") if $line ne "$m->{id} $m->{rc} $m->{wc}";
			$m->{handle} = $handle;
			($m->{key}) = $handle =~ /^\d+-(\d+)-/;
		}
		return "receive from $q: too much: @got" if @got;
		return bury($try, @dead);
	},
	delete => sub {
		my ($try) = @_;
		my $q = pick(qw(q q q dead copy));
		my $handle = a_handle($q);
		my $m = holder($q, $handle);
		my $got = $try->("SELECT cmq_delete('$q', '$handle')");
		consumed($q, $m) if $m;
		return differ("delete of $handle", $got, $m ? 'true' : 'false');
	},
	delete_batch => sub {
		my ($try) = @_;
		my %handles = map { a_handle('q') => 1 } 1 .. 3;
		my @handles = sort keys %handles;
		my @held = grep { holder('q', $_) } @handles;
		my $got = $try->("SELECT string_agg(h, ' ' ORDER BY h COLLATE \"C\") FROM cmq_delete_batch('q', ARRAY['" . join("','", @handles) . "']) h");
		consumed('q', holder('q', $_)) foreach @held;
		return differ('delete_batch', $got, @held ? join(' ', @held) : '-');
	},
	change_visibility => sub {
		my ($try) = @_;
		my ($handle, $seconds) = (a_handle('q'), pick(0, 0, 600));
		my $m = holder('q', $handle);
		my $got = $try->("SELECT cmq_change_visibility('q', '$handle', $seconds)");
		return differ("change_visibility of $handle", $got, '-') unless $m;
		my ($id, $key, $rc, $wc) = split /-/, $got;
		return "change_visibility: $got" unless defined $wc && $id == $m->{id} && $rc == $m->{rc} && $wc == $m->{wc};
		@$m{qw(handle key state)} = ($got, $key, $seconds ? 'in flight' : 'ready');
		return '';
	},
	rewind => sub {
		my ($try) = @_;
		my @all = messages('q') or return '';
		# most are in the range
		my ($earliest) = grep { is_pending($_) || $_->{due} } @all;
		my @choice = rand() < 0.8 && $earliest ? grep { $_->{id} <= $earliest->{id} } @all : @all;
		my $from = pick(@choice)->{id} + pick(0, 0, 1);
		my $got = $try->("SELECT cmq.msg_id(cmq_rewind('q', cmq.enqueued_at($from)))");
		return differ("rewind to $from", $got, '!22023') if $earliest && $from > $earliest->{id};
		$_->{due} = $_->{state} eq 'deleted' && $_->{id} >= $from ? 1 : 0 foreach @all;
		my ($first) = grep { $_->{due} } @all;
		return differ("rewind to $from", $got, $first ? $first->{id} : '-');
	},
	cancel_rewind => sub {
		my ($try) = @_;
		my $got = $try->("SELECT cmq_cancel_rewind('q')");
		$_->{due} = 0 foreach messages('q');
		return differ('cancel_rewind', $got, '-') && differ('cancel_rewind', $got, '');
	},
	restore => sub {
		my ($try) = @_;
		my @all = messages('q') or return '';
		my ($from, $to) = sort { $a <=> $b } map { pick(@all)->{id} } 1, 2;
		my $kind = pick('', '', 'a');
		my @meant = grep { $_->{state} eq 'deleted' && !$_->{due} && $_->{id} >= $from && $_->{id} < $to && ($kind eq '' || $_->{kind} eq $kind) } @all;
		my $args = "'q', cmq.enqueued_at($from), cmq.enqueued_at($to)";
		my $preview = $try->("SELECT messages FROM cmq_rewind_preview($args, @{[kind_sql($kind)]})");
		return differ('preview', $preview, scalar @meant) if $preview ne @meant;
		if (rand() < 0.2)
		{
			my $got = $try->("SELECT cmq_replay($args, 'copy', @{[kind_sql($kind)]})");
			return differ('replay', $got, scalar @meant) if $got ne @meant;
			foreach my $m (@meant)
			{
				my $id = $try->("SELECT max(msg_id) FROM cmq.q_copy_live WHERE headers #>> '{cmq_origin,msg_id}' = '$m->{id}'");
				return "no copy of $m->{id}" unless $id =~ /^\d+$/;
				add('copy', $id, kind => $m->{kind});
			}
			return '';
		}
		my $expected = @meant + (rand() < 0.1 ? 1 : 0);
		my $got = $try->("SELECT cmq_restore($args, @{[kind_sql($kind)]}, $expected)");
		return differ('restore', $got, '!21000') if $expected != @meant;
		restored(@meant);
		return differ('restore', $got, scalar @meant);
	},
	restore_messages => sub {
		my ($try) = @_;
		my @all = messages('q') or return '';
		my %ids = map { pick(@all)->{id} + pick(0, 0, 0, 1) => 1 } 1 .. 4;
		my @meant = grep { $_->{state} eq 'deleted' && !$_->{due} && $ids{ $_->{id} } } @all;
		my $got = $try->("SELECT string_agg(i::text, ' ') FROM cmq_restore_messages('q', '{" . join(',', keys %ids) . "}') i");
		restored(@meant);
		return differ('restore_messages', $got, @meant ? join(' ', map { $_->{id} } @meant) : '-');
	},
	redrive => sub {
		my ($try) = @_;
		my @back = grep { $_->{source} } ready('dead');
		my $got = $try->("SELECT cmq_redrive('dead')");
		return differ('redrive', $got, scalar @back) if $got ne @back;
		my @known = map { $_->{id} } messages('q');
		my @new = @back ? split / /, $try->("SELECT string_agg(msg_id::text, ' ' ORDER BY msg_id) FROM cmq.q_q_live WHERE msg_id <> ALL ('{" . join(',', @known) . "}')
			AND msg_id NOT IN (SELECT msg_id FROM cmq.q_q_history)") : ();
		return "redrive: @new" unless @new == @back;
		foreach my $m (@back)
		{
			add('q', shift @new, kind => $m->{kind});
			delete $model{dead}{ $m->{id} };
		}
		return '';
	},
	clear_queue => sub {
		my ($try) = @_;
		return '' if rand() < 0.8;
		my @pending = grep { is_pending($_) } messages('q');
		my $got = $try->("SELECT cmq_clear_queue('q')");
		delete $model{q}{ $_->{id} } foreach @pending;
		$_->{due} = 0 foreach messages('q');
		return differ('clear_queue', $got, scalar @pending);
	},
	maintain => sub {
		my ($try) = @_;
		return '' if rand() < 0.7;
		my @dead = sort { $a->{key} <=> $b->{key} } grep { is_dead('q', $_) } messages('q');
		$try->("SELECT cmq_maintain('q')");
		return bury($try, @dead);
	},
	alter_queue => sub {
		my ($try) = @_;
		$try->("SELECT cmq_alter_queue('q', visibility_timeout => @{[pick(43200, 43199)]})");
		return '';
	});
my %weights = (send => 6, send_batch => 3, publish => 2, receive => 14, delete => 8, delete_batch => 4, change_visibility => 6);
my @operations = map { ($_) x ($weights{$_} // 1) } sort keys %operations;

sub expected
{
	my ($q) = @_;
	return join ' ', map {
		my $m = $_;
		$m->{due} ? "$m->{id}:ready:0:" . ($m->{wc} + 1) : "$m->{id}:" . ($m->{state} =~ s/ /_/r) . ":$m->{rc}:$m->{wc}"
	} messages($q);
}

sub count { my ($q, $state) = @_; return scalar grep { ($_->{due} ? 'ready' : $_->{state}) eq $state } messages($q); }

sub begin_anew
{
	$observer->query_safe(q{
		DO $$ BEGIN
			IF EXISTS (SELECT FROM cmq.queues) THEN
				PERFORM cmq_unsubscribe('topic', 's'), cmq_drop_topic('topic');
				PERFORM cmq_drop_queue('q');
				PERFORM cmq_drop_queue('dead');
				PERFORM cmq_drop_queue('copy');
			END IF;
			PERFORM cmq_create_queue('dead', visibility_timeout => 43200);
			PERFORM cmq_create_queue('copy', visibility_timeout => 43200);
			PERFORM cmq_create_queue('q', visibility_timeout => 43200, rewind_seconds => 86400, dead_letter_queue => 'dead', max_receive_count => 3);
			PERFORM cmq_create_topic('topic');
			PERFORM cmq_subscribe('topic', 's', 'q', '{yes}');
		END $$});
	%model = (q => {}, dead => {}, copy => {});
}

# A step: some operations in one transaction of one session, some of them perhaps
# in a savepoint that is rolled back, and perhaps a rollback of all.
my ($done, $checks, @trace, $disagree) = (0, 0);
my @history;

sub run_some
{
	my ($try, $n) = @_;
	foreach (1 .. $n)
	{
		my $name = pick(@operations);
		push @trace, $name;
		$disagree ||= $operations{$name}->($try);
		$done++;
	}
}

begin_anew();
for my $step (1 .. $steps)
{
	my $session = pick(@sessions);
	my $log = sub { push @trace, "  $_[0]"; };
	my $try = sub {
		my ($sql) = @_;
		(my $quoted = $sql) =~ s/\s+/ /g;
		$log->($quoted);
		my $result = $session->query_safe("SELECT try(\$try\$$quoted\$try\$)");
		$log->("= $result");
		return $result;
	};
	my $before = dclone(\%model);
	my $how = pick(qw(alone alone commit commit commit rollback savepoint));

	push @history, @trace;
	@trace = ("step $step, $how");
	$session->query_safe('BEGIN ISOLATION LEVEL ' . pick('READ COMMITTED', 'REPEATABLE READ')) unless $how eq 'alone';
	run_some($try, $how eq 'alone' ? 1 : 1 + int rand 3);
	if ($how eq 'savepoint')
	{
		my $then = dclone(\%model);
		$session->query_safe('SAVEPOINT s');
		run_some($try, 1 + int rand 2);
		$session->query_safe('ROLLBACK TO s');
		%model = %$then;
		run_some($try, 1);
	}
	if ($how eq 'rollback') { $session->query_safe('ROLLBACK'); %model = %$before; }
	elsif ($how ne 'alone') { $session->query_safe('COMMIT'); }

	foreach my $q (qw(q dead copy))
	{
		my $got = $observer->query_safe(
			"SELECT coalesce(string_agg(concat_ws(':', msg_id, replace(state, ' ', '_'), receive_count, rewind_count), ' ' ORDER BY msg_id), '') FROM cmq.q_${q}_all");
		$disagree ||= differ("queue $q", $got, expected($q));
		my $counts = $observer->query_safe("SELECT concat_ws(' ', active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num) FROM cmq_queue_attributes('$q')");
		$disagree ||= differ("counts of $q", $counts, join ' ', map { count($q, $_) } 'ready', 'in flight', 'delayed', 'deleted');
		$checks++;
	}
	if ($disagree)
	{
		fail("step $step");
		diag("$disagree\n" . join("\n", @trace));
		# what led to it is in the log of this test
		note(join("\n", @history));
		last;
	}
	begin_anew() if messages('q') + messages('dead') + messages('copy') > 120;
}
ok(!$disagree, "$steps steps, $done operations, $checks comparisons");
$_->quit foreach @sessions, $observer;
$node->stop;
done_testing();
