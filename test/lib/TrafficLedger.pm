package TrafficLedger;

# Queues that are joined by topics and dead-letter bindings, calls on them, and a
# ledger in the database of what these calls have done.  Each call books in its own
# transaction: what was rolled back, or died with its client, leaves no trace in the
# books either, and at the end they must agree with the queues to the message.
#
#   my $ledger = TrafficLedger->new($node);       makes queues and books
#   ... clients call functions of schema t, see below ...
#   $ledger->heal; $ledger->drain;                when they have ended
#   $ledger->check('at the end');
#
# The queues:
#   a      rewinds, restores, clears; dead letters to dead
#   b      restores, no rewinds; dead letters to dead
#   c      rewind is switched off and on; another owner's, dead letters to far
#   d      its messages die of their age; dead letters to dead
#   o      ordered; rewinds, restores, clears; dead letters to dead
#   brief  retention of a minute
#   copy   rewind off, gets what is replayed
# a and o keep keys for longer than all lasts; copy does, for replays that are made once.
#   dead, far    dead-letter queues; far is a third owner's
#   x      comes and goes; nobody counts what is in it
#
# The books:
#   t.made      messages sent, published, redriven or replayed: by id and body
#   t.asked     keys that were sent, the answers, and whether the message was stored: then
#               it is in t.made
#   t.grip      handles: one for each delivery, and one for each change of visibility,
#               whose parent is the handle before; root is that of the delivery.  What is
#               consumed in one step has a made-up one, and so has a release.  A delivery
#               that was released uncounted does not count
#   t.gone      deletions, one for each life of a message, also of one nobody received
#   t.brought   what restores said that they bring back
#   t.cleared   what clears said that they remove

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my @sources = qw(a b c d o);
my @queues = qw(a b c d o brief copy dead far);
my @topics = qw(news routes);

sub new
{
	my ($class, $node) = @_;
	my $self = bless { node => $node, counted => 1 }, $class;
	$self->sql($_) foreach _queues(), _books(), _calls(), _checks();
	return $self;
}

sub sql
{
	my ($self, $sql) = @_;
	return $self->{node}->sql($sql);
}

sub _queues
{
	return q{
CREATE ROLE carol; CREATE ROLE dave; CREATE ROLE mallory;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO carol, dave, mallory;
GRANT USAGE ON SCHEMA public TO carol, dave;
SELECT FROM cmq_create_queue('dead', visibility_timeout => 2, msg_retention_seconds => 7200, rewind_seconds => 3600);
SET ROLE dave;
SELECT FROM cmq_create_queue('far', visibility_timeout => 2, msg_retention_seconds => 7200, rewind_seconds => 3600);
GRANT INSERT ON cmq.q_far TO carol;
SET ROLE carol;
SELECT FROM cmq_create_queue('c', visibility_timeout => 2, msg_retention_seconds => 7200, dead_letter_queue => 'far', max_receive_count => 2);
RESET ROLE;
SELECT FROM cmq_create_queue('a', visibility_timeout => 2, msg_retention_seconds => 7200, rewind_seconds => 3600,
	dead_letter_queue => 'dead', max_receive_count => 3, dedup_seconds => 6000);
SELECT FROM cmq_create_queue('o', visibility_timeout => 1, msg_retention_seconds => 7200, rewind_seconds => 3600,
	dead_letter_queue => 'dead', max_receive_count => 2, ordered => true, dedup_seconds => 6000);
SELECT FROM cmq_create_queue('b', visibility_timeout => 1, msg_retention_seconds => 7200, rewind_seconds => 3600,
	dead_letter_queue => 'dead', max_receive_count => 2);
SELECT FROM cmq_create_queue('d', visibility_timeout => 1, msg_retention_seconds => 7200, rewind_seconds => 3600,
	dead_letter_queue => 'dead', max_time_to_live => 300);
-- nobody waits five minutes, the least there is, for a message to be too old
ALTER TABLE cmq.queue DROP CONSTRAINT queue_max_time_to_live_check;
UPDATE cmq.queue SET max_time_to_live = 3 WHERE name = 'd';
SELECT FROM cmq_create_queue('brief', visibility_timeout => 1, msg_retention_seconds => 60, rewind_seconds => 30);
SELECT FROM cmq_create_queue('copy', visibility_timeout => 2, msg_retention_seconds => 7200, dedup_seconds => 6000);
SELECT FROM cmq_create_topic('news') n, cmq_create_topic('routes', 'routing') r;
SELECT FROM cmq_subscribe('news', 'a', 'a', '{red,green}') p, cmq_subscribe('news', 'c', 'c') q, cmq_subscribe('news', 'brief', 'brief', '{green}') r;
SELECT FROM cmq_subscribe('routes', 'b', 'b', binding_keys => '{k.*}') o, cmq_subscribe('routes', 'd', 'd', binding_keys => '{#}') p,
	cmq_subscribe('routes', 'a', 'a', binding_keys => '{k.#.z}') q, cmq_subscribe('routes', 'o', 'o', binding_keys => '{k.#.z}') r;
-- Code of the owner's, which can be told to fail: broken is an index of the pending table of dead.
CREATE FUNCTION public.maybe(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN n; END $$;
CREATE INDEX broken ON cmq_data.q_dead_pending (public.maybe(receive_count));
};
}

sub _books
{
	return q{
CREATE SCHEMA t;
CREATE SEQUENCE t.bodies;
CREATE SEQUENCE t.keys;
CREATE TABLE t.asked (queue text, key text, msg_id bigint, stored boolean);
CREATE TABLE t.made (queue text, msg_id bigint, via text, body text, bytes int, PRIMARY KEY (queue, msg_id));
CREATE TABLE t.grip (handle text PRIMARY KEY, queue text, parent text UNIQUE, msg_id bigint, receive_count int, rewind_count int,
	timeout int, visible_at bigint, body text, client text, state text DEFAULT 'open', root text, counted boolean DEFAULT true,
	CHECK (root IS NOT NULL));
CREATE UNIQUE INDEX ON t.grip (queue, msg_id, rewind_count, receive_count) WHERE parent IS NULL AND counted;
CREATE INDEX ON t.grip (root);
CREATE INDEX ON t.grip (client, queue) WHERE state = 'open';
CREATE TABLE t.gone (queue text, msg_id bigint, rewind_count int, receive_count int, via text, PRIMARY KEY (queue, msg_id, rewind_count));
CREATE TABLE t.brought (queue text, n bigint);
CREATE TABLE t.cleared (queue text, n bigint);
-- what each call was good for, to see that all have been
CREATE TABLE t.calls (what text, n bigint);
};
}

# The calls.  A random one of equals is chosen by the database's random().
sub _calls
{
	return q{
CREATE FUNCTION t.me() RETURNS text LANGUAGE sql AS $$ SELECT current_setting('application_name') $$;
CREATE FUNCTION t.part(handle text, n int) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$ SELECT coalesce(nullif(split_part(handle, '-', n), ''), '0')::bigint $$;

-- A body that no other message has, a few of them large.
CREATE FUNCTION t.body() RETURNS text LANGUAGE sql AS $$
	SELECT 'm' || nextval('t.bodies') || CASE WHEN random() < 0.05 THEN repeat(md5(random()::text), 300) ELSE '' END
$$;

-- What a filter asks for; messages of topics have none of it.
CREATE FUNCTION t.kind() RETURNS jsonb VOLATILE LANGUAGE sql AS $$ SELECT jsonb_build_object('kind', (random() * 2)::int) $$;

-- A key that is asked for by about three, at about the same time, and perhaps later, or
-- none.
CREATE FUNCTION t.key() RETURNS text VOLATILE LANGUAGE sql AS $$
	SELECT CASE WHEN random() < 0.5 THEN 'k' || greatest(nextval('t.keys') / 3 - CASE WHEN random() < 0.3 THEN (random() * 100)::int ELSE 0 END, 0) END
$$;

-- The group of a message in an ordered queue.
CREATE FUNCTION t.group_of(body text) RETURNS text IMMUTABLE LANGUAGE sql AS $$
	SELECT CASE WHEN n % 10 > 0 THEN 'g' || n % 10 END FROM (SELECT substring(body FROM '^m(\d+)')::bigint AS n) b
$$;

-- Book what was sent.  Whoever has stored the message of a key sees it, with its own body.
CREATE FUNCTION t.book(q text, id bigint, body text, via text, key text, topic text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	stored boolean := true;
BEGIN
	IF key IS NOT NULL THEN
		EXECUTE format('SELECT EXISTS (SELECT FROM cmq_data.%I m WHERE m.enqueued_at = cmq.enqueued_at($1) AND m.body = $2)', 'q_' || q) INTO stored USING id, body;
		IF topic IS NOT NULL AND NOT stored THEN
			EXECUTE format('SELECT EXISTS (SELECT FROM cmq_data.%I m WHERE m.enqueued_at = cmq.enqueued_at($1) AND m.body = $2 AND $3 = ANY (m.queues))', 'j_' || topic)
				INTO stored USING id, body, q;
		END IF;
		INSERT INTO t.asked SELECT q, key, id, stored WHERE q IN ('a', 'o');
	END IF;
	IF stored THEN
		INSERT INTO t.made VALUES (q, id, via, md5(body), octet_length(body));
	END IF;
END $$;

-- Keys for queues that keep them, groups for one that is ordered, and no delay for these.
CREATE FUNCTION t.send(q text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	bodies text[] := array(SELECT t.body() FROM generate_series(1, 1 + (random() * 3)::int));
	keys text[] := array(SELECT CASE WHEN q IN ('a', 'o') THEN t.key() END FROM unnest(bodies));
	groups text[] := CASE WHEN q = 'o' THEN array(SELECT t.group_of(b) FROM unnest(bodies) b) END;
	delay int := CASE WHEN random() < 0.1 AND groups IS NULL THEN 1 ELSE 0 END;
	-- a moment ago, or in a moment
	at timestamptz := CASE WHEN delay = 0 AND random() < 0.1 AND groups IS NULL THEN clock_timestamp() + (random() * 2 - 0.5) * interval '1 s' END;
	ids bigint[];
BEGIN
	IF cardinality(bodies) = 1 THEN
		ids := ARRAY[cmq_send(q, bodies[1], delay, t.kind(), at, groups[1], keys[1])];
	ELSE
		ids := array(SELECT cmq_send_batch(q, bodies, delay, array(SELECT t.kind() FROM unnest(bodies)), at, groups, CASE WHEN q IN ('a', 'o') THEN keys END));
	END IF;
	PERFORM t.book(q, ids[i], bodies[i], 'send', keys[i]) FROM generate_series(1, cardinality(bodies)) i;
END $$;

CREATE FUNCTION t.publish(topic text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	bodies text[] := array(SELECT t.body() FROM generate_series(1, 1 + (random() * 2)::int));
	tags text[] := CASE WHEN topic = 'news' THEN CASE (random() * 3)::int WHEN 0 THEN NULL WHEN 1 THEN '{red}' WHEN 2 THEN '{green}' ELSE '{blue}' END END;
	key text := CASE WHEN topic = 'routes' THEN (array['k.y', 'k.z', 'k.y.z', 'other'])[1 + (random() * 3)::int] END;
	-- routes go to the queue that has groups
	delay int := CASE WHEN topic = 'news' THEN (random() < 0.1)::int ELSE 0 END;
	groups text[] := CASE WHEN topic = 'routes' THEN array(SELECT t.group_of(b) FROM unnest(bodies) b) END;
	keys text[] := array(SELECT t.key() FROM unnest(bodies));
	r record;
BEGIN
	FOR r IN SELECT queue, msg_id, row_number() OVER (PARTITION BY queue ORDER BY ordinality) AS n
			   FROM cmq_publish_batch(topic, bodies, tags, key, NULL, delay, groups, keys) WITH ORDINALITY
	LOOP
		PERFORM t.book(r.queue, r.msg_id, bodies[r.n], 'publish', keys[r.n], topic);
	END LOOP;
END $$;

CREATE FUNCTION t.check_filter(got jsonb, filter jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF NOT coalesce(got @> filter, filter IS NULL) THEN
		RAISE EXCEPTION '% for %', got, filter USING ERRCODE = 'XX001';
	END IF;
	RETURN true;
END $$;

-- Receive; what is received is held by this client.
CREATE FUNCTION t.take(q text, n int, wait int DEFAULT 0, filter jsonb DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	WITH timeout AS MATERIALIZED (SELECT 1 + (random() * 1.2)::int AS s),
		 got AS MATERIALIZED (SELECT timeout.s, r.*, t.check_filter(r.headers, filter) FROM timeout, cmq_receive(q, n, timeout.s, wait, filter) r),
		 book AS (INSERT INTO t.grip SELECT receipt_handle, q, NULL, msg_id, receive_count, rewind_count, s, t.part(receipt_handle, 2), md5(body), t.me(), 'open', receipt_handle
					FROM got RETURNING 1)
	SELECT count(*) FROM book
$$;

-- Ids of messages that are pending, or were a moment ago.
CREATE FUNCTION t.some_ids(q text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
BEGIN
	EXECUTE format('SELECT array(SELECT msg_id FROM cmq.%I WHERE random() < 0.2 LIMIT 10)', 'q_' || q || '_live') INTO ids;
	RETURN ids;
END $$;

CREATE FUNCTION t.take_ids(q text) RETURNS bigint LANGUAGE sql AS $$
	WITH ids AS MATERIALIZED (SELECT t.some_ids(q) AS ids),
		 got AS MATERIALIZED (SELECT r.* FROM ids, cmq_receive_messages(q, ids, 2) r WHERE msg_id = ANY (ids)),
		 book AS (INSERT INTO t.grip SELECT receipt_handle, q, NULL, msg_id, receive_count, rewind_count, 2, t.part(receipt_handle, 2), md5(body), t.me(), 'open', receipt_handle
					FROM got RETURNING 1)
	SELECT count(*) FROM book
$$;

-- Consume in one step.
CREATE FUNCTION t.eat(q text, n int, wait int DEFAULT 0, filter jsonb DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
	WITH got AS MATERIALIZED (SELECT r.*, t.check_filter(r.headers, filter) FROM cmq_consume(q, n, wait, filter) r),
		 book AS (INSERT INTO t.grip SELECT concat_ws(' ', q, msg_id, receive_count, rewind_count), q, NULL, msg_id, receive_count, rewind_count, 0,
						cmq.msg_id(cmq._clock(q)), md5(body), t.me(), 'deleted', concat_ws(' ', q, msg_id, receive_count, rewind_count)
					FROM got RETURNING 1),
		 gone AS (INSERT INTO t.gone SELECT q, msg_id, rewind_count, receive_count, 'consume' FROM got RETURNING 1)
	SELECT (SELECT count(*) FROM book) + 0 * (SELECT count(*) FROM gone)
$$;

-- Delete by ids, in a queue with rewind on: the newest row of each says how it was.
CREATE FUNCTION t.take_back(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[] := array(SELECT cmq_delete_messages(q, t.some_ids(q)));
	n bigint;
BEGIN
	EXECUTE format('INSERT INTO t.gone SELECT DISTINCT ON (enqueued_at) %L, cmq.msg_id(enqueued_at), rewind_count, receive_count, ''by id'' FROM cmq_data.%I
		WHERE enqueued_at = ANY (array(SELECT cmq.enqueued_at(i) FROM unnest($1) i)) ORDER BY enqueued_at, rewind_count DESC', q, 'q_' || q || '_rewind') USING ids;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n <> cardinality(ids) THEN RAISE EXCEPTION 'by id: % told, % deleted', cardinality(ids), n USING ERRCODE = 'XX001'; END IF;
	RETURN n;
END $$;

-- Handles that this client holds; now and then somebody else's, who may use them now.
CREATE FUNCTION t.held(q text, n int) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT handle FROM t.grip
	 WHERE queue = q AND state = 'open' AND client = CASE WHEN random() < 0.15 THEN 'client' || (random() * 9)::int ELSE t.me() END
	 LIMIT n
$$;

CREATE FUNCTION t.finish(q text, n int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	handles text[] := array(SELECT t.held(q, n));
	good text[];
BEGIN
	IF handles = '{}' THEN RETURN 0; END IF;
	IF random() < 0.5 THEN
		good := array(SELECT cmq_delete_batch(q, handles));
	ELSE
		good := array(SELECT h FROM unnest(handles) h WHERE cmq_delete(q, h));
	END IF;
	INSERT INTO t.gone SELECT q, t.part(h, 1), t.part(h, 4), t.part(h, 3), 'delete' FROM unnest(good) h;
	UPDATE t.grip SET state = 'deleted' WHERE handle = ANY (good);
	UPDATE t.grip SET state = 'stale' WHERE handle = ANY (handles) AND handle <> ALL (good) AND state = 'open';
	RETURN cardinality(good);
END $$;

-- Change visibility, one by one or all at once.
CREATE FUNCTION t.changes(q text, handles text[], seconds int) RETURNS TABLE (old text, new text) LANGUAGE plpgsql AS $$
BEGIN
	IF random() < 0.5 THEN
		RETURN QUERY SELECT * FROM cmq_change_visibility_batch(q, handles, seconds);
		RETURN;
	END IF;
	FOREACH old IN ARRAY handles LOOP
		new := cmq_change_visibility(q, old, seconds);
		IF new IS NOT NULL THEN
			RETURN NEXT;
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION t.change(q text, seconds int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	handles text[] := array(SELECT t.held(q, 3));
	good text[] := '{}';
	r record;
BEGIN
	FOR r IN SELECT * FROM t.changes(q, handles, seconds) LOOP
		UPDATE t.grip SET state = 'changed' WHERE handle = r.old;
		INSERT INTO t.grip SELECT r.new, q, r.old, msg_id, receive_count, rewind_count, seconds, t.part(r.new, 2), body, t.me(), 'open', root FROM t.grip WHERE handle = r.old;
		good := good || r.old;
	END LOOP;
	UPDATE t.grip SET state = 'stale' WHERE handle = ANY (handles) AND handle <> ALL (good) AND state = 'open';
	RETURN cardinality(good);
END $$;

CREATE FUNCTION t.release(q text, n int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	handles text[] := array(SELECT t.held(q, n));
	seconds int := (array[NULL, 0, 0, 1])[1 + (random() * 3)::int];
	counts boolean := random() < 0.6;
	since bigint := cmq.msg_id(cmq._clock(q));
	good text[] := array(SELECT cmq_release(q, handles, seconds, counts));
BEGIN
	UPDATE t.grip SET state = 'released' WHERE handle = ANY (good);
	UPDATE t.grip SET state = 'stale' WHERE handle = ANY (handles) AND handle <> ALL (good) AND state = 'open';
	-- not received again before this; what is delayed can be had by its id
	INSERT INTO t.grip SELECT 'after ' || handle, q, handle, msg_id, receive_count, rewind_count, 0,
			since + CASE WHEN counts THEN coalesce(seconds, 0) * 1000000 ELSE 0 END, body, t.me(), 'no handle', root
	  FROM t.grip WHERE handle = ANY (good);
	IF NOT counts THEN
		UPDATE t.grip SET counted = false WHERE root IN (SELECT root FROM t.grip WHERE handle = ANY (good));
	END IF;
	RETURN cardinality(good);
END $$;

-- Handles that have become stale, some time ago or just now: nothing must come of them.
CREATE FUNCTION t.use_stale(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	handles text[] := array(SELECT handle FROM t.grip TABLESAMPLE SYSTEM (10) WHERE queue = q AND state NOT IN ('open', 'no handle') AND handle LIKE '%-%' LIMIT 20) ||
		array(SELECT parent FROM t.grip WHERE client = t.me() AND queue = q AND state = 'open' AND parent IS NOT NULL LIMIT 5);
	good text[] := array(SELECT cmq_release(q, handles, 0)) || array(SELECT old_handle FROM cmq_change_visibility_batch(q, handles, 1)) ||
		array(SELECT cmq_delete_batch(q, handles)) || array(SELECT h FROM unnest(handles) h WHERE cmq_delete(q, h));
BEGIN
	IF good <> '{}' THEN
		RAISE EXCEPTION 'stale handles of % were good: %', q, good USING ERRCODE = 'XX001';
	END IF;
	RETURN cardinality(handles);
END $$;

-- Receive and delete; what has become stale in between, or is not deleted, is held.
CREATE FUNCTION t.consume(q text, n int, wait int DEFAULT 0) RETURNS bigint LANGUAGE sql AS $$
	WITH timeout AS MATERIALIZED (SELECT 1 + (random() * 1.2)::int AS s),
		 got AS MATERIALIZED (SELECT timeout.s, r.* FROM timeout, cmq_receive(q, n, timeout.s, wait) r),
		 del AS MATERIALIZED (SELECT *, random() < 0.9 AND cmq_delete(q, receipt_handle) AS deleted FROM got),
		 book AS (INSERT INTO t.grip SELECT receipt_handle, q, NULL, msg_id, receive_count, rewind_count, s, t.part(receipt_handle, 2), md5(body), t.me(),
						CASE WHEN deleted THEN 'deleted' ELSE 'open' END, receipt_handle
					FROM del RETURNING 1),
		 gone AS (INSERT INTO t.gone SELECT q, msg_id, rewind_count, receive_count, 'delete' FROM del WHERE deleted RETURNING 1)
	SELECT (SELECT count(*) FROM book) + 0 * (SELECT count(*) FROM gone)
$$;

-- A time between the first message of a queue and now.
CREATE FUNCTION t.some_time(q text, part float8) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
	first timestamptz;
BEGIN
	EXECUTE format('SELECT min(enqueued_at) FROM cmq_data.%I', 'q_' || q) INTO first;
	first := coalesce(first, now());
	RETURN first + part * greatest(now() - first, '0');
END $$;

CREATE FUNCTION t.rewind(q text) RETURNS bigint LANGUAGE sql AS $$
	SELECT (cmq_rewind(q, least(t.some_time(q, random()), latest_rewind_time)) IS NOT NULL)::int FROM cmq_queue_attributes(q)
$$;

CREATE FUNCTION t.restore(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	r record;
	n bigint;
BEGIN
	IF random() < 0.5 THEN
		-- as they come, for the history is random enough
		EXECUTE format('SELECT array(SELECT msg_id FROM cmq.%I WHERE random() < 0.1 LIMIT 20) AS ids', 'q_' || q || '_history') INTO r;
		SELECT count(*) INTO n FROM cmq_restore_messages(q, r.ids);
	ELSE
		n := cmq_restore(q, t.some_time(q, random()), t.some_time(q, 1.0 + random()));
	END IF;
	INSERT INTO t.brought VALUES (q, n);
	RETURN n;
END $$;

CREATE FUNCTION t.cancel(q text) RETURNS void LANGUAGE sql AS $$ SELECT cmq_cancel_rewind(q) $$;

CREATE FUNCTION t.preview(q text) RETURNS bigint LANGUAGE sql AS $$ SELECT messages FROM cmq_rewind_preview(q, t.some_time(q, random())) $$;

CREATE FUNCTION t.clear(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint := cmq_clear_queue(q);
BEGIN
	INSERT INTO t.cleared VALUES (q, n);
	RETURN n;
END $$;

-- What a transaction of at least REPEATABLE READ sees in a queue behind a time of its
-- clock, and has not seen before, it has put there itself.
CREATE FUNCTION t.made_since(q text, since timestamptz, via text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('INSERT INTO t.made SELECT %L, cmq.msg_id(enqueued_at), %L, md5(body), octet_length(body) FROM cmq_data.%I WHERE enqueued_at > $1',
		q, via, 'q_' || q) USING since;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;

CREATE FUNCTION t.deleted_since(q text, since timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT concat_ws(''-'', cmq.msg_id(enqueued_at), 0, receive_count, rewind_count) FROM cmq_data.%I WHERE deleted_at >= $1',
		'q_' || q || '_rewind') USING since;
END $$;

CREATE FUNCTION t.replay(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	since timestamptz := cmq._clock('copy');
	told bigint := cmq_replay(q, 'copy', t.some_time(q, random()), t.some_time(q, random() + 0.1), dedup => random() < 0.4);
	n bigint := t.made_since('copy', since, 'replay');
BEGIN
	IF n <> told THEN RAISE EXCEPTION 'replay: % told, % made', told, n USING ERRCODE = 'XX001'; END IF;
	RETURN n;
EXCEPTION WHEN invalid_parameter_value THEN
	-- the end of the window was before its start
	RETURN 0;
END $$;

CREATE FUNCTION t.redrive(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	sources text[] := CASE q WHEN 'dead' THEN '{a,b,d,o}' ELSE '{c}' END;
	since timestamptz := cmq._clock(q);
	before text[] := array(SELECT t.deleted_since(q, since));
	source_since timestamptz[] := array(SELECT cmq._clock(s) FROM unnest(sources) s);
	most int := 1 + (random() * 20)::int;
	way float8 := random();
	ids bigint[];
	told bigint;
	deleted bigint;
	n bigint := 0;
BEGIN
	IF way < 0.5 THEN
		told := cmq_redrive(q, most);
	ELSIF way < 0.75 THEN
		told := cmq_redrive(q, most, jsonb_build_object('cmq_dead_letter', jsonb_build_object('queue', sources[1])));
	ELSE
		EXECUTE format('SELECT array(SELECT msg_id FROM cmq.%I WHERE random() < 0.3 LIMIT 20)', 'q_' || q || '_live') INTO ids;
		told := cmq_redrive(q, most, msg_ids => ids);
	END IF;
	INSERT INTO t.gone SELECT q, t.part(h, 1), t.part(h, 4), t.part(h, 3), 'redrive' FROM t.deleted_since(q, since) h WHERE h <> ALL (before);
	GET DIAGNOSTICS deleted = ROW_COUNT;
	FOR i IN 1 .. cardinality(sources) LOOP
		n := n + t.made_since(sources[i], source_since[i], 'redrive');
	END LOOP;
	IF n <> told OR deleted <> told THEN
		RAISE EXCEPTION 'redrive: % told, % made, % deleted', told, n, deleted USING ERRCODE = 'XX001';
	END IF;
	RETURN n;
END $$;

CREATE FUNCTION t.maintain(q text) RETURNS void LANGUAGE sql AS $$ SELECT cmq_maintain(q) $$;

CREATE FUNCTION t.attributes(q text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	a record;
BEGIN
	SELECT * INTO a FROM cmq_queue_attributes(q);
	IF least(a.active_msg_num, a.inactive_msg_num, a.delay_msg_num, a.rewind_msg_num) < 0 OR a.min_msg_time IS NULL THEN
		RAISE EXCEPTION 'attributes of %: %', q, a USING ERRCODE = 'XX001';
	END IF;
	RETURN a.active_msg_num;
END $$;

CREATE FUNCTION t.metrics() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	m record;
BEGIN
	FOR m IN SELECT * FROM cmq.metrics LOOP
		IF least(m.pending_msg_num, m.inactive_msg_num, m.delay_msg_num, m.oldest_ready_seconds, m.pending_bytes, m.rewindable_bytes) < 0 THEN
			RAISE EXCEPTION 'metrics: %', m USING ERRCODE = 'XX001';
		END IF;
	END LOOP;
	FOR m IN SELECT * FROM cmq.status LOOP
		IF least(m.ready, m.in_flight, m.delayed, m.history, m.left_of_rewind, m.oldest_ready_seconds, m.dead_letters) < 0
		   OR m.latest_rewind_time > clock_timestamp() + interval '1 min' THEN
			RAISE EXCEPTION 'status: %', m USING ERRCODE = 'XX001';
		END IF;
	END LOOP;
	RETURN (SELECT count(messages) FROM cmq.rewinds);
END $$;

-- Settings that change nothing that is counted.
CREATE FUNCTION t.alter(q text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CASE (random() * 8)::int
		WHEN 0 THEN PERFORM cmq_alter_queue(q, visibility_timeout => 1 + (random() * 1.2)::int);
		WHEN 1 THEN PERFORM cmq_alter_queue(q, polling_wait_seconds => 0);
		WHEN 2 THEN PERFORM cmq_alter_queue(q, max_receive_count => 2 + (random() * 2)::int);
		WHEN 3 THEN PERFORM cmq_alter_queue(q, max_msg_heap_num => CASE WHEN random() < 0.1 THEN 10 ELSE 1000000 END);
		WHEN 4 THEN PERFORM cmq_alter_queue(q, rewind_seconds => 3500 + (random() * 100)::int);
		WHEN 5 THEN PERFORM cmq_alter_queue(q, rewind_share => 1 + (random() * 99)::int);
		WHEN 6 THEN PERFORM cmq_alter_queue(q, retry_backoff_seconds => (random() * 1.2)::int, retry_backoff_max_seconds => (random() * 2)::int);
		WHEN 7 THEN PERFORM cmq_alter_queue(q, dedup_seconds => 6000 + (random() * 100)::int) WHERE q <> 'b';
		ELSE PERFORM cmq_unbind_dead_letter(q);
	END CASE;
END $$;

-- Most of the time no queue is paused.
CREATE FUNCTION t.pause(q text) RETURNS bigint LANGUAGE sql AS $$ SELECT cmq_pause_queue(q, 'for a moment')::int $$;
CREATE FUNCTION t.resume() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(cmq_resume_queue(queue)::int) FROM (SELECT queue FROM cmq.queues WHERE paused_since IS NOT NULL ORDER BY random() LIMIT 1) q
$$;

CREATE FUNCTION t.bind(q text) RETURNS void LANGUAGE sql AS $$
	SELECT cmq_alter_queue(q, dead_letter_queue => CASE q WHEN 'c' THEN 'far' ELSE 'dead' END, max_receive_count => 2 + (random() * 2)::int)
$$;

-- These wait for all who use the queue.
CREATE FUNCTION t.times(q text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF q = 'c' THEN
		PERFORM cmq_alter_queue(q, rewind_seconds => CASE WHEN random() < 0.5 THEN 0 ELSE 3600 END);
	ELSE
		PERFORM cmq_alter_queue(q, msg_retention_seconds => 7000 + (random() * 200)::int);
	END IF;
END $$;

-- x comes, subscribed, and goes.
CREATE FUNCTION t.come_and_go() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM cmq.queues WHERE queue = 'x') THEN
		PERFORM cmq_drop_queue('x');
	ELSE
		PERFORM cmq_create_queue('x', rewind_seconds => 60 * (random() < 0.5)::int, ordered => random() < 0.5, dedup_seconds => 60 * (random() < 0.5)::int);
		PERFORM cmq_subscribe('news', 'x', 'x');
		DELETE FROM t.made WHERE queue = 'x';
	END IF;
END $$;

CREATE FUNCTION t.resubscribe() RETURNS void LANGUAGE sql AS $$
	SELECT cmq_unsubscribe('news', 'a');
	SELECT cmq_subscribe('news', 'a', 'a', CASE WHEN random() < 0.5 THEN '{red,green}'::text[] END);
$$;
};
}

# Views of what the queues have, for the queries below.
sub _checks
{
	return q{
-- Whatever is in a queue's tables now.
CREATE VIEW t.there AS
} . join(' UNION ALL ', map { my $queue = $_;
	# what is published is there for a queue as long as that has a row for it
	"SELECT '$_' AS queue, cmq.msg_id(enqueued_at) AS msg_id, md5(body) AS body, headers FROM cmq_data.q_$_",
	map { "SELECT '$queue', cmq.msg_id(enqueued_at), md5(body), headers FROM cmq_data.j_$_ WHERE '$queue' = ANY (queues)
		AND enqueued_at IN (SELECT enqueued_at FROM cmq_data.q_${queue}_pending WHERE topic = '$_' UNION ALL SELECT enqueued_at FROM cmq_data.q_${queue}_rewind WHERE topic = '$_')" } @topics } @queues) . q{;
CREATE VIEW t.state AS
} . join(' UNION ALL ', map { "SELECT '$_' AS queue, cmq.msg_id(enqueued_at) AS msg_id, 'pending' AS state, receive_count, rewind_count FROM cmq_data.q_${_}_pending
	UNION ALL SELECT '$_', cmq.msg_id(enqueued_at), 'deleted', receive_count, rewind_count FROM cmq_data.q_${_}_rewind" } @queues) . q{;
CREATE VIEW t.letter AS
	SELECT headers #>> '{cmq_dead_letter,queue}' AS queue, (headers #>> '{cmq_dead_letter,msg_id}')::bigint AS msg_id,
		   (headers #>> '{cmq_dead_letter,receive_count}')::int AS receive_count, queue AS dead, body, msg_id AS dead_id
	  FROM t.there WHERE headers ? 'cmq_dead_letter' AND queue IN ('dead', 'far');
};
}

# Queries that must find nothing.
my @nothing = (
	'each message is in one state' => q{
		SELECT queue, msg_id, count(s.state), t.body IS NULL FROM t.there t FULL JOIN t.state s USING (queue, msg_id)
		 -- the bodies of what has expired go with their partition
		 WHERE queue <> 'brief' OR cmq.enqueued_at(msg_id) > cmq._clock('brief') - interval '60 s'
		 GROUP BY 1, 2, 4 HAVING count(s.state) <> 1 OR t.body IS NULL},
	'a key that was sent has one message' => q{
		SELECT queue, key, array_agg(DISTINCT msg_id), count(*) FILTER (WHERE stored) FROM t.asked GROUP BY 1, 2
		HAVING count(DISTINCT msg_id) <> 1 OR count(*) FILTER (WHERE stored) <> 1},
	'each is in its group' => q{
		SELECT msg_id, body, message_group FROM cmq.q_o_all WHERE message_group IS DISTINCT FROM t.group_of(body)},
	'nothing is in a queue that was not put there' => q{
		SELECT t.queue, t.msg_id FROM t.there t LEFT JOIN t.made m USING (queue, msg_id)
		 WHERE t.queue NOT IN ('dead', 'far') AND m.body IS DISTINCT FROM t.body},
	'each dead letter is one of a message that was made, with its body' => q{
		SELECT l.* FROM t.letter l LEFT JOIN t.made m USING (queue, msg_id) WHERE m.body IS DISTINCT FROM l.body},
	'no letter was written twice' => q{
		SELECT queue, msg_id FROM t.letter GROUP BY 1, 2 HAVING count(*) > 1},
	'nor is its message still in its queue' => q{
		SELECT l.* FROM t.letter l JOIN t.there USING (queue, msg_id)},
	'nothing but letters is in the dead-letter queues' => q{
		SELECT * FROM t.there t WHERE queue IN ('dead', 'far') AND NOT EXISTS (SELECT FROM t.letter l WHERE l.dead = t.queue AND l.dead_id = t.msg_id)},
	'what was received is what was made' => q{
		SELECT g.* FROM t.grip g LEFT JOIN (SELECT queue, msg_id, body FROM t.made UNION ALL SELECT dead, dead_id, body FROM t.letter) m USING (queue, msg_id)
		 WHERE g.queue <> 'x' AND m.body IS DISTINCT FROM g.body},
	'deliveries of each life are counted from one, without a gap' => q{
		SELECT queue, msg_id, rewind_count, array_agg(receive_count ORDER BY receive_count) FROM t.grip WHERE parent IS NULL AND counted
		 GROUP BY 1, 2, 3 HAVING count(*) <> max(receive_count)},
	'no message was had by two at a time' => q{
		SELECT n.handle, l.handle FROM (
			-- in each life, in the order of the counts; what is consumed in one step is the last
			SELECT *, lag(handle) OVER (PARTITION BY queue, msg_id, rewind_count
					ORDER BY CASE WHEN handle LIKE '%-%' THEN t.part(handle, 5) ELSE 1000000 END, receive_count) AS before
			  FROM t.grip WHERE parent IS NULL) n
		  JOIN t.grip l ON l.root = n.before AND NOT EXISTS (SELECT FROM t.grip c WHERE c.parent = l.handle)
		 WHERE n.visible_at - n.timeout * 1000000 < l.visible_at},
	'a receive that does not count was given back' => q{
		SELECT * FROM t.grip g WHERE NOT counted AND parent IS NULL AND NOT EXISTS (SELECT FROM t.grip c WHERE c.root = g.root AND c.state = 'released')},
	'each life was ended once, in order' => q{
		SELECT queue, msg_id, array_agg(rewind_count ORDER BY rewind_count) FROM t.gone GROUP BY 1, 2 HAVING count(*) <> max(rewind_count) + 1},
	'by the last delivery' => q{
		SELECT g.*, max(p.receive_count) FROM t.gone g LEFT JOIN (SELECT * FROM t.grip WHERE counted) p USING (queue, msg_id, rewind_count)
		 GROUP BY 1, 2, 3, 4, 5 HAVING g.receive_count <> coalesce(max(p.receive_count), 0)},
	'what is in the history was deleted as often as it lived' => q{
		SELECT s.*, count(g.msg_id) FROM t.state s LEFT JOIN t.gone g USING (queue, msg_id) WHERE s.state = 'deleted'
		 GROUP BY 1, 2, 3, 4, 5 HAVING count(g.msg_id) <> s.rewind_count + 1},
	'what is pending was not deleted in this life' => q{
		SELECT s.*, count(g.msg_id) FROM t.state s LEFT JOIN t.gone g USING (queue, msg_id) WHERE s.state = 'pending'
		 GROUP BY 1, 2, 3, 4, 5 HAVING count(g.msg_id) <> s.rewind_count},
	'a handle was stale for a reason' => q{
		SELECT g.* FROM t.grip g
		 WHERE state = 'stale' AND queue NOT IN ('x', 'brief')
		   AND NOT EXISTS (SELECT FROM t.grip n WHERE n.queue = g.queue AND n.msg_id = g.msg_id AND (n.rewind_count, n.receive_count) > (g.rewind_count, g.receive_count))
		   AND NOT EXISTS (SELECT FROM t.grip n WHERE n.parent = g.handle)
		   AND NOT EXISTS (SELECT FROM t.gone n WHERE n.queue = g.queue AND n.msg_id = g.msg_id AND n.rewind_count >= g.rewind_count)
		   AND NOT EXISTS (SELECT FROM t.letter l WHERE l.queue = g.queue AND l.msg_id = g.msg_id)
		   AND NOT EXISTS (SELECT FROM t.cleared c WHERE c.queue = g.queue AND c.n > 0)},
	'no message came back more often than there were calls' => q{
		SELECT s.*, r.n FROM t.state s LEFT JOIN (SELECT queue, count(*) AS n FROM cmq.rewinds WHERE kind IN ('rewind', 'restore') GROUP BY 1) r USING (queue)
		 WHERE s.rewind_count > coalesce(r.n, 0)},
	'what restores returned is in the record' => q{
		SELECT * FROM (SELECT queue, sum(n) AS n FROM t.brought GROUP BY 1) b
		  FULL JOIN (SELECT queue, sum(messages) AS n FROM cmq.rewinds WHERE kind = 'restore' GROUP BY 1) r USING (queue) WHERE coalesce(b.n, 0) <> coalesce(r.n, 0)},
	'attributes are what the views show' => join(' UNION ALL ', map { qq{
		SELECT '$_', active_msg_num, inactive_msg_num, delay_msg_num, rewind_msg_num, v.* FROM cmq_queue_attributes('$_'),
			(SELECT count(*) FILTER (WHERE state = 'ready') AS ready, count(*) FILTER (WHERE state = 'in_flight') AS flying,
					count(*) FILTER (WHERE state = 'delayed') AS delayed FROM cmq.q_${_}_live) v
		 WHERE active_msg_num + inactive_msg_num + delay_msg_num <> ready + flying + delayed} } grep { $_ ne 'brief' } @queues),
	'the history too' => join(' UNION ALL ', map { qq{
		SELECT '$_', rewind_msg_num, h.n FROM cmq_queue_attributes('$_'), (SELECT count(*) AS n FROM cmq.q_${_}_history) h WHERE rewind_msg_num <> h.n} }
		  grep { $_ ne 'brief' } @queues),
	'and the number of pending messages is that of the rows' => q{
		SELECT rows, m.* FROM cmq.metrics m, LATERAL (SELECT count(*) AS rows FROM t.state s WHERE s.queue = m.queue AND s.state = 'pending') s
		 WHERE pending_msg_num - left_of_rewind <> rows AND queue <> 'x'},
	'cmq.status has the same numbers' => q{
		SELECT s.* FROM cmq.status s, cmq_queue_attributes(s.queue) a
		 WHERE (ready, in_flight, delayed, s.latest_rewind_time) IS DISTINCT FROM (active_msg_num, inactive_msg_num, delay_msg_num, a.latest_rewind_time)
		   AND queue NOT IN ('brief', 'x') AND ready + in_flight + delayed > 0});

# What is true only when all has been consumed.
my @nothing_when_consumed = (
	'each message made is in the history, a dead letter, or was cleared' => q{
		SELECT m.queue, count(*), coalesce(c.n, 0) FROM t.made m LEFT JOIN (SELECT queue, sum(n) AS n FROM t.cleared GROUP BY 1) c USING (queue)
		 WHERE queue IN ('a', 'b', 'd', 'o') AND NOT EXISTS (SELECT FROM t.there t WHERE t.queue = m.queue AND t.msg_id = m.msg_id)
		   AND NOT EXISTS (SELECT FROM t.letter l WHERE l.queue = m.queue AND l.msg_id = m.msg_id)
		 GROUP BY 1, c.n HAVING count(*) <> coalesce(c.n, 0)},
	'or was cleared, not fewer' => q{
		SELECT c.queue, sum(c.n) FROM t.cleared c WHERE queue IN ('a', 'b', 'd', 'o') GROUP BY 1
		HAVING sum(c.n) <> (SELECT count(*) FROM t.made m WHERE m.queue = c.queue
							   AND NOT EXISTS (SELECT FROM t.there t WHERE t.queue = m.queue AND t.msg_id = m.msg_id)
							   AND NOT EXISTS (SELECT FROM t.letter l WHERE l.queue = m.queue AND l.msg_id = m.msg_id))},
	'without a history: each was deleted, or is a dead letter' => q{
		SELECT m.* FROM t.made m WHERE queue IN ('c', 'copy')
		   AND NOT EXISTS (SELECT FROM t.gone g WHERE g.queue = m.queue AND g.msg_id = m.msg_id)
		   AND NOT EXISTS (SELECT FROM t.letter l WHERE l.queue = m.queue AND l.msg_id = m.msg_id)},
	'with a short life: each was deleted, or its life is over' => q{
		SELECT m.* FROM t.made m WHERE queue = 'brief'
		   AND NOT EXISTS (SELECT FROM t.gone g WHERE g.queue = m.queue AND g.msg_id = m.msg_id)
		   AND cmq.enqueued_at(msg_id) > cmq._clock('brief') - interval '60 s'},
	'restores brought back what they said' => q{
		SELECT * FROM (SELECT coalesce(sum(n), 0) AS told FROM t.brought WHERE queue = 'b') b,
			(SELECT (SELECT count(*) FROM t.gone WHERE queue = 'b') - (SELECT count(*) FROM t.state WHERE queue = 'b') AS came) c WHERE told <> came},
	'with rewinds they brought back no fewer' => q{
		SELECT * FROM (SELECT coalesce(sum(n), 0) AS told FROM t.brought WHERE queue = 'a') b,
			(SELECT (SELECT count(*) FROM t.gone WHERE queue = 'a') - (SELECT count(*) FROM t.state WHERE queue = 'a') AS came) c WHERE told > came});

my $counters = q{
	SELECT m.queue, m.sent, b.sent, m.received, b.received, m.redelivered, b.redelivered, m.rewound, b.rewound, m.deleted, b.deleted,
		   m.dead_lettered, b.dead_lettered, m.body_bytes, b.body_bytes
	  FROM cmq.metrics m, LATERAL (
		SELECT (SELECT count(*) FROM t.made x WHERE x.queue = m.queue) + (SELECT count(*) FROM t.letter l WHERE l.dead = m.queue) AS sent,
			   coalesce((SELECT sum(bytes) FROM t.made x WHERE x.queue = m.queue), 0) +
			   coalesce((SELECT sum(x.bytes) FROM t.letter l JOIN t.made x USING (queue, msg_id) WHERE l.dead = m.queue), 0) AS body_bytes,
			   count(*) AS received, count(*) FILTER (WHERE receive_count > 1) AS redelivered,
			   count(*) FILTER (WHERE receive_count = 1 AND rewind_count > 0) AS rewound,
			   (SELECT count(*) FROM t.gone g WHERE g.queue = m.queue) AS deleted,
			   (SELECT count(*) FROM t.letter l WHERE l.queue = m.queue) AS dead_lettered
		  FROM t.grip g WHERE g.queue = m.queue AND g.parent IS NULL) b
	 WHERE m.queue <> 'x' AND (m.sent, m.received, m.redelivered, m.rewound, m.deleted, m.dead_lettered, m.body_bytes)
		IS DISTINCT FROM (b.sent, b.received, b.redelivered, b.rewound, b.deleted, b.dead_lettered, b.body_bytes)};

sub find_nothing
{
	my ($self, $when, @queries) = @_;
	my $ok = 1;
	while (my ($what, $query) = splice @queries, 0, 2)
	{
		my @lines = split /\n/, $self->sql($query);
		$ok &= is(join("\n", @lines > 10 ? (@lines[ 0 .. 9 ], 'and ' . (@lines - 10) . ' more') : @lines), '', "$when: $what");
	}
	return $ok;
}

# After a restart of the server: counters begin anew.
sub forget_counters { $_[0]{counted} = 0; return; }

# Set how often the worker comes; when it comes no more, none is at work on return.
sub set_maintenance
{
	my ($self, $interval) = @_;
	$self->{node}->set('cmq.maintenance_interval', $interval);
	return if $interval eq '1s';
	# the launcher may be about to start a worker, and starts another at once for what one
	# has left undone: wait until none is seen for a while
	my $quiet = 0;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my $n = $self->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmq worker'});
		$quiet = $n eq '0' ? $quiet + 1 : 0;
		last if $quiet == 10;
		usleep(100_000);
	}
	BAIL_OUT('the worker does not end') if $quiet < 10;
	return;
}

sub check
{
	my ($self, $when, $consumed) = @_;
	# numbers are as of now, and rows as of a snapshot: both must agree
	$self->set_maintenance('1d');
	my $ok = $self->find_nothing($when, @nothing, $consumed ? @nothing_when_consumed : (),
		$self->{counted} ? ('counters are what was booked' => $counters) : ());
	$self->set_maintenance('1s');
	return $ok;
}

# Remove what is in the way of consuming all.
sub heal
{
	my ($self) = @_;
	$self->sql(q{
		CREATE OR REPLACE FUNCTION public.maybe(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN n; END $$;
		ALTER TABLE IF EXISTS cmq_data.not_there RENAME TO q_dead_pending;
		GRANT INSERT ON cmq.q_far TO carol;
		DO $$ DECLARE i record; BEGIN
			IF EXISTS (SELECT FROM cmq.queues WHERE queue = 'x') THEN PERFORM cmq_drop_queue('x'); END IF;
			-- what REINDEX CONCURRENTLY left when it was cancelled
			FOR i IN SELECT indexrelid::regclass AS index FROM pg_index WHERE NOT indisvalid AND indexrelid::regclass::text ~ '_cc(new|old)' LOOP
				EXECUTE 'DROP INDEX ' || i.index;
			END LOOP;
		END $$;
		DELETE FROM t.made WHERE queue = 'x';
		SELECT FROM unnest('{a,b,c,d,o,copy}'::text[]) q, cmq_alter_queue(q, max_msg_heap_num => 1000000) WHERE q <> 'd';
		SELECT FROM (SELECT queue FROM cmq.queues WHERE paused_since IS NOT NULL) q, cmq_resume_queue(queue);
		SELECT cmq_maintain();
	});
	return;
}

# Consume all that is pending, dead letters too.
sub drain
{
	my ($self) = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	my $left = 1;
	while ($left && time < $end)
	{
		$self->sql(join ';', "SET application_name = 'drain'", map { ("SELECT t.consume('$_', 1000)", "SELECT t.finish('$_', 1000)") } @queues);
		$left = $self->sql(q{SELECT sum(active_msg_num + inactive_msg_num + delay_msg_num) FROM unnest('} . '{' . join(',', @queues) . '}' . q{'::text[]) q, cmq_queue_attributes(q)});
		usleep(100_000) if $left;
	}
	is($left, 0, 'all can be consumed');
	$self->sql('SELECT cmq_maintain()');
	return;
}

1;
