package RandomCalls;

# Random calls of all public functions, in several sessions of a server whose transactions
# overlap.  Each answer is compared with a QueueModel.
#
#   my $server = server('model', $node);        its sessions; another argument: [ step, class ] of its ids
#   turn_to($server);                           what follows is for this one: $server, $model
#   forget_all(); model_first_queues(%ordered); the model has the queues of first_queues()
#   step($session, $overlap);                   some calls in this session
#   check();                                    what is committed is what the model says
#   end_all();                                  no transaction is open
#   report("$n steps");                         a test: all agreed; and what was called
#
# A call that the model does not agree with leaves $disagree, and the trace of all calls ends
# with it.
#
# No session waits: a function that would wait for the open transaction of another session
# is not called.

use strict;
use warnings;

use Exporter qw(import);
use List::Util qw(shuffle);
use QueueModel;
use Test::More;

our @EXPORT = qw($server $model $stranger $disagree @trace %called %operations @operations %outcomes $transactions $prepares
  server connect_to turn_to forget_all first_queues model_first_queues pick differ ask command step check check_rewinds
  age end_delays end_all report a_window kind_sql text_array_sql array_sql list);

our ($server, $model);
our $stranger = QueueModel::observer();
our $disagree = '';
our (@trace, %called, %outcomes, @old_handles);
our ($transactions, $prepares) = (0, 0);

#
# Servers
#

# Open sessions on a node; it gets the functions that calls here use.
sub server
{
	my ($name, $node, $ids) = @_;
	my %server = (name => $name, node => $node, ids => $ids, prepared => [], ages => {}, rewinds_seen => 0, rewinds_before => 0);
	$server{sessions} = [ map { { no => "$name/$_", server => \%server } } 1 .. 4 ];
	connect_to(\%server);
	$server{observer}->query_safe(functions_sql());
	return \%server;
}

sub connect_to
{
	my ($server) = @_;
	$server->{observer} = $server->{node}->session;
	$_->{psql} = $server->{node}->session foreach @{ $server->{sessions} };
	$_->set_query_timer_restart foreach $server->{observer}, map { $_->{psql} } @{ $server->{sessions} };
	@$_{qw(open stays locks_out breaks isolation)} = (0, 0, 0, 0, 'READ COMMITTED') foreach @{ $server->{sessions} };
	return;
}

sub turn_to
{
	($server) = @_;
	$model = $server->{model};
	return;
}

# Its queues and topics were dropped: begin with another model.  More sessions are the caller's.
sub forget_all
{
	my (@more) = @_;
	$server->{model} = QueueModel->new(@{ $server->{sessions} }, @more);
	@{ $server->{model} }{qw(id_step id_class)} = @{ $server->{ids} } if $server->{ids};
	$server->{ages} = {};
	@old_handles = @trace = ();
	turn_to($server);
	return;
}

# Queues that a run begins with, in the order of their creation: name, settings.  Each may
# be ordered.
sub first_queues
{
	my (%ordered) = @_;
	return (
		[ 'dead', visibility_timeout => 43200, rewind_seconds => 86400, dedup_seconds => 86400, ordered => $ordered{dead} ],
		[ 'copy', visibility_timeout => 43200, dedup_seconds => 1000, ordered => $ordered{copy} ],
		[ 'q', visibility_timeout => 43200, rewind_seconds => 86400, dedup_seconds => 1000, ordered => $ordered{q}, dead_letter_queue => 'dead', max_receive_count => 1 ]);
}

# These, two topics and a subscription to each.
sub model_first_queues
{
	my (%ordered) = @_;
	my $s = $server->{sessions}[0];
	$model->create_queue($s, @$_) foreach first_queues(%ordered);
	$model->create_topic($s, 'news', 'tag');
	$model->create_topic($s, 'routes', 'routing');
	$model->subscribe($s, 'news', 's1', 'q', ['a'], undef);
	$model->subscribe($s, 'routes', 's1', 'copy', undef, ['a.#']);
	$model->commit($s);
	return;
}

sub functions_sql
{
	return q{
	-- The result of a query, as one text, or its SQLSTATE.
	CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		result text;
	BEGIN
		EXECUTE command INTO result;
		RETURN coalesce(nullif(result, ''), '-');
	EXCEPTION WHEN OTHERS THEN
		RETURN '!' || SQLSTATE;
	END $$;

	-- In an index of the dead-letter queue, which fails in sessions that say so.
	CREATE FUNCTION breaks(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
	BEGIN
		IF current_setting('test.breaks', true) = 'on' THEN
			RAISE EXCEPTION 'broken' USING ERRCODE = 'P0007';
		END IF;
		RETURN n;
	END $$;

	-- What cmq_messages() shows of a queue, in pages, to and fro.
	CREATE FUNCTION pages(queue text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		shown text[];
		m record;
		part text;
		after_time timestamptz;
		after_id bigint;
		matched int;
		more boolean;
	BEGIN
		FOREACH part IN ARRAY '{pending,history}'::text[] LOOP
			after_time := NULL;
			after_id := NULL;
			LOOP
				matched := 0;
				more := false;
				FOR m IN SELECT * FROM cmq_messages(pages.queue, part, after_time, after_id, max_messages => 7, max_looked => 5, backwards => part = 'history') LOOP
					IF m.matched THEN
						shown := shown || (concat_ws(':', m.msg_id, m.state, m.receive_count, m.rewind_count, m.message_group) || left(m.body, 0));
						matched := matched + 1;
					END IF;
					more := NOT m.matched;
					after_time := CASE part WHEN 'pending' THEN m.visible_at ELSE m.enqueued_at END;
					after_id := m.msg_id;
				END LOOP;
				EXIT WHEN NOT more AND matched < 7;
			END LOOP;
		END LOOP;
		RETURN (SELECT string_agg(s, ' ' ORDER BY split_part(s, ':', 1)::bigint) FROM unnest(shown) s);
	END $$;

	-- The same as those of the model.  With a body the view is read by the message table,
	-- without by the tables of states, and there are the calls that read the tables: all
	-- must show the same.
	CREATE FUNCTION contents(queue text) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		states text := '';
		messages text := '';
		ids text;
		by_state text;
		timeline text;
		message_group text := CASE WHEN (SELECT q.ordered FROM cmq.queue q WHERE q.name = contents.queue) THEN 'message_group' ELSE 'NULL' END;
	BEGIN
		EXECUTE format('SELECT string_agg(concat_ws('':'', msg_id, state, receive_count, rewind_count, %s), '' '' ORDER BY msg_id) FROM cmq.%I',
			message_group, 'q_' || queue || '_all') INTO states;
		EXECUTE format('SELECT string_agg(concat_ws('':'', msg_id, state, receive_count, rewind_count, %s) || left(body, 0), '' '' ORDER BY msg_id) FROM cmq.%I',
			message_group, 'q_' || queue || '_all') INTO messages;
		EXECUTE format('SELECT string_agg(concat_ws('':'', m.msg_id, m.state, m.receive_count, m.rewind_count, m.message_group) || left(m.body, 0), '' '' ORDER BY m.msg_id) FROM cmq.%I v, cmq_message($1, v.msg_id) m',
			'q_' || queue || '_all') INTO ids USING queue;
		EXECUTE format('SELECT concat_ws('':'', count(*) FILTER (WHERE state = ''deleted''), count(*) FILTER (WHERE state = ''ready'' AND NOT back), count(*) FILTER (WHERE state = ''in_flight''),
			count(*) FILTER (WHERE state = ''delayed''), count(*) FILTER (WHERE back)) FROM (SELECT state, state = ''ready'' AND receive_count = 0 AND rewind_count > 0 AS back FROM cmq.%I) v',
			'q_' || queue || '_all') INTO by_state;
		SELECT concat_ws(':', sum(t.history), sum(t.ready), sum(t.in_flight), sum(t.delayed), sum(t.brought_back)) INTO timeline
		  FROM cmq_timeline(queue, now() - interval '16 days', now() + interval '16 days', 7) t;
		RETURN coalesce(states, '') || CASE WHEN messages IS DISTINCT FROM states THEN ' but by messages ' || coalesce(messages, '') ELSE '' END ||
			CASE WHEN pages(queue) IS DISTINCT FROM states THEN ' but in pages ' || coalesce(pages(queue), '') ELSE '' END ||
			CASE WHEN timeline IS DISTINCT FROM by_state THEN ' but in the timeline ' || timeline || ', not ' || by_state ELSE '' END ||
			CASE WHEN ids IS DISTINCT FROM states THEN ' but by ids ' || coalesce(ids, '') ELSE '' END;
	END $$;
	CREATE FUNCTION attributes(queue text) RETURNS text LANGUAGE sql AS $$
		SELECT concat_ws(' ', active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num,
			visibility_timeout, msg_retention_seconds, rewind_seconds, rewind_share, dedup_seconds, max_msg_size, max_msg_heap_num,
			coalesce(dead_letter_queue, '-'), coalesce(max_receive_count, 0), coalesce(max_time_to_live, 0),
			CASE WHEN min_msg_time >= statement_timestamp() THEN 'now' ELSE cmq.msg_id(min_msg_time)::text END,
			CASE WHEN rewind_seconds > 0 THEN earliest_rewind_time = now() - make_interval(secs => rewind_seconds) AND latest_rewind_time = min_msg_time
				ELSE earliest_rewind_time IS NULL AND latest_rewind_time IS NULL END)
		FROM cmq_queue_attributes(queue)
	$$;
	-- Make all messages of a queue older by so many seconds, when nobody is at work.
	CREATE FUNCTION age(q text, seconds int) RETURNS boolean LANGUAGE plpgsql AS $$
	DECLARE
		s interval := make_interval(secs => seconds);
		there boolean;
		j text;
		has_keys boolean := (SELECT dedup IS NOT NULL FROM cmq.queue WHERE name = q);
	BEGIN
		EXECUTE format('SELECT min(enqueued_at) - $1 < (SELECT min(lower) FROM cmq.partition WHERE queue = %L) FROM cmq_data.%I', q, 'q_' || q)
		  INTO there USING s;
		-- no partition is so old: it is shortly after the beginning of one
		IF there THEN RETURN false; END IF;
		-- what is published grows old for this queue alone: so it gets a message of its own
		FOR j IN SELECT name FROM cmq.topic_journal LOOP
			EXECUTE format('SELECT min(enqueued_at) - $1 < (SELECT min(lower) FROM cmq.partition WHERE queue = %L) FROM cmq_data.%I WHERE %L = ANY (queues)', j, 'j_' || substr(j, 2), q)
			  INTO there USING s;
			IF there THEN RETURN false; END IF;
		END LOOP;
		-- nor do keys move to another one, where they may be already
		IF has_keys THEN
			EXECUTE format('SELECT min(enqueued_at) - $1 < (SELECT max(lower) FROM cmq.partition WHERE queue = %L AND dedup IS NOT NULL AND lower <= cmq._clock(%1$L)) FROM cmq_data.%I',
				q, 'q_' || q || '_dedup') INTO there USING s;
			IF there THEN RETURN false; END IF;
			EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1', 'q_' || q || '_dedup') USING s;
		END IF;
		FOR j IN SELECT substr(name, 2) FROM cmq.topic_journal LOOP
			EXECUTE format('INSERT INTO cmq_data.%1$I AS j SELECT enqueued_at - $1, headers, body, message_group, ARRAY[%2$L] FROM cmq_data.%1$I j
					WHERE EXISTS (SELECT FROM cmq_data.%3$I p WHERE p.enqueued_at = j.enqueued_at AND topic = %5$L) OR EXISTS (SELECT FROM cmq_data.%4$I r WHERE r.enqueued_at = j.enqueued_at AND topic = %5$L)
				ON CONFLICT (enqueued_at) DO UPDATE SET queues = j.queues || excluded.queues', 'j_' || j, q, 'q_' || q || '_pending', 'q_' || q || '_rewind', j) USING s;
		END LOOP;
		EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1', 'q_' || q) USING s;
		EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1, first_received_at = first_received_at - $1,
			visible_at = CASE WHEN visible_at <= cmq._clock(%L) THEN visible_at - $1 ELSE visible_at END,
			delayed_until = CASE WHEN delayed_until <= cmq._clock(%2$L) THEN delayed_until - $1 ELSE delayed_until END', 'q_' || q || '_pending', q) USING s;
		EXECUTE format('UPDATE cmq_data.%I SET enqueued_at = enqueued_at - $1, first_received_at = first_received_at - $1', 'q_' || q || '_rewind') USING s;
		UPDATE cmq.queue SET rewind_from = rewind_from - s, forgotten_before = forgotten_before - s, expired_before = expired_before - s WHERE name = q;
		-- tells all sessions
		EXECUTE format('GRANT SELECT ON cmq.%I TO CURRENT_USER', 'q_' || q);
		RETURN true;
	END $$;

	-- End all delays in a queue, when nobody is at work.  Returns the time since when they are over.
	CREATE FUNCTION end_delays(q text) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		now timestamptz := cmq._clock(q);
	BEGIN
		EXECUTE format('UPDATE cmq_data.%I SET delayed_until = CASE WHEN delayed_until > $1 THEN $1 ELSE delayed_until END,
			visible_at = CASE WHEN receive_count = 0 THEN least(visible_at, $1) ELSE visible_at END', 'q_' || q || '_pending') USING now;
		RETURN cmq.msg_id(now);
	END $$;

	CREATE FUNCTION everything() RETURNS SETOF text LANGUAGE plpgsql AS $$
	DECLARE
		q text;
	BEGIN
		FOR q IN SELECT queue FROM cmq.queues ORDER BY queue LOOP
			RETURN NEXT q || ' has ' || contents(q);
			RETURN NEXT q || ' is ' || attributes(q);
		END LOOP;
		RETURN QUERY SELECT concat_ws(' ', queue, 'has had', sent, received, redelivered, rewound, deleted, dead_lettered, body_bytes, empty_receives, waits,
			pending_msg_num, left_of_rewind, inactive_msg_num, delay_msg_num, oldest_ready_seconds IS NOT NULL) FROM cmq.metrics ORDER BY queue;
		RETURN QUERY SELECT concat_ws(' ', queue, 'shows', ready, in_flight, delayed, left_of_rewind,
			CASE WHEN paused_since IS NULL THEN 'goes' ELSE 'paused' END, coalesce(dead_letters::text, '-'),
			CASE WHEN latest_rewind_time IS NULL THEN 'none' WHEN latest_rewind_time >= statement_timestamp() THEN 'now'
				ELSE cmq.msg_id(latest_rewind_time)::text END) FROM cmq.status;
		RETURN QUERY SELECT 'topic ' || topic || ' ' || filter_type FROM cmq.topics ORDER BY topic;
		RETURN QUERY SELECT concat_ws(' ', 'subscription', topic, subscription, queue, array_to_string(coalesce(filter_tags, binding_keys), ','))
			FROM cmq.subscriptions ORDER BY topic, subscription;
		RETURN NEXT 'calls recorded ' || count(*) FROM cmq.rewinds;
	END $$;
	};
}

#
# Calls
#

# What a transaction is to do that others must not wait for: false if it stays open;
# else it ends with its step.
sub may_lock_out
{
	my ($s) = @_;
	return 0 if $s->{stays};
	$s->{locks_out} = 1;
	return 1;
}

sub pick { return $_[ rand @_ ]; }

sub differ { my ($what, $got, $expected) = @_; return $got eq $expected ? '' : "$what: got $got, expected $expected"; }

# Ask the server, in this session.
sub ask
{
	my ($s, $sql) = @_;
	$sql =~ s/\s+/ /g;
	push @trace, "  $s->{no}: $sql";
	$called{$1}++ while $sql =~ /\b(cmq_\w+)\(/g;
	my $result = $s->{psql}->query_safe("SELECT try(\$try\$$sql\$try\$)");
	push @trace, "  = $result";
	return $result;
}

sub list { my ($result) = @_; return $result eq '-' ? () : split / /, $result; }

#
# Arguments
#

sub a_kind { return pick('', 'a', 'b'); }

sub kind_sql { my ($kind) = @_; return $kind eq '' ? 'NULL' : "'{\"kind\": \"$kind\"}'"; }

# More than the smallest max_msg_size now and then.
sub a_size { return rand() < 0.1 ? 1500 : 1; }

sub body_sql { my ($bytes) = @_; return $bytes == 1 ? "'x'" : "repeat('x', $bytes)"; }

# A delay: in seconds, 0 for what is ready at once; and as the arguments of a send that come
# before and behind the headers.
sub a_delay
{
	return (0, '0', '') if rand() < 0.7;
	return @{ pick([ 3600, '3600', '' ], [ 86400, '86400', '' ], [ 300000, '300000', '' ], [ 2_000_000, '-1', '' ],
		[ 0, '0', q{, '2020-02-29 12:00+00'} ], [ 0, '0', q{, now() - interval '1 min'} ], [ 172800, '0', q{, now() + interval '2 days 0.25 s'} ], [ 300001, '0', q{, now() + interval '300001 s'} ],
		[ 2_000_000, '0', q{, 'infinity'} ], [ 2_000_000, '1', q{, now()} ]) };
}

# The group of a message, and as an argument; most messages of ordered queues have one.
# What has a delay has none, and a queue that is not ordered takes none.
sub a_group
{
	my ($s, $q, $delayed) = @_;
	my $ordered = $model->is_ordered($s, $q);
	return ('', '') if rand() < ($delayed || !$ordered ? 0.98 : 0.2);
	my $group = pick(qw(a a b c));
	return ($group, ", message_group => '$group'");
}

sub array_sql { my (@elements) = @_; return 'ARRAY[' . join(', ', @elements) . ']'; }

# Groups of many messages, as an argument.
sub groups_sql { return grep({ $_ ne '' } @_) ? ', message_groups => ' . array_sql(map { $_ eq '' ? 'NULL' : "'$_'" } @_) : ''; }

sub text_array_sql { my ($texts) = @_; return $texts ? "'{" . join(',', @$texts) . "}'" : 'NULL'; }

# The keys of messages, mostly of queues that keep them; '' is none.
sub some_keys
{
	my ($s, $q, $n) = @_;
	my $queue = $model->queue($s, $q);
	my $odds = !$queue || !$queue->{dedup_seconds} ? 0.02 : rand() < 0.3 ? 0 : 0.8;
	return map { rand() < $odds ? pick(qw(k l m)) : '' } 1 .. $n;
}

# Does the queue refuse them?
sub wrong_keys
{
	my ($s, $q, @keys) = @_;
	my $queue = $model->queue($s, $q);
	return $queue && !$queue->{dedup_seconds} && grep { $_ ne '' } @keys;
}

# One as an argument, or many.
sub key_sql { my ($key) = @_; return $key ne '' ? ", dedup_key => '$key'" : ''; }

sub keys_sql { return grep({ $_ ne '' } @_) ? ', dedup_keys => ' . array_sql(map { $_ eq '' ? 'NULL' : "'$_'" } @_) : ''; }

# A handle that is good, of a message in this state, or one that was good once, or
# one that never was; mostly '' if none is good.
sub a_handle
{
	my ($s, $q, $state) = @_;
	my @handles = map { $_->{handle} } grep { $_->{handle} ne '' && $_->{state} =~ /$state/ } $model->pending($s, $q);
	return pick('1-2-3-4', @old_handles) if rand() < 0.15;
	return @handles ? pick(@handles) : '';
}

sub remember_handle
{
	my ($handle) = @_;
	push @old_handles, $handle;
	shift @old_handles if @old_handles > 30;
	return;
}

# Some handles, a few of them twice, in any order.
sub some_handles
{
	my ($s, $q, $state) = @_;
	my @handles = grep { $_ ne '' && !is_held($s, $q, $_) } map { a_handle($s, $q, $state) } 1 .. 1 + rand 5;
	return shuffle(@handles);
}

# Those that are good, in order, each once.
sub good_handles
{
	my ($s, $q, @handles) = @_;
	my %seen;
	return grep { !$seen{$_}++ && $model->holder($s, $q, $_) } @handles;
}

# Has another session's open transaction the message of this handle?
sub is_held
{
	my ($s, $q, $handle) = @_;
	my $m = $model->holder($s, $q, $handle);
	return $m && $model->is_held($s, $q, $m);
}

# From, to (NULL: no end) and kind of messages, and the same in SQL.
sub a_window
{
	my ($s, $q) = @_;
	my @ids = map { $_->{id} } $model->messages($s, $q);
	@ids = (1) unless @ids;
	my ($from, $to) = sort { $a <=> $b } pick(@ids), pick(@ids) + pick(0, 1);
	my $kind = pick('', '', 'a');
	($from, $to) = ($to, $from) if rand() < 0.05;
	undef $to if rand() < 0.3;
	return ($from, $to, $kind, "cmq.enqueued_at($from), " . (defined $to ? "cmq.enqueued_at($to)" : 'NULL'), kind_sql($kind));
}

#
# What the server did beside what it returned
#

# The messages that have come to a queue by a call that does not return their ids:
# id, and what else is wanted of their headers.
sub arrived
{
	my ($s, $q, @headers) = @_;
	my $last = $model->{last_id}{$q} // 0;
	my $columns = join ', ', 'msg_id', map { $_ eq 'message_group' ? $_ : "headers #>> '{$_}'" } @headers;
	my $got = ask($s, "SELECT string_agg(concat_ws(' ', $columns), ';' ORDER BY msg_id) FROM cmq.q_${q}_live WHERE msg_id > $last");
	my @lines = $got eq '-' ? () : split /;/, $got;
	my @ids = map { (split / /)[0] } @lines;
	s/^\d+ ?// foreach @lines;
	return (\@ids, @lines);
}

# Does a write into this queue fail?
sub is_broken { my ($s, $q) = @_; return $s->{breaks} && $q eq 'dead'; }

# Dead letters of a queue, and those that may have been moved with them.
sub bury
{
	my ($s, $q, $dead, $perhaps) = @_;
	my @dead = @$dead;
	return '' if !(@dead || @$perhaps) || $model->is_stuck($s, $q);
	my $into = $model->queue($s, $q)->{dead_letter_queue};
	if (is_broken($s, $into))
	{
		$model->stick($s, $q, 1);
		return '';
	}
	my $ordered = $model->is_ordered($s, $into);
	my ($ids, @lines) = arrived($s, $into, (map { "cmq_dead_letter,$_" } qw(queue msg_id receive_count reason message_group)), $ordered ? 'message_group' : ());
	# maintenance has moved those of other queues too
	my @own = grep { $lines[$_] =~ /^$q / } 0 .. $#lines;
	($ids, @lines) = ([ @$ids[@own] ], @lines[@own]);
	if ($model->is_ordered($s, $q))
	{
		# groups are looked at in any order
		my %place = map { ((split / /, $lines[$_])[1] => $_) } 0 .. $#lines;
		@dead = sort { ($place{ $a->{id} } // -1) <=> ($place{ $b->{id} } // -1) } @dead, grep { defined $place{ $_->{id} } } @$perhaps;
	}
	elsif (@lines == @dead + @$perhaps)
	{
		push @dead, @$perhaps;
	}
	my $wrong = differ("dead letters of $q", join('; ', @lines), join('; ', map { join ' ', $q, $_->{id}, $_->{rc}, $model->is_dead($s, $q, $_), $_->{group} || () } @dead));
	foreach my $m (@dead)
	{
		$model->remove($s, $q, $m);
		$model->count($s, $q, dead_lettered => 1);
	}
	return $wrong || $model->deliver($s, $into, $ids, map { { kind => $_->{kind}, bytes => $_->{bytes}, source => $q, ($ordered ? 'group' : 'carried') => $_->{group} } } @dead);
}

# The message has got a new handle.
sub changed
{
	my ($s, $q, $m, $seconds, $handle) = @_;
	my ($id, $key, $rc, $wc) = split /-/, $handle;
	return "change of $m->{handle}: got $handle"
	  unless defined $wc && $id == $m->{id} && $rc == $m->{rc} && $wc == $m->{wc} && $handle ne $m->{handle} && !grep { $_ eq $handle } @old_handles;
	remember_handle($handle);
	$model->change($s, $q, $m, state => $seconds ? 'in_flight' : 'ready', key => $key, handle => $handle);
	return '';
}

# Messages that a call returns, as one text.
sub returned_sql { return q{string_agg(concat_ws(' ', msg_id, receive_count, rewind_count, length(body), headers->>'kind', '/' || message_group, receipt_handle), ';' ORDER BY o)}; }

sub returned_columns { return 'WITH ORDINALITY r (msg_id, receipt_handle, body, headers, e, f, v, receive_count, rewind_count, message_group, o)'; }

sub ids_of { my ($got) = @_; return $got eq '-' ? '' : join ' ', map { (split / /)[0] } split /;/, $got; }

# These messages were returned, by a call that delivers them or consumes them.
sub returned
{
	my ($s, $q, $what, $got, @messages) = @_;
	my @got = split /;/, $got;
	foreach my $m (@messages)
	{
		my $now = $model->receive($s, $q, $m);
		my $line = shift @got;
		my $handle = $what eq 'receive' && $line =~ s/ (\S+)$// ? $1 : '';
		my $wrong = differ("$what from $q", $line, join ' ', @$now{qw(id rc wc bytes)}, $m->{kind} || (), $m->{group} eq '' ? () : "/$m->{group}");
		return $wrong if $wrong;
		if ($what eq 'consume')
		{
			$model->consume($s, $q, $now);
			# to the end of the transaction
			$s->{locks}{"group $m->{group} of $q"} = 1 if $m->{group} ne '';
			next;
		}
		remember_handle($handle);
		$model->change($s, $q, $now, state => 'in_flight', handle => $handle);
	}
	return '';
}

# The same from an ordered queue.
sub receive_in_order
{
	my ($s, $q, $what, $call) = @_;
	my $n = 1 + int rand 8;
	my $kind = rand() < 0.7 ? '' : a_kind();
	my @lists = $model->ordered_lists($s, $q, $kind, {});
	my $there = grep { @{ $_->{take} } } @lists;
	my $dead = grep { @{ $_->{dead} } } @lists;
	# nobody would know whether it has met one
	return '' if $dead && is_broken($s, $model->queue($s, $q)->{dead_letter_queue});
	my $wait = $there && rand() < 0.3 ? 1 : 0;
	my $got = ask($s, "SELECT @{[returned_sql()]} FROM @{[$call->($n, $wait, kind_sql($kind))]} @{[returned_columns()]}");
	return differ("$what from $q", $got, '!P0007') if $there && $what eq 'receive' && is_broken($s, $q);
	return "$what from $q: got $got" if $got =~ /^!/;
	my ($wrong, $take, $passed, $perhaps) = $model->received_in_order($s, $q, $n, $kind, !$model->is_stuck($s, $q), split / /, ids_of($got));
	return "$what of $n '$kind' from $q: $wrong: got $got, there are " .
	  join(', ', map { join ' ', (map { "$_->{id}:$_->{kind}/$_->{group}" } @{ $_->{take} }), map { "dead:$_->{id}" } @{ $_->{dead} } } @lists) if $wrong;
	$model->count_empty_receive($s, $q) unless @$take;
	return returned($s, $q, $what, $got, @$take) || bury($s, $q, $passed, $perhaps);
}

# A call that receives or consumes, of which the function makes the text.
sub receive
{
	my ($s, $q, $what, $call) = @_;
	return receive_in_order($s, $q, $what, $call) if $model->is_ordered($s, $q);
	my $n = 1 + int rand 8;
	my $kind = rand() < 0.7 ? '' : a_kind();
	my @sources = $model->sources_of_receive($s, $q);
	my @ready = map { @$_ } @sources;
	my @dead = grep { $model->is_dead($s, $q, $_) } @ready;
	my $there = grep { !$model->is_dead($s, $q, $_) && ($kind eq '' || $_->{kind} eq $kind) } @ready;
	my $dead_is_broken = @dead && is_broken($s, $model->queue($s, $q)->{dead_letter_queue});
	# nobody would know whether it has met one
	return '' if $dead_is_broken && @sources > 1;
	# returns at once if there is anything
	my $may_move = @dead && !$model->is_stuck($s, $q) && !$dead_is_broken;
	my $wait = ($there || $may_move) && rand() < 0.3 ? 1 : 0;
	my $got = ask($s, "SELECT @{[returned_sql()]} FROM @{[$call->($n, $wait, kind_sql($kind))]} @{[returned_columns()]}");
	return differ("$what from $q", $got, '!42704') unless $model->queue($s, $q);
	return differ("$what from $q", $got, '!P0007') if $there && $what eq 'receive' && is_broken($s, $q);
	return "$what from $q: got $got" if $got =~ /^!/;
	my ($wrong, $take, $passed, $perhaps) = $model->received($s, $q, $n, $kind, split / /, ids_of($got));
	return "$what of $n '$kind' from $q: $wrong: got $got, there are " . join(', ', map { join ' ', map { "$_->{id}:$_->{kind}" } @$_ } @sources) if $wrong;
	$model->count_empty_receive($s, $q) unless @$take;
	return returned($s, $q, $what, $got, @$take) || bury($s, $q, $passed, $perhaps);
}

# To another id of the server, mostly: where ids are of classes the next one is another server's.
sub id_distance { return $model->{id_step} == 1 || rand() < 0.1 ? 1 : $model->{id_step}; }

# Ids of messages in any state, and of none, in any order.
sub some_ids
{
	my ($s, $q) = @_;
	my @messages = $model->messages($s, $q);
	my @pending = grep { $_->{due} || $_->{state} ne 'deleted' } @messages;
	my @ids = map { my @from = rand() < 0.7 && @pending ? @pending : @messages; @from ? pick(@from)->{id} + pick(0, 0, 0, 0, 1) * id_distance() : () } 1 .. 1 + rand 5;
	push @ids, pick(0, -1, 1, 1 << 62) if rand() < 0.1;
	return @ids;
}

sub set_paused
{
	my ($s, $paused, $q) = @_;
	return '' unless $model->lock($s, "queue $q");
	my $kind = $paused ? 'pause' : 'resume';
	my $got = ask($s, "SELECT cmq_${kind}_queue('$q')");
	return differ("$kind of $q", $got, $model->set_paused($s, $q, $paused));
}

sub publish
{
	my ($s, $function, $bodies, $headers, $kind, @bytes) = @_;
	my $name = pick(qw(news routes));
	my ($tags, $key) = $name eq 'news' ? (pick(undef, ['a'], ['b'], [ 'a', 'b' ]), undef) : (undef, pick(qw(a a.b a.b.c b b.a)));
	my $key_sql = defined $key ? "'$key'" : 'NULL';
	my $delay = rand() < 0.8 ? 0 : pick(3600, 300000);
	my $delay_sql = $delay ? ", $delay" : '';
	my @groups = map { rand() < ($delay ? 0.97 : 0.4) ? '' : pick(qw(a b c)) } @bytes;
	my $groups_sql = @groups == 1 && $function eq 'cmq_publish' ? ($groups[0] ne '' ? ", message_group => '$groups[0]'" : '') : groups_sql(@groups);
	my @keys = map { rand() < 0.2 ? pick(qw(k l m)) : '' } @bytes;
	my $keys_sql = $function eq 'cmq_publish' ? key_sql(@keys) : keys_sql(@keys);
	my $topic = $model->row($s, 'topic', $name);
	my @queues = $topic ? sort map { $_->{queue} } grep { $_->{topic} eq $name && $model->wants($topic, $_, $tags // [], $key) } $model->rows($s, 'subscription') : ();
	return '' if grep { $model->waits_for_key($s, $_, @keys) } @queues;
	my $got = ask($s, "SELECT string_agg(queue || ' ' || msg_id, ' ' ORDER BY o)
		FROM $function('$name', $bodies, @{[text_array_sql($tags)]}, $key_sql, $headers$delay_sql$groups_sql$keys_sql) WITH ORDINALITY p (queue, msg_id, o)");
	return differ("publish to $name", $got, '!42704') unless $topic;
	return differ("publish to $name", $got, '!22023') if $delay && grep { $_ ne '' } @groups;
	my (%n, %earlier, @later);
	foreach my $q (@queues)
	{
		my $duplicates = $model->count_duplicates($s, $q, $earlier{$q} //= {}, @keys);
		my $refusal = $model->refusal($s, $q, \@bytes, $n{$q} // 0, $delay, $duplicates);
		# all queues are looked at before one is written; the room for messages with keys, by then
		my $late = $refusal eq '!53400' && (grep { $_ ne '' } @keys) && $model->queue($s, $q)->{dedup_seconds};
		return differ("publish to $q", $got, $refusal) if $refusal && !$late;
		push @later, $late ? $refusal : is_broken($s, $q) && $duplicates < @bytes ? '!P0007' : ();
		$n{$q} += @bytes - $duplicates;
	}
	# which queue is written first depends on the clocks
	return (grep { $got eq $_ } @later) ? '' : differ("publish to $name", $got, $later[0]) if @later;
	my @got = list($got);
	my @expected = map { ($_) x @bytes } @queues;
	my @got_queues = @got[ grep { $_ % 2 == 0 } 0 .. $#got ];
	my @ids = @got[ grep { $_ % 2 == 1 } 0 .. $#got ];
	my $wrong = differ("publish to $name", "@got_queues", "@expected");
	foreach my $q (@queues)
	{
		my @its_groups = $model->is_ordered($s, $q) ? @groups : ('') x @groups;
		$wrong ||= $model->deliver_once($s, $q, \@keys, [ splice @ids, 0, @bytes ], map { { kind => $kind, bytes => $_, group => shift @its_groups, $delay ? (state => 'delayed', waits => 1) : () } } @bytes);
	}
	return $wrong;
}

#
# The operations.  Each calls the server, changes the model, and returns what the two
# disagree on, '' if they agree or nothing was called.
#
our %operations = (
	send => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q copy dead extra));
		my ($kind, $bytes) = (a_kind(), a_size());
		my ($delay, $before, $behind) = a_delay();
		# no object
		my $headers = rand() < 0.02 ? pick(q{'[1]'}, q{'null'}) : kind_sql($kind);
		my $delayed = $before ne '0' || $behind ne '';
		my ($group, $group_sql) = a_group($s, $q, $delayed);
		my ($key) = some_keys($s, $q, 1);
		return '' if $model->waits_for_key($s, $q, $key);
		my $got = ask($s, "SELECT cmq_send('$q', @{[body_sql($bytes)]}, $before, $headers$behind$group_sql@{[key_sql($key)]})");
		my $wrong_group = $group ne '' && ($delayed || !$model->is_ordered($s, $q));
		my $duplicates = $model->count_duplicates($s, $q, {}, $key);
		my $refusal = $model->refusal($s, $q, [$bytes], 0, $headers =~ /kind|NULL/ && !$wrong_group && !wrong_keys($s, $q, $key) ? $delay : 2_000_000, $duplicates);
		return differ("send to $q", $got, $refusal) if $refusal;
		return differ("send to $q", $got, '!P0007') if is_broken($s, $q) && !$duplicates;
		return $model->deliver_once($s, $q, [$key], [$got], { kind => $kind, bytes => $bytes, group => $group, $delay ? (state => 'delayed', waits => 1) : () });
	},
	send_batch => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q extra));
		my ($kind, @bytes) = (a_kind(), map { a_size() } 1 .. 1 + rand 4);
		my ($delay, $before, $behind) = a_delay();
		my $delayed = $before ne '0' || $behind ne '';
		my @groups = map { (a_group($s, $q, $delayed))[0] } @bytes;
		my @keys = some_keys($s, $q, scalar @bytes);
		return '' if $model->waits_for_key($s, $q, @keys);
		my $got = ask($s, "SELECT string_agg(i::text, ' ' ORDER BY o) FROM cmq_send_batch('$q', @{[array_sql(map { body_sql($_) } @bytes)]},
			$before, @{[array_sql(map { kind_sql($kind) } @bytes)]}::jsonb[]$behind@{[groups_sql(@groups)]}@{[keys_sql(@keys)]}) WITH ORDINALITY b (i, o)");
		my $duplicates = $model->count_duplicates($s, $q, {}, @keys);
		my $wrong_group = grep({ $_ ne '' } @groups) && ($delayed || !$model->is_ordered($s, $q));
		my $refusal = $model->refusal($s, $q, \@bytes, 0, $wrong_group || wrong_keys($s, $q, @keys) ? 2_000_000 : $delay, $duplicates);
		return differ("batch to $q", $got, $refusal) if $refusal;
		return $model->deliver_once($s, $q, \@keys, [ list($got) ], map { { kind => $kind, bytes => $_, group => shift @groups, $delay ? (state => 'delayed', waits => 1) : () } } @bytes);
	},
	publish => sub {
		my ($s) = @_;
		my ($kind, $bytes) = (a_kind(), a_size());
		return publish($s, 'cmq_publish', body_sql($bytes), kind_sql($kind), $kind, $bytes);
	},
	publish_batch => sub {
		my ($s) = @_;
		my ($kind, @bytes) = (a_kind(), map { a_size() } 1 .. 1 + rand 3);
		return publish($s, 'cmq_publish_batch', array_sql(map { body_sql($_) } @bytes), array_sql(map { kind_sql($kind) } @bytes) . '::jsonb[]', $kind, @bytes);
	},
	receive => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q q dead copy extra));
		my $timeout = pick('NULL', 43200);
		return receive($s, $q, 'receive', sub { my ($n, $wait, $filter) = @_; return "cmq_receive('$q', $n, $timeout, $wait, $filter)"; });
	},
	consume => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q q dead copy extra));
		return receive($s, $q, 'consume', sub { my ($n, $wait, $filter) = @_; return "cmq_consume('$q', $n, $wait, $filter)"; });
	},
	receive_messages => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q q dead copy extra));
		my @ids = some_ids($s, $q);
		my $got = ask($s, "SELECT @{[returned_sql()]} FROM cmq_receive_messages('$q', '{@{[join ',', @ids]}}') @{[returned_columns()]}");
		return differ("receive_messages from $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("receive_messages from $q", $got, '!22023') if $model->is_foreign(@ids);
		my @meant = $model->is_paused($s, $q) ? () : $model->is_ordered($s, $q) ? $model->chosen_in_order($s, $q, @ids) :
		  grep { !$model->is_dead($s, $q, $_) } $model->waiting($s, $q, @ids);
		return differ("receive_messages from $q", $got, '!P0007') if @meant && is_broken($s, $q);
		return differ("receive_messages from $q", ids_of($got), join(' ', map { $_->{id} } @meant)) || returned($s, $q, 'receive', $got, @meant);
	},
	delete_messages => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q q dead copy extra));
		my @ids = some_ids($s, $q);
		my $got = ask($s, "SELECT string_agg(i::text, ' ' ORDER BY o) FROM cmq_delete_messages('$q', '{@{[join ',', @ids]}}') WITH ORDINALITY d (i, o)");
		return differ("delete_messages in $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("delete_messages in $q", $got, '!22023') if $model->is_foreign(@ids);
		my @meant = $model->waiting($s, $q, @ids);
		$model->take_back($s, $q, $_) foreach @meant;
		return differ("delete_messages in $q", $got, join(' ', map { $_->{id} } @meant) || '-');
	},
	delete => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q dead copy extra));
		my $handle = a_handle($s, $q, qr/./);
		return '' if $handle eq '' || is_held($s, $q, $handle);
		my $got = ask($s, "SELECT cmq_delete('$q', '$handle')");
		return differ("delete in $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("delete of $handle", $got, '!22023') if $model->is_foreign($handle);
		my $m = $model->holder($s, $q, $handle);
		$model->consume($s, $q, $m) if $m;
		return differ("delete of $handle", $got, $m ? 'true' : 'false');
	},
	delete_batch => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q dead extra));
		my %handles = map { a_handle($s, $q, qr/./) => 1 } 1 .. 4;
		my @handles = grep { $_ ne '' && !is_held($s, $q, $_) } sort keys %handles or return '';
		my $got = ask($s, "SELECT string_agg(h, ' ' ORDER BY o) FROM cmq_delete_batch('$q', @{[text_array_sql(\@handles)]}) WITH ORDINALITY b (h, o)");
		return differ("delete_batch in $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("delete_batch in $q", $got, '!22023') if $model->is_foreign(@handles);
		my @good = grep { $model->holder($s, $q, $_) } @handles;
		$model->consume($s, $q, $model->holder($s, $q, $_)) foreach @good;
		return differ("delete_batch in $q", $got, join(' ', @good) || '-');
	},
	change_visibility => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q dead extra));
		my ($handle, $seconds) = (a_handle($s, $q, pick(qr/in_flight/, qr/in_flight/, qr/./)), pick(0, 0, 0, 600));
		return '' if $handle eq '' || is_held($s, $q, $handle);
		my $got = ask($s, "SELECT cmq_change_visibility('$q', '$handle', $seconds)");
		return differ("change_visibility in $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("change_visibility of $handle", $got, '!22023') if $model->is_foreign($handle);
		my $m = $model->holder($s, $q, $handle) or return differ("change_visibility of $handle", $got, '-');
		return differ("change_visibility of $handle", $got, '!P0007') if is_broken($s, $q);
		return changed($s, $q, $m, $seconds, $got);
	},
	change_visibility_batch => sub {
		my ($s) = @_;
		my ($q, $seconds) = (pick(qw(q q q dead extra)), pick(0, 0, 0, 600));
		my @handles = some_handles($s, $q, pick(qr/in_flight/, qr/./)) or return '';
		my $got = ask($s, "SELECT string_agg(old_handle || ' ' || new_handle, ' ' ORDER BY o)
			FROM cmq_change_visibility_batch('$q', @{[text_array_sql(\@handles)]}, $seconds) WITH ORDINALITY b (old_handle, new_handle, o)");
		return differ("change_visibility_batch in $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("change_visibility_batch in $q", $got, '!22023') if $model->is_foreign(@handles);
		my @good = good_handles($s, $q, @handles);
		return differ("change_visibility_batch in $q", $got, '!P0007') if @good && is_broken($s, $q);
		my @got = list($got);
		my $wrong = differ("change_visibility_batch in $q", join(' ', @got[ grep { $_ % 2 == 0 } 0 .. $#got ]), "@good");
		$wrong ||= changed($s, $q, $model->holder($s, $q, $good[$_]), $seconds, $got[ 2 * $_ + 1 ]) foreach 0 .. $#good;
		return $wrong;
	},
	release => sub {
		my ($s) = @_;
		my ($q, $delay, $counted) = (pick(qw(q q q dead extra)), pick('NULL', 'NULL', 0, 0, 0, 600), pick(1, 1, 0));
		my @handles = some_handles($s, $q, pick(qr/in_flight/, qr/./)) or return '';
		my $arguments = join ', ', text_array_sql(\@handles), $delay, $counted ? pick('true', 'DEFAULT') : 'false';
		$arguments =~ s/, DEFAULT$//;
		my $got = ask($s, "SELECT string_agg(h, ' ' ORDER BY o) FROM cmq_release('$q', $arguments) WITH ORDINALITY r (h, o)");
		return differ("release in $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("release in $q", $got, '!22023') if $model->is_foreign(@handles);
		my @good = good_handles($s, $q, @handles);
		return differ("release in $q", $got, '!P0007') if @good && is_broken($s, $q);
		my $wrong = differ("release in $q", $got, join(' ', @good) || '-');
		return $wrong if $wrong || !@good;
		my @messages = map { $model->holder($s, $q, $_) } @good;
		# an old snapshot shows rows that others have moved, too: the one with the highest counts is ours
		my %key = list(ask($s, "SELECT string_agg(concat_ws(' ', cmq.msg_id(enqueued_at), cmq.msg_id(visible_at)), ' ' ORDER BY rewind_count, change_count)
			FROM cmq_data.q_${q}_pending WHERE change_count > 0 AND cmq.msg_id(enqueued_at) IN (@{[join ', ', map { $_->{id} } @messages]})"));
		# all are released at one moment, about now
		my $moment;
		foreach my $m (@messages)
		{
			my $seconds = $delay eq 'NULL' ? $model->back_off($s, $q, $m) : $delay;
			my $its_moment = $key{ $m->{id} } - $seconds * 1_000_000;
			$moment //= $its_moment;
			$wrong ||= differ("moment of the release of $m->{id}", $its_moment, $moment);
			$wrong ||= "release of $m->{id}, away for $seconds s, at $its_moment" if abs($its_moment - time * 1_000_000) > 600_000_000;
			$model->release($s, $q, $m, $seconds, $counted, $key{ $m->{id} });
		}
		return $wrong;
	},
	rewind => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q dead extra));
		return '' unless $model->lock($s, "queue $q");
		my @messages = $model->messages($s, $q);
		my $earliest = $model->oldest($s, $q);
		# most are in the range
		my @choice = $earliest && rand() < 0.8 ? grep { $_->{id} <= $earliest->{id} } @messages : @messages;
		my ($from, $from_sql) = (0, "now() - interval '1 hour'");
		if (@choice && rand() < 0.8)
		{
			$from = pick(@choice)->{id} + pick(0, 0, 1);
			$from_sql = "cmq.enqueued_at($from)";
		}
		# before the rewind window
		($from, $from_sql) = (-1, "now() - interval '1 day 1 second'") if rand() < 0.05;
		my $got = ask($s, "SELECT cmq.msg_id(cmq_rewind('$q', $from_sql))");
		return differ("rewind of $q to $from_sql", $got, $model->rewind($s, $q, $from));
	},
	cancel_rewind => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q dead extra));
		return '' unless $model->lock($s, "queue $q");
		my $got = ask($s, "SELECT cmq_cancel_rewind('$q')");
		return differ("cancel in $q", $got, $model->cancel_rewind($s, $q));
	},
	preview => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q dead extra));
		my ($from, $to, $kind, $window, $filter) = a_window($s, $q);
		my $got = ask($s, "SELECT concat_ws(' ', messages, body_bytes, cmq.msg_id(first_enqueued_at), cmq.msg_id(last_enqueued_at)) FROM cmq_rewind_preview('$q', $window, $filter)");
		return differ("preview in $q", $got, $model->preview($s, $q, $from, $to, $kind));
	},
	history => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q dead extra));
		my ($from, $to, undef, $window) = a_window($s, $q);
		my $got = ask($s, "SELECT concat_ws(' ', count(*), sum(octet_length(body)), min(msg_id), max(msg_id)) FROM cmq_history('$q', $window)");
		$model->queue($s, $q) or return differ("history of $q", $got, '!42704');
		return differ("history of $q", $got, '!22023') if defined $to && $from > $to;
		# what its transaction saw at first, while the model is of now
		return '' if $s->{open} && $s->{isolation} ne 'READ COMMITTED';
		my @meant = $model->history($s, $q, $from, $to, '');
		my $bytes = 0;
		$bytes += $_->{bytes} foreach @meant;
		return differ("history of $q", $got, join ' ', scalar @meant, @meant ? ($bytes, $meant[0]{id}, $meant[-1]{id}) : ());
	},
	restore => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q extra));
		return '' unless $model->lock($s, "queue $q");
		my ($from, $to, $kind, $window, $filter) = a_window($s, $q);
		my @meant = $model->history($s, $q, $from, $to, $kind);
		return '' if grep { $model->is_held($s, $q, $_) } @meant;
		my $expected = rand() < 0.5 ? 'NULL' : @meant + (rand() < 0.2 ? 1 : 0);
		my $got = ask($s, "SELECT cmq_restore('$q', $window, $filter, $expected)");
		return differ("restore in $q", $got, $model->restore($s, $q, $from, $to, $kind, $expected eq 'NULL' ? undef : $expected));
	},
	restore_messages => sub {
		my ($s) = @_;
		my $q = pick(qw(q q q extra));
		return '' unless $model->lock($s, "queue $q");
		my @messages = $model->messages($s, $q) or return '';
		my %ids = map { pick(@messages)->{id} + pick(0, 0, 0, 1) * id_distance() => 1 } 1 .. 4;
		return '' if grep { $ids{ $_->{id} } && $model->is_held($s, $q, $_) } $model->history($s, $q, undef, undef, '');
		my $got = ask($s, "SELECT string_agg(i::text, ' ' ORDER BY o) FROM cmq_restore_messages('$q', '{@{[join ',', reverse sort keys %ids]}}') WITH ORDINALITY r (i, o)");
		return differ("restore_messages in $q", $got, $model->restore_messages($s, $q, keys %ids));
	},
	replay => sub {
		my ($s) = @_;
		my ($q, $into) = (pick(qw(q q q extra)), pick(qw(copy copy dead extra q)));
		my ($from, $to, $kind, $window, $filter) = a_window($s, $q);
		my $once = rand() < 0.4;
		my @meant = $model->queue($s, $q) ? $model->history($s, $q, $from, $to, $kind) : ();
		my @keys = map { $once ? "cmq_origin:$q:$_->{id}" : '' } @meant;
		return '' if $model->waits_for_key($s, $into, @keys);
		my $got = ask($s, "SELECT cmq_replay('$q', '$into', $window, $filter@{[$once ? ', dedup => true' : '']})");
		my $what = "replay of $q into $into";
		my $queue = $model->queue($s, $q) or return differ($what, $got, '!42704');
		return differ($what, $got, '!22023') if (defined $to && $from > $to) || $into eq $q;
		return differ($what, $got, '!42704') unless $model->queue($s, $into);
		return differ($what, $got, '!55000') unless $queue->{rewind_seconds};
		return differ($what, $got, '!22023') if $once && !$model->queue($s, $into)->{dedup_seconds};
		my $duplicates = $model->count_duplicates($s, $into, {}, @keys);
		my $refusal = @meant ? $model->refusal($s, $into, [ map { $_->{bytes} } @meant ], 0, 0, $duplicates) : '';
		return differ($what, $got, $refusal) if $refusal;
		@meant = grep { !$once || !defined $model->sent_before($s, $into, "cmq_origin:$q:$_->{id}") } @meant;
		return differ($what, $got, '!P0007') if @meant && is_broken($s, $into);
		$model->record($s, kind => 'replay', queue => $q, into => $into, messages => scalar @meant) if @meant;
		return differ($what, $got, scalar @meant) if $got ne @meant || !@meant;
		my $ordered = $model->is_ordered($s, $into);
		my ($ids, @lines) = arrived($s, $into, 'cmq_origin,queue', 'cmq_origin,msg_id', 'cmq_origin,message_group', $ordered ? 'message_group' : ());
		return differ($what, join('; ', @lines), join('; ', map { join ' ', $q, $_->{id}, $_->{group} || () } @meant))
		  || $model->deliver_once($s, $into, [ map { $once ? "cmq_origin:$q:$_->{id}" : '' } @meant ], $ids,
			map { { %$_{qw(kind bytes source carried)}, group => $ordered ? $_->{group} : '' } } @meant);
	},
	redrive => sub {
		my ($s) = @_;
		my ($q, $max) = (pick(qw(dead dead extra)), pick('NULL', 'NULL', 1, 2));
		# by a header of its own, or by the queue that it came from
		my ($kind, $from) = @{ pick([ '', '' ], [ '', '' ], [ pick('a', 'b'), '' ], [ '', pick('q', 'copy') ]) };
		my @messages = $model->messages($s, $q);
		my %ids = @messages && rand() < 0.4 ? map { pick(@messages)->{id} + pick(0, 0, 0, 0, 1) * id_distance() => 1 } 1 .. 1 + rand 6 : ();
		my $filter = $from ne '' ? "'{\"cmq_dead_letter\": {\"queue\": \"$from\"}}'" : kind_sql($kind);
		my $ids = %ids ? "'{" . join(',', reverse sort keys %ids) . "}'" : 'NULL';
		my (@back, %n);
		foreach my $m ($model->ready($s, $q))
		{
			last if $max ne 'NULL' && @back == $max;
			next if ($kind ne '' && $m->{kind} ne $kind) || ($from ne '' && $m->{source} ne $from) || (%ids && !$ids{ $m->{id} });
			my $source = $m->{source} ne '' && $model->queue($s, $m->{source});
			next unless $source && $source->{dead_letter_queue} eq $q;
			# what its queue does not take stays
			next if $model->refusal($s, $m->{source}, [ $m->{bytes} ], scalar @{ $n{ $m->{source} } // [] });
			push @back, $m;
			push @{ $n{ $m->{source} } }, $m;
		}
		my $got = ask($s, "SELECT cmq_redrive('$q', $max, $filter, $ids)");
		return differ("redrive $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("redrive $q", $got, '!22023') if $model->is_foreign(keys %ids);
		my $wrong = differ("redrive $q", $got, scalar @back);
		$model->take_back($s, $q, $_) foreach @back;
		foreach my $source (sort keys %n)
		{
			my $ordered = $model->is_ordered($s, $source);
			my ($ids, @lines) = arrived($s, $source, $ordered ? 'message_group' : ());
			my @groups = map { !$ordered ? '' : $_->{group} ne '' ? $_->{group} : $_->{carried} } @{ $n{$source} };
			$wrong ||= differ("groups of what came back to $source", join('; ', @lines), join('; ', @groups));
			$wrong ||= $model->deliver($s, $source, $ids, map { { kind => $_->{kind}, bytes => $_->{bytes}, group => shift @groups } } @{ $n{$source} });
		}
		return $wrong;
	},
	clear_queue => sub {
		my ($s) = @_;
		my $q = pick(qw(q copy copy dead extra extra));
		return '' if !$model->lock($s, "queue $q") || grep { $model->is_held($s, $q, $_) } $model->pending($s, $q);
		my $got = ask($s, "SELECT cmq_clear_queue('$q')");
		return differ("clear of $q", $got, $model->clear_queue($s, $q));
	},
	pause => sub { my ($s) = @_; return set_paused($s, 1, pick(qw(q copy dead extra))); },
	resume => sub {
		my ($s) = @_;
		my @paused = grep { $model->is_paused($s, $_) } qw(q copy dead extra);
		return set_paused($s, 0, pick(qw(q copy dead extra), (@paused) x 5));
	},
	maintain => sub {
		my ($s) = @_;
		my $q = pick(qw(q extra all));
		return '' if !may_lock_out($s);
		my $got = ask($s, "SELECT cmq_maintain(@{[$q eq 'all' ? 'NULL' : qq('$q')]})");
		return differ("maintain $q", $got, '!42704') unless $q eq 'all' || $model->queue($s, $q);
		my $wrong = differ("maintain $q", $got, '-');
		foreach my $name ($q eq 'all' ? map { $_->{name} } $model->rows($s, 'queue') : $q)
		{
			if (!$model->is_paused($s, $name))
			{
				$model->stick($s, $name, 0) if $model->queue($s, $name)->{dead_letter_queue} ne '';
				$wrong ||= bury($s, $name, [ grep { $model->is_dead($s, $name, $_) } $model->ready($s, $name) ], []);
			}
			# forgets a rewind that is done, unless somebody else has the lock
			$model->alter($s, $name, rewind => undef)
			  if $model->lock($s, "queue $name") && !grep { $_->{due} } $model->messages($s, $name);
		}
		return $wrong;
	},
	attributes => sub {
		my ($s) = @_;
		my $q = pick(qw(q q copy dead extra));
		push @trace, "  $s->{no}: cmq_queue_attributes('$q')";
		$called{cmq_queue_attributes}++;
		my $got = ask($s, "SELECT attributes('$q')");
		return differ("attributes of $q", $got, '!42704') unless $model->queue($s, $q);
		return differ("attributes of $q", $got, $model->attributes($s, $q));
	},
	look => sub {
		my ($s) = @_;
		my $q = pick(qw(q q copy dead));
		# the views show what the transaction's snapshot does
		return '' if $s->{isolation} ne 'READ COMMITTED';
		return differ("contents of $q", ask($s, "SELECT contents('$q')"), $model->contents($s, $q) || '-');
	},
	alter_queue => sub {
		my ($s) = @_;
		my $q = pick(qw(q q copy extra));
		my $room = $model->pending($s, $q) + pick(0, 1, 5);
		my ($setting, $value) = @{ pick([ visibility_timeout => pick(43200, 43199) ], [ rewind_seconds => pick(80000, 86400) ],
			[ rewind_share => pick(1, 40, 70, 100) ], [ dedup_seconds => pick(1000, 86400) ], [ max_msg_size => pick(1024, 1048576) ], [ max_msg_heap_num => pick($room || 1, 1000, 1000) ], [ max_receive_count => pick(1, 1, 2, 3) ], [ max_time_to_live => 300 ],
			[ retry_backoff_seconds => pick(0, 0, 2000) ], [ retry_backoff_max_seconds => pick(0, 3000, 43200) ]) };
		my $queue = $model->queue($s, $q);
		return '' if $setting =~ /^(?:rewind|dedup)_seconds/ && $queue && !$queue->{$setting};
		return '' unless $model->lock($s, "queue $q");
		# the limits of a dead-letter queue are tried in sql/dead_letter
		return '' if $setting =~ /^max_msg/ && $model->sources($s, $q);
		my $dead = $queue ? $queue->{dead_letter_queue} : '';
		my $is_policy = $setting =~ /^max_(?:receive|time)/;
		return '' if $is_policy && $dead ne '' && !$model->lock($s, "queue $dead");
		my $got = ask($s, "SELECT cmq_alter_queue('$q', $setting => $value)");
		return differ("alter $q", $got, $model->alter_queue($s, $q, $setting => $value));
	},
	# these wait for everybody who uses the queue
	alter_times => sub {
		my ($s) = @_;
		my $q = pick(qw(q q extra));
		return '' if !may_lock_out($s) || !$model->is_alone($s, $q) || !$model->lock($s, "queue $q");
		my $queue = $model->queue($s, $q);
		# rewind is never off for long
		my $is_off = $queue && !$queue->{rewind_seconds};
		my ($setting, $value) = rand() < 0.3 ? (dedup_seconds => pick(0, 1000, 86400)) : !$is_off && rand() < 0.5 ? (msg_retention_seconds => pick(345600, 259200)) :
		  (rewind_seconds => !$is_off && rand() < 0.3 ? 0 : pick(80000, 86400));
		my $got = ask($s, "SELECT cmq_alter_queue('$q', $setting => $value)");
		return differ("alter $q", $got, $model->alter_queue($s, $q, $setting => $value));
	},
	bind_dead_letter => sub {
		my ($s) = @_;
		my ($q, $dead) = (pick(qw(q q copy extra)), pick(qw(dead dead dead q extra)));
		my %policy = %{ pick((map { { max_receive_count => $_ } } 1, 1, 2, 3), { max_time_to_live => 300 }, { max_receive_count => 2, max_time_to_live => 300 }) };
		my $policy = join ', ', map { "$_ => $policy{$_}" } sort keys %policy;
		return '' unless $model->lock($s, "queue $q") && $model->lock($s, "queue $dead");
		my $limits = $model->queue($s, $dead);
		return '' if $limits && ($limits->{max_msg_size} < 1048576 || $limits->{max_msg_heap_num} < 1000);
		my $got = ask($s, "SELECT cmq_alter_queue('$q', dead_letter_queue => '$dead', $policy)");
		return differ("bind $q to $dead", $got, $model->alter_queue($s, $q, dead_letter_queue => $dead, %policy));
	},
	unbind_dead_letter => sub {
		my ($s) = @_;
		my $q = pick(qw(q copy extra));
		return '' unless $model->lock($s, "queue $q");
		my $got = ask($s, "SELECT cmq_unbind_dead_letter('$q')");
		return differ("unbind $q", $got, $model->unbind_dead_letter($s, $q));
	},
	create_queue => sub {
		my ($s) = @_;
		my ($seconds, $dead) = (pick(0, 86400, 86400), pick('', 'dead'));
		return '' if !$model->lock($s, 'creation of queues') || ($dead && !$model->lock($s, "queue $dead"));
		my $exists = $model->queue($s, 'extra');
		my $name = $exists ? pick(qw(extra Extra)) : 'extra';
		my $policy = $dead ? "dead_letter_queue => '$dead', max_receive_count => 2, rewind_share => 50" : 'max_msg_size => 1024';
		my $ordered = pick(0, 1);
		$policy .= ', ordered => true' if $ordered;
		my $dedup = pick(0, 0, 1000);
		$policy .= ", dedup_seconds => $dedup" if $dedup;
		my $got = ask($s, "SELECT cmq_create_queue('$name', visibility_timeout => 43200, rewind_seconds => $seconds, $policy)");
		return differ("create $name", $got, $model->create_queue($s, 'extra', visibility_timeout => 43200, rewind_seconds => $seconds, ordered => $ordered, dedup_seconds => $dedup,
			$dead ? (dead_letter_queue => $dead, max_receive_count => 2, rewind_share => 50) : (max_msg_size => 1024)));
	},
	drop_queue => sub {
		my ($s) = @_;
		# of the others only one that cannot be dropped
		my $q = pick('extra', 'extra', map { $_->{name} } grep { $model->sources($s, $_->{name}) } $model->rows($s, 'queue'));
		return '' if !may_lock_out($s) || !$model->is_alone($s, $q) || !$model->lock($s, "queue $q") || !$model->lock($s, 'topics');
		my $got = ask($s, "SELECT cmq_drop_queue('$q')");
		return differ("drop $q", $got, $model->drop_queue($s, $q));
	},
	create_topic => sub {
		my ($s) = @_;
		my %types = (news => 'tag', routes => 'routing');
		my $name = pick('news', 'routes', (grep { !$model->row($s, 'topic', $_) } 'news', 'routes') x 5);
		my $type = $types{$name};
		return '' unless $model->lock($s, 'topics');
		my $got = ask($s, "SELECT cmq_create_topic('$name', '$type')");
		return differ("create topic $name", $got, $model->create_topic($s, $name, $type));
	},
	drop_topic => sub {
		my ($s) = @_;
		my %used = map { $_->{topic} => 1 } $model->rows($s, 'subscription');
		my $name = pick('news', 'routes', (grep { !$used{$_} } 'news', 'routes') x 5);
		return '' unless $model->lock($s, 'topics');
		my $got = ask($s, "SELECT cmq_drop_topic('$name')");
		return differ("drop topic $name", $got, $model->drop_topic($s, $name));
	},
	subscribe => sub {
		my ($s) = @_;
		my ($topic, $name, $q) = (pick(qw(news routes)), pick(qw(s1 s2)), pick(qw(q q copy dead extra)));
		return '' unless $model->lock($s, 'topics') && $model->lock($s, "queue $q");
		my ($tags, $keys) = (pick(undef, ['a'], [ 'b', 'c' ]), pick(['a'], ['a.*'], ['a.#'], ['#'], [ '*.a', '#.c' ]));
		undef(rand() < 0.1 ? $tags : $topic eq 'news' ? $keys : $tags);
		my $got = ask($s, "SELECT cmq_subscribe('$topic', '$name', '$q', @{[text_array_sql($tags)]}, @{[text_array_sql($keys)]})");
		return differ("subscribe $q to $topic", $got, $model->subscribe($s, $topic, $name, $q, $tags, $keys));
	},
	unsubscribe => sub {
		my ($s) = @_;
		my ($topic, $name) = (pick(qw(news routes)), pick(qw(s1 s2)));
		my $subscription = $model->row($s, 'subscription', "$topic $name");
		return '' unless $model->lock($s, 'topics') && (!$subscription || $model->lock($s, "queue $subscription->{queue}"));
		my $got = ask($s, "SELECT cmq_unsubscribe('$topic', '$name')");
		return differ("unsubscribe $topic $name", $got, $model->unsubscribe($s, $topic, $name));
	});

# How often each is called, for one of those that are not named here.
my %weights = (
	receive => 24, consume => 8, receive_messages => 5, delete_messages => 4, delete => 14, change_visibility => 12, send => 9, delete_batch => 9,
	change_visibility_batch => 6, release => 9, send_batch => 6, publish => 4, alter_queue => 4, publish_batch => 3, rewind => 3, alter_times => 3, redrive => 4, pause => 1, resume => 3,
	map { $_ => 2 } qw(preview history restore restore_messages replay maintain attributes look bind_dead_letter
	  create_queue drop_queue subscribe unsubscribe create_topic drop_topic cancel_rewind clear_queue));
our @operations = map { ($_) x ($weights{$_} // 1) } sort keys %operations;

#
# The program
#

sub run_some
{
	my ($s, $n) = @_;
	foreach (1 .. $n)
	{
		my $before = @trace;
		my $name;
		do
		{
			my $locks = { %{ $s->{locks} } };
			$name = pick(@operations);
			$disagree ||= $operations{$name}->($s);
			# an error gives back what the call has locked
			$s->{locks} = $locks if @trace == $before || $trace[-1] =~ /^  = !/;
		} until $disagree || @trace > $before;
		$outcomes{$name}{ $trace[-1] =~ /^  = !(.*)/ ? $1 : 'done' }++;
	}
	return;
}

sub command
{
	my ($s, $sql) = @_;
	push @trace, "  $s->{no}: $sql";
	$s->{psql}->query_safe($sql);
	return;
}

sub begin_transaction
{
	my ($s, $overlap) = @_;
	# what is serializable can fail if transactions overlap
	@$s{qw(open stays isolation)} = (1, $overlap && rand() < 0.7, pick('READ COMMITTED', 'REPEATABLE READ', $overlap ? () : 'SERIALIZABLE'));
	command($s, "BEGIN ISOLATION LEVEL $s->{isolation}");
	$transactions++;
	return;
}

sub end_transaction
{
	my ($s) = @_;
	my $how = pick(qw(COMMIT COMMIT COMMIT COMMIT ROLLBACK ROLLBACK), $s->{locks_out} ? 'COMMIT' : 'PREPARE');
	if ($how eq 'PREPARE')
	{
		my $name = 'p' . ++$prepares;
		command($s, "PREPARE TRANSACTION '$name'");
		push @{ $server->{prepared} }, $model->prepare($s, name => $name);
	}
	else
	{
		command($s, $how);
		$how eq 'COMMIT' ? $model->commit($s) : $model->rollback($s);
	}
	@$s{qw(open stays locks_out isolation)} = (0, 0, 0, 'READ COMMITTED');
	return;
}

# Whoever is in no transaction ends one that is prepared.
sub end_prepared
{
	my ($s) = @_;
	my ($prepared) = splice @{ $server->{prepared} }, rand @{ $server->{prepared} }, 1;
	my $commit = rand() < 0.6;
	command($s, ($commit ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$prepared->{name}'");
	$model->end_prepared($prepared, $commit);
	return;
}

sub end_all
{
	end_transaction($_) foreach grep { $_->{open} } @{ $server->{sessions} };
	end_prepared($server->{sessions}[0]) while @{ $server->{prepared} };
	return;
}

# Messages of a queue become older than max_time_to_live.  Nobody is at work.
sub age
{
	my $q = pick(qw(q q copy extra));
	# rewinds go back for an hour
	return if !$model->queue($stranger, $q) || ++$server->{ages}{$q} > 5;
	push @trace, "  $server->{name}: age('$q', 400)";
	my $s = $server->{sessions}[0];
	$model->age($s, $q, 400_000_000) if $server->{observer}->query_safe("SELECT age('$q', 400)") eq 't';
	$model->commit($s);
	# what was delayed meanwhile is no older for that
	end_delays($q) if rand() < 0.6;
	return;
}

# The delays in a queue are over.  Nobody is at work.
sub end_delays
{
	my $q = shift // pick(qw(q q copy dead extra));
	return unless $model->queue($stranger, $q);
	my $time = $server->{observer}->query_safe("SELECT end_delays('$q')");
	push @trace, "  $server->{name}: end_delays('$q') = $time";
	my $s = $server->{sessions}[0];
	$model->end_delays($s, $q, $time);
	$model->commit($s);
	return;
}

# One may be in the other.
sub run_in_savepoint
{
	my ($s, $again) = @_;
	my $saved = $model->save($s);
	command($s, 'SAVEPOINT s');
	run_some($s, 1 + rand 2);
	run_in_savepoint($s, $again / 2) if rand() < $again;
	my $back = rand() < 0.7;
	command($s, $back ? 'ROLLBACK TO s' : 'RELEASE s');
	$model->rollback_to($s, $saved) if $back;
	# it is still there, and the one around it is meant after this
	command($s, 'RELEASE s') if $back;
	run_some($s, 1);
	return;
}

# Some operations in one session: in a statement of their own, or in a transaction, which
# may be open from an earlier step and may stay open.
sub step
{
	my ($s, $overlap) = @_;
	if (!$s->{open} && @{ $server->{prepared} } && rand() < 0.5)
	{
		end_prepared($s);
	}
	if (!$s->{open} && rand() < ($s->{breaks} ? 0.3 : 0.05))
	{
		$s->{breaks} = !$s->{breaks};
		command($s, 'SET test.breaks = ' . ($s->{breaks} ? 'on' : 'off'));
	}
	if (!$s->{open} && rand() < 0.2)
	{
		run_some($s, 1);
		$s->{locks_out} = 0;
		$model->commit($s);
		return;
	}
	begin_transaction($s, $overlap) unless $s->{open};
	run_some($s, 1 + rand 2);
	run_in_savepoint($s, 0.2) if rand() < 0.2;
	end_transaction($s) unless $s->{stays} && rand() < 0.7;
	return;
}


# What is committed, to somebody else.
sub check
{
	# these calls change nothing, and are made here alone
	$called{$_}++ foreach qw(cmq_messages cmq_message cmq_timeline);
	my @got = split /\n/, $server->{observer}->query_safe('SELECT everything()');
	my @queues = map { $_->{name} } $model->rows($stranger, 'queue');
	my @expected = (
		(map { ("$_ has " . $model->contents($stranger, $_), "$_ is " . $model->attributes($stranger, $_)) } @queues),
		(map { "$_ has had " . $model->metrics($stranger, $_) } @queues),
		(map { "$_ shows " . $model->status($stranger, $_) } @queues),
		(map { "topic $_->{name} $_->{type}" } $model->rows($stranger, 'topic')),
		(map { join ' ', 'subscription', @$_{qw(topic name queue)}, $_->{filters} ? join(',', @{ $_->{filters} }) : () } $model->rows($stranger, 'subscription')),
		'calls recorded ' . ($server->{rewinds_before} + $model->rows($stranger, 'rewinds')));
	foreach my $i (0 .. ($#got > $#expected ? $#got : $#expected))
	{
		$disagree ||= differ('committed', $got[$i] // 'nothing', $expected[$i] // 'nothing');
	}
	return;
}

sub check_rewinds
{
	my $got = $server->{observer}->query_safe("SELECT concat_ws(' ', queue, kind, into_queue, messages) FROM cmq.rewinds WHERE id > $server->{rewinds_seen} ORDER BY id");
	$disagree ||= differ('cmq.rewinds', $got, join "\n", $model->rewinds($stranger));
	$server->{rewinds_seen} = $server->{observer}->query_safe('SELECT coalesce(max(id), 0) FROM cmq.rewinds');
	$server->{rewinds_before} = $server->{observer}->query_safe('SELECT count(*) FROM cmq.rewinds');
	return;
}

# The result of the test, and what was done.
sub report
{
	my ($what) = @_;
	ok(!$disagree, $what);
	foreach my $name (sort keys %operations)
	{
		my $n = $outcomes{$name} // {};
		note("$name: ", join ', ', map { "$_ $n->{$_}" } sort keys %$n);
	}
	if ($disagree)
	{
		diag($disagree);
		diag(join "\n", @trace > 40 ? @trace[ -40 .. -1 ] : @trace);
		# all of it, from the beginning of these queues, is in the log of this test
		note(join "\n", @trace);
	}
	return;
}

1;
