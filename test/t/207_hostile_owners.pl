# Owners whose functions in indexes attack whoever writes their tables, and each
# other: no code runs as a role that did not name the code's queue, or reads what
# another owner has; the server stays up, and no message is lost.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

# after a crash the attacks that follow are still tried
my $node = CmqNode->running('main', <<'CONF');
cmq.max_queues = 400
restart_after_crash = on
log_error_verbosity = verbose
CONF

# The same for what must succeed.
sub must
{
	my ($role, $sql) = @_;
	return $node->sql("SET SESSION AUTHORIZATION $role;\n$sql");
}

# Is the server up?  If not, wait until it is again.
sub up
{
	my ($out, $name) = @_;
	my $lost = $out =~ /connection|terminated/;

	ok(!$lost, "$name: the server stays up") or diag($out);
	$node->wait_until('SELECT true') if $lost;
	return !$lost;
}

$node->sql(q{
	CREATE ROLE attacker; CREATE ROLE victim; CREATE ROLE operator; CREATE ROLE bystander;
	GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO attacker, victim;
	CREATE SCHEMA a AUTHORIZATION attacker;
	GRANT USAGE ON SCHEMA a TO PUBLIC;
	CREATE TABLE public.ran_as (role text, session text);
	GRANT INSERT ON public.ran_as TO PUBLIC});

note 'becoming superuser by what a superuser does to a queue';

must('attacker', q{
	SELECT FROM cmq_create_queue('bait', visibility_timeout => 43200, rewind_seconds => 3600);
	CREATE FUNCTION a.grab() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO public.ran_as VALUES (current_user, session_user);
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
			BEGIN
				EXECUTE 'ALTER ROLE attacker SUPERUSER';
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END IF;
	END $$;
	CREATE FUNCTION a.bait(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.grab(); RETURN length(t); END $$;
	CREATE FUNCTION a.bait(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.grab(); RETURN n; END $$;
	SELECT FROM cmq_create_queue('own_dead');
	SELECT FROM cmq_create_topic('own');
	SELECT FROM cmq_subscribe('own', 's', 'bait');
	GRANT INSERT ON cmq.t_own TO victim;
});
must('victim', q{
	SELECT FROM cmq_create_queue('shared_dead', rewind_seconds => 3600);
	GRANT INSERT ON cmq.q_shared_dead TO attacker;
	GRANT DELETE ON cmq.q_shared_dead TO operator;
	SELECT FROM cmq_create_queue('good', visibility_timeout => 43200, rewind_seconds => 3600, dead_letter_queue => 'shared_dead', max_receive_count => 1);
	GRANT INSERT ON cmq.q_good TO operator});
must('attacker', q{
	SELECT FROM cmq_alter_queue('bait', dead_letter_queue => 'shared_dead', max_receive_count => 1);
	GRANT INSERT ON cmq.q_bait TO operator;
	SELECT FROM cmq_send_batch('bait', '{h1,h2}');
	SELECT FROM cmq_delete_batch('bait', array(SELECT receipt_handle FROM cmq_receive('bait', 2)));
	CREATE INDEX ON cmq_data.q_bait (a.bait(body));
	CREATE INDEX ON cmq_data.q_bait_pending (a.bait(receive_count));
	CREATE INDEX ON cmq_data.q_bait_rewind (a.bait(receive_count));
	-- what will be a dead letter
	SELECT cmq_send('bait', 'letter');
	SELECT FROM cmq_change_visibility('bait', (SELECT receipt_handle FROM cmq_receive('bait')), 0);
	SELECT FROM cmq_receive('bait')});

# The round that moves it is the only one, but for those that a test calls.
$node->sql(q{ALTER SYSTEM SET cmq.maintenance_interval = '1s'; SELECT pg_reload_conf()});
$node->poll(q{SELECT count(*) = 1 FROM cmq.q_shared_dead_live WHERE body = 'letter'}, 'a dead letter of the attacker goes to a queue of the victim');
$node->sql(q{ALTER SYSTEM RESET cmq.maintenance_interval; SELECT pg_reload_conf()});
$node->poll(q{SELECT current_setting('cmq.maintenance_interval') = '1h'}, 'no further round');

foreach my $who ([ 'operator', 3 ], [ 'DEFAULT', 2 ])
{
	my ($role, $n) = @$who;
	my $name = $role eq 'DEFAULT' ? $node->sql('SELECT current_user') : $role;
	must('attacker', q{SELECT cmq_send('shared_dead', 'forged', headers => '{"cmq_dead_letter": {"queue": "bait"}}')});
	must('victim', q{SELECT cmq_send('shared_dead', 'back', headers => '{"cmq_dead_letter": {"queue": "good"}}')});
	$node->sql('TRUNCATE public.ran_as');
	is(must($role, q{SELECT cmq_redrive('shared_dead')}), $n, "$role sends dead letters back");
	is($node->sql(q{SELECT string_agg(DISTINCT role, ' ') FROM public.ran_as}), 'attacker', '... and code of a queue that it did not name runs as its owner');
	is($node->sql(qq{SELECT count(*) FROM cmq.q_shared_dead_history WHERE deleted_by::text = '$name'}), $n, '... while the history says who called');
}
is($node->sql(q{SELECT string_agg(body, ' ' ORDER BY body) FROM cmq.q_bait_live}) . '|' . $node->sql(q{SELECT string_agg(body, ' ') FROM cmq.q_good_live}), 'forged forged letter|back back', 'all of them are back');

foreach my $call (
	q{cmq_redrive('shared_dead')}, q{cmq_redrive('shared_dead', filter => '{}')},
	q{cmq_redrive('shared_dead', msg_ids => array(SELECT msg_id FROM cmq.q_shared_dead_live))},
	q{cmq_restore('bait', '-infinity')}, q{count(*) FROM cmq_restore_messages('bait', array(SELECT msg_id FROM cmq.q_bait_history))},
	q{cmq_maintain('bait')}, q{cmq_rewind('bait', (SELECT min(enqueued_at) FROM cmq.q_bait_history))}, q{cmq_cancel_rewind('bait')},
	q{count(*) FROM cmq_publish('own', 'p')}, q{cmq_replay('good', 'bait', '-infinity')},
	q{count(*) FROM cmq_consume('bait', 10)}, q{count(*) FROM cmq_receive('bait', 10, filter => '{}')},
	q{count(*) FROM cmq_receive_messages('bait', array(SELECT msg_id FROM cmq.q_bait_live))},
	q{count(*) FROM cmq_delete_messages('bait', array(SELECT msg_id FROM cmq.q_bait_live))}, q{cmq_alter_queue('bait', rewind_seconds => 3601)},
	q{cmq_alter_queue('bait', rewind_seconds => 0)}, q{cmq_alter_queue('bait', rewind_seconds => 3600)}, q{cmq_clear_queue('bait')},
	q{count(*) FROM cmq_queue_attributes('bait')}, q{count(*) FROM cmq.metrics}, q{count(*) FROM cmq.rewinds}, q{cmq_unbind_dead_letter('bait')})
{
	must('victim', q{SELECT cmq_send('good', 'g'); SELECT cmq_delete('good', receipt_handle) FROM cmq_receive('good', 10)}) if $call =~ /replay/;
	# something to be brought back
	must('attacker', q{
		SELECT cmq_send('bait', 'h'); SELECT cmq_delete('bait', receipt_handle) FROM cmq_receive('bait', 100);
		SELECT cmq_send('shared_dead', 'forged', headers => '{"cmq_dead_letter": {"queue": "bait"}}')});
	must('attacker', q{SELECT cmq_send('bait', 'w', headers => '{}')}) if $call =~ /consume|cmq_receive|delete_messages/;
	$node->sql("TRUNCATE public.ran_as; SELECT $call");
	is($node->sql(q{SELECT count(*) FROM public.ran_as WHERE role <> 'attacker'}), '0', "$call runs none of it as a superuser");
	cmp_ok($node->sql(q{SELECT count(*) FROM public.ran_as}), '>', 0, '... but as its owner') if $call =~ /redrive|restore|publish|replay|consume|cmq_receive|delete_messages/;
}
is($node->sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'attacker'}), 'f', 'the attacker is no superuser');
# nor does a superuser make it one who sends to its queue, receives and deletes
$node->sql(q{TRUNCATE public.ran_as; SELECT cmq_send('bait', 'x'); SELECT cmq_delete('bait', receipt_handle) FROM cmq_receive('bait')});
is($node->sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'attacker'}), 'f', '... nor by sends, receives and deletes of a superuser');
is($node->sql(q{SELECT string_agg(DISTINCT role, ' ') FROM public.ran_as}), 'attacker', '... which run its code as the attacker');
# while SQL on its tables would
$node->sql(q{INSERT INTO cmq_data.q_bait VALUES (clock_timestamp(), NULL, 'x')});
is($node->sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'attacker'}), 't', '... and as a superuser it would have become one');
$node->sql(q{ALTER ROLE attacker NOSUPERUSER});
$node->sql(q{GRANT INSERT, DELETE ON cmq.q_bait TO bystander; TRUNCATE public.ran_as});
must('bystander', q{SELECT cmq_send('bait', 'x'); SELECT cmq_delete('bait', receipt_handle) FROM cmq_receive('bait')});
is($node->sql(q{SELECT string_agg(DISTINCT role, ' ') FROM public.ran_as}), 'attacker', 'the same when another role sends, receives and deletes');

note 'what a call uses goes, or changes, in the midst of it';

# 'gold' has its messages in a second partition: the attack reads on in the
# partitions of another queue.
must('victim', q{
	SELECT FROM cmq_create_queue('gold', visibility_timeout => 43200, rewind_seconds => 3600);
	SELECT FROM cmq_create_topic('gold_feed');
	SELECT FROM cmq_subscribe('gold_feed', 's', 'gold');
	GRANT INSERT ON cmq.t_gold_feed TO attacker});
$node->sql(q{
	SET search_path = cmq_data, public;
	DO $$ DECLARE l record; BEGIN
		SELECT * INTO l FROM cmq.partition WHERE queue = 'gold' ORDER BY lower LIMIT 1;
		EXECUTE format('ALTER TABLE q_gold DETACH PARTITION %s', l.messages);
		EXECUTE format('ALTER TABLE q_gold_rewind DETACH PARTITION %s', l.rewind);
		EXECUTE format('ALTER TABLE q_gold ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', l.messages, l.lower - interval '1 day', l.upper - interval '1 day');
		EXECUTE format('ALTER TABLE q_gold_rewind ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', l.rewind, l.lower - interval '1 day', l.upper - interval '1 day');
		EXECUTE format('ALTER TABLE %s RENAME TO m_gold_old', l.messages);
		EXECUTE format('ALTER TABLE %s RENAME TO r_gold_old', l.rewind);
		UPDATE cmq.partition SET lower = l.lower - interval '1 day', upper = l.upper - interval '1 day' WHERE queue = 'gold' AND lower = l.lower;
		PERFORM cmq_alter_queue('gold', visibility_timeout => 43199);
	END $$});
must('victim', q{
	SELECT FROM cmq_send_batch('gold', array(SELECT 'secret account number ' || i FROM generate_series(101, 110) i));
	SELECT FROM cmq_delete_batch('gold', array(SELECT receipt_handle FROM cmq_receive('gold', 10)))});

# The attacker's code.  It runs once, when as many rows as it waits for have been
# written, and does what a table says.
must('attacker', q{
	CREATE TABLE a.go (rows int, queue text, action text, renamed bool, feed bool);
	-- all relations of a queue get other names, and get them back
	CREATE FUNCTION a.rename(queue text, back bool) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE r record;
	BEGIN
		FOR r IN SELECT c.oid::regclass AS rel, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
			WHERE nspname IN ('cmq', 'cmq_data') AND relkind IN ('r', 'p', 'v')
			  AND relname ~ format('^[qv]_%s(_pending|_rewind|_live|_history|_all)?%s$', queue, CASE WHEN back THEN '_x' ELSE '' END)
		LOOP
			EXECUTE format('ALTER TABLE %s RENAME TO %I', r.rel, CASE WHEN back THEN left(r.relname, -2) ELSE r.relname || '_x' END);
		END LOOP;
	END $$;
	CREATE FUNCTION a.trick() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		g a.go;
		r record;
		result text := 'done';
	BEGIN
		UPDATE a.go SET rows = rows - 1;
		DELETE FROM a.go WHERE rows <= 0 RETURNING * INTO g;
		IF g IS NULL THEN
			RETURN;
		END IF;
		IF g.renamed THEN
			PERFORM a.rename(g.queue, false);
			EXECUTE format('CREATE TABLE cmq.q_%s ()', g.queue);		-- so that we own it
		END IF;
		BEGIN
			CASE g.action
				WHEN 'drop' THEN
					PERFORM public.cmq_unbind_dead_letter(q.queue) FROM cmq.queues q WHERE q.dead_letter_queue = g.queue;
					PERFORM public.cmq_drop_queue(g.queue);
				WHEN 'on' THEN PERFORM public.cmq_alter_queue(g.queue, rewind_seconds => 3600);
				WHEN 'off' THEN PERFORM public.cmq_alter_queue(g.queue, rewind_seconds => 0);
				WHEN 'retention' THEN PERFORM public.cmq_alter_queue(g.queue, msg_retention_seconds => 7200);
				WHEN 'clear' THEN PERFORM public.cmq_clear_queue(g.queue);
				WHEN 'receive' THEN PERFORM public.cmq_delete_batch(g.queue, array(SELECT receipt_handle FROM public.cmq_receive(g.queue, 10)));
				WHEN 'restore' THEN PERFORM public.cmq_restore(g.queue, '-infinity');
				WHEN 'rewind' THEN PERFORM public.cmq_rewind(g.queue, latest_rewind_time) FROM public.cmq_queue_attributes(g.queue);
				WHEN 'by hand' THEN
					FOR r IN SELECT c.oid::regclass AS rel FROM pg_class c WHERE relkind IN ('r', 'p', 'v') AND relowner = 'attacker'::regrole
						AND relname ~ format('^[qvmr]_%s(_|$)', g.queue)
					LOOP
						BEGIN
							EXECUTE format('DROP %s %s CASCADE', CASE WHEN (SELECT relkind FROM pg_class WHERE oid = r.rel) = 'v' THEN 'VIEW' ELSE 'TABLE' END, r.rel);
						EXCEPTION WHEN OTHERS THEN NULL;
						END;
					END LOOP;
				WHEN 'detach' THEN
					FOR r IN SELECT inhrelid::regclass AS leaf, inhparent::regclass AS parent FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
						WHERE relkind = 'r' AND relname ~ format('^[mr]_%s_', g.queue)
					LOOP
						BEGIN
							EXECUTE format('ALTER TABLE %s DETACH PARTITION %s', r.parent, r.leaf);
							EXECUTE format('ALTER TABLE %s ADD COLUMN more int', r.leaf);
						EXCEPTION WHEN OTHERS THEN NULL;
						END;
					END LOOP;
			END CASE;
		EXCEPTION WHEN OTHERS THEN result := SQLSTATE;
		END;
		-- look for the queue, which is forgotten if it is not there, and have another
		-- one in its place
		BEGIN PERFORM cmq._readable(g.queue); EXCEPTION WHEN OTHERS THEN NULL; END;
		IF g.feed THEN
			BEGIN PERFORM public.cmq_publish('gold_feed', 'a letter to gold'); EXCEPTION WHEN OTHERS THEN NULL; END;
		ELSE
			BEGIN PERFORM cmq._readable('gold'); EXCEPTION WHEN OTHERS THEN NULL; END;
		END IF;
		RAISE WARNING 'trick: %', result;
	END $$;
	CREATE FUNCTION a.idx(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.trick(); RETURN length(t); END $$;
	CREATE FUNCTION a.idx(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM a.trick(); RETURN n; END $$;
});

# An expression for what is wrong with the rows of a queue: each body has one row
# that says where it is, and the count is that of the table.
sub wrong
{
	my ($queue) = @_;
	return qq{(
		SELECT concat_ws(', ', '$queue: bodies ' || nullif(bodies, 0), 'rows ' || nullif(rows, 0), 'counted ' || nullif(counted, 0)) FROM
			(WITH state AS MATERIALIZED (SELECT enqueued_at FROM cmq_data.q_${queue}_rewind UNION ALL SELECT enqueued_at FROM cmq_data.q_${queue}_pending)
			 SELECT count(*) FILTER (WHERE s.n IS DISTINCT FROM 1) AS bodies, count(*) FILTER (WHERE m.enqueued_at IS NULL) AS rows
			   FROM cmq_data.q_$queue m FULL JOIN (SELECT enqueued_at, count(*) AS n FROM state GROUP BY 1) s USING (enqueued_at)) a,
			(SELECT pending_msg_num - left_of_rewind - (SELECT count(*) FROM cmq_data.q_${queue}_pending) AS counted FROM cmq.metrics WHERE queue = '$queue') c)};
}

# Each call: on which table the code is, after how many rows it runs, and what the
# call returns if nothing comes of the trick.
my $attempt = 0;
my %calls = (
	replay => [ 'q_DST (a.idx(body))', 1, q{cmq_replay('SRC', 'DST', '-infinity')}, 1002 ],
	restore => [ 'q_SRC_pending (a.idx(receive_count))', 2, q{cmq_restore('SRC', '-infinity')}, 1002 ],
	restore_messages => [ 'q_SRC_pending (a.idx(receive_count))', 2, q{count(*) FROM cmq_restore_messages('SRC', array(SELECT msg_id FROM cmq.q_SRC_history))}, 1002 ],
	send => [ 'q_SRC (a.idx(body))', 1, q{cmq_send('SRC', 'n') > 0}, 't' ],
	send_pending => [ 'q_SRC_pending (a.idx(receive_count))', 1, q{cmq_send('SRC', 'n') > 0}, 't' ],
	send_batch => [ 'q_SRC (a.idx(body))', 2, q{count(*) FROM cmq_send_batch('SRC', array_fill(repeat('y', 1000), '{2000}'))}, 2000 ],
	receive => [ 'q_SRC_pending (a.idx(receive_count))', 2, q{count(*) FROM cmq_receive('SRC', 20)}, 20 ],
	receive_messages => [ 'q_SRC_pending (a.idx(receive_count))', 2, q{count(*) FROM cmq_receive_messages('SRC', array(SELECT msg_id FROM cmq.q_SRC_live WHERE state = 'ready' LIMIT 20))}, 20 ],
	consume => [ 'q_SRC_rewind (a.idx(receive_count))', 2, q{count(*) FROM cmq_consume('SRC', 20)}, 20 ],
	consume_rewound => [ 'q_SRC_rewind (a.idx(receive_count))', 2, q{count(*) FROM cmq_consume('SRC', 1000)}, 1000 ],
	take_back => [ 'q_SRC_rewind (a.idx(receive_count))', 2, q{count(*) FROM cmq_delete_messages('SRC', array(SELECT msg_id FROM cmq.q_SRC_live WHERE state = 'ready' LIMIT 20))}, 20 ],
	# a thousand are written in the midst of the call
	take_back_rewound => [ 'q_SRC_rewind (a.idx(receive_count))', 2, q{count(*) FROM cmq_delete_messages('SRC', array(SELECT msg_id FROM cmq.q_SRC_live WHERE state = 'ready'))}, 1041 ],
	delete => [ 'q_SRC_rewind (a.idx(receive_count))', 2, q{count(*) FROM cmq_delete_batch('SRC', array(SELECT receipt_handle FROM a.had))}, 20 ],
	change_visibility => [ 'q_SRC_pending (a.idx(receive_count))', 2, q{count(*) FROM a.had WHERE cmq_change_visibility('SRC', receipt_handle, 0) IS NOT NULL}, 20 ],
	release => [ 'q_SRC_pending (a.idx(receive_count))', 2, q{count(*) FROM cmq_release('SRC', array(SELECT receipt_handle FROM a.had), 0)}, 20 ],
	redrive => [ 'q_DST (a.idx(body))', 2, q{cmq_redrive('SRC', 20)}, 20 ],
	redrive_from => [ 'q_SRC_pending (a.idx(receive_count))', 2, q{cmq_redrive('LETTERS')}, 2 ],
	publish => [ 'q_SRC (a.idx(body))', 1, q{count(*) FROM cmq_publish('SRC', 'n')}, 1 ],
	dead_letter => [ 'q_DST (a.idx(body))', 2, q{count(*) FROM cmq_receive('SRC', 100)}, 19 ],
	maintain => [ 'q_DST (a.idx(body))', 2, q{cmq_maintain('SRC')}, '' ]);

sub attempt
{
	my ($call, $action, $renamed, $feed, $rewind) = @_;
	my $n = ++$attempt;
	my ($index, $rows, $sql, $result) = @{ $calls{$call} };
	my $name = "$call" . ($rewind ? '' : ', no rewind') . ": $action" . ($renamed ? ', renamed' : '') . ($feed ? ', feed' : '');
	my $subst = sub { my ($text) = @_; $text =~ s/SRC/src$n/g; $text =~ s/DST/dst$n/g; $text =~ s/LETTERS/letters$n/g; return $text };

	# 'src' is the dead-letter queue of 'dst', and 'letters' that of 'src', where that
	# is what is tried
	must('attacker', $subst->(q{
		SELECT FROM cmq_create_queue('SRC', visibility_timeout => 43200, rewind_seconds => } . ($rewind ? 3600 : 0) . q{, max_msg_size => 2000000);
		SELECT FROM cmq_create_queue('DST', visibility_timeout => 43200, max_msg_size => 2000000);
		SELECT FROM cmq_create_topic('SRC'); SELECT FROM cmq_subscribe('SRC', 's', 'SRC')}
		. ($call eq 'redrive' ? q{; SELECT FROM cmq_alter_queue('DST', dead_letter_queue => 'SRC', max_receive_count => 1)} : '')
		. ($call eq 'redrive_from' ? q{; SELECT FROM cmq_create_queue('LETTERS'); SELECT FROM cmq_alter_queue('SRC', dead_letter_queue => 'LETTERS', max_receive_count => 2);
			SELECT FROM cmq_send_batch('LETTERS', '{l1,l2}', headers => array_fill('{"cmq_dead_letter": {"queue": "SRC"}}'::jsonb, '{2}'))} : '')
		# a message of 1.1 MB, after which a replay writes, and a thousand more
		. ($call =~ /replay|restore|rewound/ ? q{;
			SELECT cmq_send('SRC', repeat('x', 1100000));
			SELECT FROM cmq_send_batch('SRC', array_fill('old'::text, '{1001}'));
			SELECT FROM cmq_delete_batch('SRC', array(SELECT receipt_handle FROM cmq_receive('SRC', 1000)));
			SELECT FROM cmq_delete_batch('SRC', array(SELECT receipt_handle FROM cmq_receive('SRC', 1000)))} : '')
		. q{;
		SELECT FROM cmq_send_batch('SRC', array_fill('w'::text, '{40}'), headers => array_fill('{"cmq_dead_letter": {"queue": "DST"}}'::jsonb, '{40}'));
		DROP TABLE IF EXISTS a.had; CREATE TABLE a.had AS SELECT * FROM cmq_receive('SRC', } . ($call =~ /delete|visibility|release|maintain|dead_letter/ ? 20 : 0) . q{ + 1) OFFSET 1;
		} . ($call =~ /maintain|dead_letter/ ? q{
			SELECT FROM cmq_alter_queue('SRC', dead_letter_queue => 'DST', max_receive_count => 1);
			SELECT count(cmq_change_visibility('SRC', receipt_handle, 0)) FROM a.had;
		} : '') . qq{
		} . ($call =~ /rewound/ ? q{SELECT FROM cmq_rewind('SRC', (SELECT earliest_rewind_time FROM cmq_queue_attributes('SRC')));} : '') . qq{
		CREATE INDEX ON cmq_data.$index;
		TRUNCATE a.go; INSERT INTO a.go VALUES ($rows, 'SRC', '$action', } . ($renamed ? 'true' : 'false') . ', ' . ($feed ? 'true' : 'false') . ')'));

	my $out = $node->as('attacker', $subst->("SELECT 'result', $sql"));
	my $alive = up($out, $name);
	my ($tricked) = $out =~ /trick: (\S+)/;
	my $ended = $out =~ /ERROR/ ? 'error' : 'well';
	like($out, qr/trick: /, "$name: the code has run") if $alive;
	note "$name: trick: " . ($tricked // '') . ", call: $ended" . ($out =~ /ERROR: +(.*)/ ? " $1" : '');
	if ($alive && $action =~ /^(drop|on|off)$/)
	{
		# what has other names is not the queue's to its owner's drop
		is($tricked, $renamed && $action eq 'drop' ? '42501' : '55006', "$name: it is an error");
		# the trick has come to nothing, and the call goes on; without its names the
		# queue is damaged for what the call looks up later
		if ($renamed && $out =~ /ERROR: +(.*)/)
		{
			like($1, qr/^queue "src$n" is damaged$/, "$name: the call fails");
		}
		else
		{
			is($out =~ /^result\|(.*)$/m ? $1 : $out, $result, "$name: the call does all");
		}
	}
	unlike($out, qr/XX000|PANIC/, "$name: no internal error");

	# names back, for the looks that follow
	$node->as('attacker', "DROP TABLE IF EXISTS cmq.q_src$n; SELECT a.rename('src$n', true)") if $renamed;

	my $stolen = $node->as('attacker', $subst->(q{
		SELECT 'stolen ' || count(*) FROM cmq.q_DST_live WHERE body LIKE 'secret%' OR body = 'a letter to gold';
		SELECT 'stolen ' || count(*) FROM cmq.q_SRC_all WHERE body LIKE 'secret%' OR body = 'a letter to gold';
		SELECT 'stolen ' || count(*) FROM cmq_receive('DST', 1000) WHERE body LIKE 'secret%' OR body = 'a letter to gold'}));
	# the view of a queue that was dropped by hand may be gone; where one partition of a
	# pair could be detached, and the other one was in use, it is an error
	cmp_ok(scalar(my @looks = $stolen =~ /stolen \d+/g), '>=', $action =~ /^(by hand|detach)$/ ? 2 : 3, "$name: the attacker looks at what it has");
	unlike($stolen, qr/stolen [1-9]/, "$name: nothing of another owner is read");
	is($node->sql(q{SELECT (SELECT count(*) FROM cmq.q_gold_history), (SELECT count(DISTINCT body) FROM cmq.q_gold_history),
		(SELECT count(*) FROM cmq.q_gold_all WHERE body NOT LIKE 'secret%' AND body <> 'a letter to gold')} . ',' . wrong('gold')),
		'10|10|0|', "$name: the other queue is whole");
	is($node->as('DEFAULT', 'SELECT ' . wrong("src$n") . ',' . wrong("dst$n")), "|\n", "$name: no message is lost, and none is left over")
	  if $action ne 'by hand' && $action ne 'detach';
	# a superuser gets rid of it
	$node->as('DEFAULT', $subst->(q{SELECT cmq_unbind_dead_letter('DST'); SELECT cmq_unbind_dead_letter('SRC')}));
	is($node->as('DEFAULT', $subst->(q{SELECT cmq_drop_queue('SRC'); SELECT cmq_drop_queue('DST'); SELECT count(*) FROM cmq.queue WHERE name IN ('SRC', 'DST')})), "\n\n0\n",
		"$name: a superuser can drop the queues");
	return;
}

# the one that reads first, while everything is whole
foreach my $call ('replay', grep { $_ ne 'replay' } sort keys %calls)
{
	attempt($call, 'drop', 0, 0, 1);
	attempt($call, 'drop', 1, $_, 1) foreach 0, 1;
}
foreach my $call (qw(replay restore send_batch receive consume_rewound take_back_rewound delete release redrive dead_letter))
{
	attempt($call, $_, 0, 0, 1) foreach 'off', 'retention', 'clear', 'receive', 'restore', 'rewind', 'by hand', 'detach';
}
# the rewind is switched on in the midst of a redrive and of others
attempt($_, 'on', 0, 0, 0) foreach qw(send send_batch receive receive_messages change_visibility release redrive redrive_from dead_letter maintain publish);

$node->is_sound;
$node->stop;
done_testing();
