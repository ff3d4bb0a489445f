-- Topics: subscriptions, both kinds of filters, publishing, rights.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

SELECT cmq_create_queue('topic_a');
SELECT cmq_create_queue('topic_b');
SELECT cmq_create_queue('topic_c');

--
-- By tag: without filter tags everything, with them what has one of them.
--
SELECT cmq_create_topic('news');
SELECT topic, owner = current_user AS mine, filter_type, create_time > now() - interval '1 minute' AS just_now FROM cmq.topics;
-- nobody there: nothing is sent
SELECT * FROM cmq_publish('news', 'lost');
SELECT cmq_subscribe('news', 'all', 'topic_a');
SELECT cmq_subscribe('news', 'sport', 'topic_b', '{sport,weather}');
SELECT cmq_subscribe('news', 'money', 'topic_c', filter_tags => '{money}');
SELECT topic, subscription, queue, filter_tags, binding_keys FROM cmq.subscriptions ORDER BY 1, 2;
SELECT subscription, queue FROM cmq.t_news ORDER BY 1;
SELECT n, string_agg(p.queue, ' ' ORDER BY p.queue) AS queues
  FROM (VALUES (1, NULL), (2, '{sport}'), (3, '{weather,money}'), (4, '{other}'), (5, '{Sport}')) v (n, tags),
	   LATERAL cmq_publish('news', 'n' || n, tags::text[]) p
 GROUP BY n ORDER BY n;
SELECT pg_temp.consume('topic_a') AS a, pg_temp.consume('topic_b') AS b, pg_temp.consume('topic_c') AS c;
-- tags and routing key travel in the headers; ids are those of the messages
SELECT queue, msg_id FROM cmq_publish('news', 'with headers', '{sport,"a \"b\" ä"}', NULL, '{"k": 1, "cmq_topic": "forged"}') WHERE queue = 'topic_b' \gset
SELECT msg_id = :msg_id AS same_id, body, headers FROM cmq_receive('topic_b');
SELECT count(*) FROM cmq_publish('news', 'without');
SELECT body, headers FROM cmq_receive('topic_a', 2) WHERE body = 'without';

-- one id in all queues, and one of its own for each further copy
SELECT pg_temp.consume('topic_a') IS NOT NULL AS a, pg_temp.consume('topic_b') AS b, pg_temp.consume('topic_c') AS c;
SELECT cmq_subscribe('news', 'again', 'topic_a');
SELECT count(*) AS copies, count(DISTINCT queue) AS queues, count(DISTINCT msg_id) AS ids FROM cmq_publish('news', 'x', '{sport,money}');
SELECT array_agg(n ORDER BY msg_id) = '{1,2,3,4}' AS "copy by copy" FROM cmq_publish_batch('news', '{x,y}') WITH ORDINALITY s (queue, msg_id, n);
SELECT cmq_unsubscribe('news', 'again');
SELECT pg_temp.consume('topic_a') AS a, pg_temp.consume('topic_b') AS b, pg_temp.consume('topic_c') AS c;

--
-- By routing key: * is one word, # any number.
--
SELECT cmq_create_topic('routes', 'routing');
CREATE TEMP TABLE pattern (key text);
INSERT INTO pattern VALUES ('1.*.0'), ('1.#.0'), ('#'), ('*'), ('a'), ('a.b'), ('#.b'), ('a.#'), ('a.*'), ('*.*'), ('#.#'), ('#.a.#'),
	('a..b'), ('a.*.b'), ('*.'), ('a#'), ('#.*'), ('*.#.*'), ('A');
CREATE TEMP TABLE routing (key text);
INSERT INTO routing VALUES ('1.0'), ('1.2.0'), ('1.2.3.4.4.2.2.0'), ('1.2'), ('a'), ('a.b'), ('a.x.b'), ('a..b'), ('x.a.b'), ('a.'), ('.');
DO $$
DECLARE
	p text;
BEGIN
	FOR p IN SELECT key FROM pattern LOOP
		PERFORM cmq_create_queue('route_' || md5(p));
		PERFORM cmq_subscribe('routes', 's' || md5(p), 'route_' || md5(p), binding_keys => ARRAY[p]);
	END LOOP;
END $$;
SELECT r.key AS routing_key, string_agg(p.key, '  ' ORDER BY p.key COLLATE "C") AS matched_by
  FROM routing r, LATERAL cmq_publish('routes', 'm', routing_key => r.key) s JOIN pattern p ON s.queue = 'route_' || md5(p.key)
 GROUP BY r.key ORDER BY r.key COLLATE "C";
-- one of several is enough; a copy for each subscription, not for each key
SELECT cmq_subscribe('routes', 'several', 'topic_a', binding_keys => '{nothing,several.*,#.keys}');
SELECT count(*) FROM cmq_publish('routes', 'several', routing_key => 'several.keys') WHERE queue = 'topic_a';
SELECT headers FROM cmq.q_topic_a_live WHERE body = 'several';
-- the longest there are
SELECT cmq_subscribe('routes', 'long', 'topic_b', binding_keys => ARRAY[repeat('#.', 15) || 'z']);
SELECT count(*) FROM cmq_publish('routes', 'long', routing_key => repeat('aaa.', 15) || 'z') WHERE queue = 'topic_b';
DO $$
DECLARE
	p text;
BEGIN
	FOR p IN SELECT key FROM pattern LOOP
		PERFORM cmq_drop_queue('route_' || md5(p));
	END LOOP;
END $$;
-- a queue takes its subscriptions along
SELECT topic, subscription FROM cmq.subscriptions ORDER BY 1, 2;

--
-- Batches; all or nothing.
--
SELECT pg_temp.consume('topic_a') IS NOT NULL AS a, pg_temp.consume('topic_b') IS NOT NULL AS b;
SELECT queue, n, msg_id > lag(msg_id) OVER (PARTITION BY queue ORDER BY n) AS later
  FROM cmq_publish_batch('news', '{x,y,z}', '{sport}', NULL, ARRAY['{"n": 1}', NULL, '{"n": 3}']::jsonb[]) WITH ORDINALITY s (queue, msg_id, n);
SELECT body, headers FROM cmq_receive('topic_b', 10);
SELECT count(*) FROM cmq_publish_batch('news', '{}');
SELECT cmq_alter_queue('topic_b', max_msg_size => 1024);
SELECT pg_temp.consume('topic_a') AS three;
SELECT pg_temp.attempt($$SELECT cmq_publish('news', repeat('x', 1025), '{sport}')$$) AS too_large_for_one;
SELECT cmq_alter_queue('topic_b', max_msg_heap_num => 1);
SELECT pg_temp.attempt($$SELECT cmq_publish('news', 'x', '{sport}')$$) AS one_is_full;
SELECT pg_temp.consume('topic_a') AS nothing;
BEGIN;
SELECT count(*) FROM cmq_publish('news', 'rolled back');
ROLLBACK;
SELECT pg_temp.consume('topic_a') AS nothing;
-- publish sees a subscription that was made in the same transaction
BEGIN;
SELECT count(*) FROM cmq_publish('news', 'before', '{new}');
SELECT cmq_subscribe('news', 'new', 'topic_c', '{new}');
SELECT count(*) FROM cmq_publish('news', 'after', '{new}');
ROLLBACK;
SELECT count(*) FROM cmq_publish('news', 'again without', '{new}');

--
-- Errors.
--
SELECT n, pg_temp.attempt('SELECT ' || call)
  FROM (VALUES
	(1, $$cmq_create_topic('news')$$), (2, $$cmq_create_topic('NEWS')$$), (3, $$cmq_create_topic('not a name')$$),
	(4, $$cmq_create_topic(NULL)$$), (5, $$cmq_create_topic('t', NULL)$$), (6, $$cmq_create_topic('t', 'both')$$),
	(7, $$cmq_drop_topic('none')$$), (8, $$cmq_drop_topic('news')$$), (9, $$cmq_drop_topic(NULL)$$),
	(10, $$cmq_subscribe('none', 's', 'topic_a')$$), (11, $$cmq_subscribe('news', 's', 'none')$$),
	(12, $$cmq_subscribe('news', 'ALL', 'topic_a')$$), (13, $$cmq_subscribe('news', 'not a name', 'topic_a')$$),
	(14, $$cmq_subscribe(NULL, 's', 'topic_a')$$), (15, $$cmq_subscribe('news', NULL, 'topic_a')$$), (16, $$cmq_subscribe('news', 's', NULL)$$),
	(17, $$cmq_subscribe('news', 's', 'topic_a', '{}')$$), (18, $$cmq_subscribe('news', 's', 'topic_a', '{a,b,c,d,e,f}')$$),
	(19, $$cmq_subscribe('news', 's', 'topic_a', '{a,NULL}')$$), (20, $$cmq_subscribe('news', 's', 'topic_a', '{{a},{b}}')$$),
	(21, $$cmq_subscribe('news', 's', 'topic_a', '{""}')$$), (22, $$cmq_subscribe('news', 's', 'topic_a', '{12345678901234567}')$$),
	(23, $$cmq_subscribe('news', 's', 'topic_a', NULL, '{a}')$$), (24, $$cmq_subscribe('routes', 's', 'topic_a')$$),
	(25, $$cmq_subscribe('routes', 's', 'topic_a', '{a}', '{a}')$$), (26, $$cmq_subscribe('routes', 's', 'topic_a', NULL, ARRAY[repeat('.', 16)])$$),
	(27, $$cmq_subscribe('routes', 's', 'topic_a', NULL, ARRAY[repeat('a', 65)])$$),
	(30, $$cmq_unsubscribe('none', 's')$$), (31, $$cmq_unsubscribe('news', 'none')$$), (32, $$cmq_unsubscribe('news', NULL)$$),
	(40, $$cmq_publish('none', 'x')$$), (41, $$cmq_publish(NULL, 'x')$$), (42, $$cmq_publish('news', NULL)$$), (43, $$cmq_publish('news', '')$$),
	(44, $$cmq_publish('news', 'x', '{}')$$), (45, $$cmq_publish('news', 'x', '{12345678901234567}')$$),
	(46, $$cmq_publish('routes', 'x')$$), (47, $$cmq_publish('routes', 'x', NULL, '')$$), (48, $$cmq_publish('news', 'x', NULL, NULL, '[1]')$$),
	(49, $$cmq_publish_batch('news', NULL)$$), (50, $$cmq_publish_batch('news', '{a,NULL}')$$), (51, $$cmq_publish_batch('news', '{a,b}', NULL, NULL, '{NULL}')$$),
	(52, $$cmq_publish('news', 'x', NULL, 'some.key')$$), (53, $$cmq_publish_batch('routes', '{x}', '{sport}', 'some.key')$$)) v (n, call)
 ORDER BY n;
-- case matters, and the hint says so
SELECT cmq_publish('News', 'x');
SELECT cmq_publish('news2', 'x');

--
-- Rights: on the topic to publish, on the topic and the queue to subscribe.
--
CREATE ROLE regress_publisher;
CREATE ROLE regress_subscriber;
SET ROLE regress_publisher;
SELECT pg_temp.attempt($$SELECT cmq_create_topic('mine')$$) AS create_topic,
	   pg_temp.attempt($$SELECT cmq_publish('news', 'x')$$) AS publish;
RESET ROLE;
GRANT INSERT ON cmq.t_news TO regress_publisher;
GRANT USAGE ON SCHEMA cmq TO regress_publisher;
GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO regress_subscriber;
SET ROLE regress_publisher;
SELECT queue FROM cmq_publish('news', 'by a publisher', '{money}') ORDER BY 1;
SELECT topic FROM cmq.topics;
SELECT count(*) AS not_mine FROM cmq.subscriptions;
SELECT pg_temp.attempt($$SELECT count(*) FROM cmq.t_news$$) AS subscriptions,
	   pg_temp.attempt($$INSERT INTO cmq.t_news VALUES ('s', 'topic_a')$$) AS by_hand,
	   pg_temp.attempt($$SELECT cmq_drop_topic('news')$$) AS drop_topic,
	   pg_temp.attempt($$SELECT cmq_unsubscribe('news', 'all')$$) AS unsubscribe,
	   pg_temp.attempt($$SELECT count(*) FROM cmq.subscription$$) AS internal;
RESET ROLE;
SET ROLE regress_subscriber;
SELECT cmq_create_queue('topic_mine');
SELECT pg_temp.attempt($$SELECT cmq_subscribe('news', 'mine', 'topic_mine')$$) AS no_right_on_topic;
RESET ROLE;
GRANT SELECT ON cmq.t_news TO regress_subscriber;
SET ROLE regress_subscriber;
SELECT pg_temp.attempt($$SELECT cmq_subscribe('news', 'mine', 'topic_a')$$) AS not_my_queue,
	   pg_temp.attempt($$SELECT cmq_subscribe('news', 'mine', 'topic_mine')$$) AS ok,
	   pg_temp.attempt($$SELECT cmq_unsubscribe('news', 'all')$$) AS not_mine;
SELECT subscription FROM cmq.t_news ORDER BY 1;
RESET ROLE;
REVOKE SELECT ON cmq.t_news FROM regress_subscriber;
SET ROLE regress_subscriber;
SELECT topic, subscription, queue FROM cmq.subscriptions;
SELECT cmq_unsubscribe('news', 'mine');
RESET ROLE;
SELECT cmq_drop_queue('topic_mine');
DROP OWNED BY regress_publisher, regress_subscriber;
DROP ROLE regress_publisher, regress_subscriber;

-- A transaction that publishes keeps one description of a topic, however often it changes.
BEGIN;
DO $$
BEGIN
	FOR i IN 1 .. 50 LOOP
		PERFORM cmq_subscribe('news', 'often', 'topic_b', '{nothing}');
		PERFORM cmq_publish('news', 'm', '{something}');
		PERFORM cmq_unsubscribe('news', 'often');
	END LOOP;
END $$;
SELECT count(*) < 5 AS few FROM pg_backend_memory_contexts WHERE name = 'cmq topic';
ROLLBACK;

SELECT cmq_unsubscribe('news', 'all');
SELECT cmq_drop_queue('topic_a');
SELECT cmq_drop_queue('topic_b');
SELECT cmq_drop_queue('topic_c');
SELECT cmq_drop_topic('news');
SELECT cmq_drop_topic('routes');
SELECT count(*) FROM cmq.topics;
