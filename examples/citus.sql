-- Queues beside data that Citus distributes: sends and consumes in the transactions of the
-- data, and calls on all workers in one transaction.  examples/citus.md explains it.
--
--   psql -X -d shop -f examples/citus.sql
--
-- on the coordinator, in a database that has the extensions citus and cmq, and worker nodes.
-- It makes tables and functions in the schema that is first in search_path, and plays a day
-- of a shop with them.  They stay there; the end of this file says how to remove them.
--
-- A queue that is named on each worker, and nowhere else, is one queue to its users.

\set ON_ERROR_STOP on
\set QUIET on
\pset footer off

--
-- Calls on workers
--

-- No rows.  Its shards say where a key leads to, and each worker must have one.
CREATE TABLE worker_key (key text PRIMARY KEY);
SELECT create_distributed_table('worker_key', 'key', shard_count => 32, colocate_with => 'none') \g /dev/null

-- The workers, each with a key that leads there now.  A key that does so today may lead
-- elsewhere when shards have been moved: ask again in each transaction.
CREATE FUNCTION workers() RETURNS TABLE (node int, worker text, key text)
LANGUAGE sql STABLE AS $$
	SELECT n.groupid, n.nodename || ':' || n.nodeport, min(k.key)
	  FROM pg_dist_node n
	  LEFT JOIN (SELECT p.groupid, c.key
				   FROM generate_series(1, 500) i, LATERAL (SELECT 'key ' || i) c (key)
				   JOIN pg_dist_placement p
					 ON p.shardid = get_shard_id_for_distribution_column('worker_key', c.key)) k
		ON k.groupid = n.groupid
	 WHERE n.noderole = 'primary' AND n.isactive AND n.shouldhaveshards
	 GROUP BY 1, 2
	 ORDER BY 1
$$;

-- Run a query on the worker of a key, as the caller; its rows as jsonb.  In a transaction
-- Citus sends a call there only if it is delegated by force, and stands alone:
-- SELECT on_worker(..) or SELECT .. FROM on_worker(..).  Any other call runs here, on the
-- coordinator, and is an error.
CREATE FUNCTION on_worker(key text, node int, query text) RETURNS SETOF jsonb
LANGUAGE plpgsql AS $$
BEGIN
	IF node IS DISTINCT FROM (SELECT groupid FROM pg_dist_local_group) THEN
		RAISE EXCEPTION 'this call should have run on node %', node
			USING HINT = 'Call it alone, with constants: SELECT .. FROM on_worker(..). If shards are being moved, try again.';
	END IF;
	RETURN QUERY EXECUTE format('SELECT to_jsonb(q) FROM (%s) q', query);
END $$;
SELECT create_distributed_function('on_worker(text, int, text)', 'key',
								   colocate_with => 'worker_key', force_delegation => true) \g /dev/null

-- Run a query on all workers, in the transaction of the caller: all of them or none, with
-- two-phase commit.
CREATE FUNCTION on_all_workers(query text) RETURNS TABLE (worker text, result jsonb)
LANGUAGE plpgsql AS $$
DECLARE
	w record;
BEGIN
	FOR w IN SELECT * FROM workers() LOOP
		IF w.key IS NULL THEN
			RAISE EXCEPTION 'worker % has no shard of worker_key', w.worker
				USING HINT = 'Rebalance the shards, or move one there.';
		END IF;
		RETURN QUERY EXECUTE format('SELECT %L, r FROM on_worker(%L, %s, %L) r',
									w.worker, w.key, w.node, query);
	END LOOP;
END $$;

--
-- The shop, and its messages
--

CREATE TABLE shop_order (shop text, id bigint, item text, state text DEFAULT 'new', PRIMARY KEY (shop, id));
SELECT create_distributed_table('shop_order', 'shop') \g /dev/null

-- Send on the worker that has the shop's data.  PL/pgSQL: a function in SQL would be put in
-- line, and run on the coordinator.
CREATE FUNCTION shop_send(shop text, queue text, body text) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
	RETURN cmq_send(queue, body, headers => jsonb_build_object('shop', shop));
END $$;
SELECT create_distributed_function('shop_send(text, text, text)', 'shop',
								   colocate_with => 'shop_order', force_delegation => true) \g /dev/null

-- Order and message in one call.
CREATE FUNCTION place_order(shop text, id bigint, item text) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO shop_order VALUES (place_order.shop, place_order.id, place_order.item);
	RETURN cmq_send('orders', jsonb_build_object('shop', shop, 'id', id)::text);
END $$;
SELECT create_distributed_function('place_order(text, bigint, text)', 'shop',
								   colocate_with => 'shop_order', force_delegation => true) \g /dev/null

-- Consume on the worker of a key; messages of any shop.
CREATE FUNCTION worker_consume(key text, queue text, max_messages int) RETURNS SETOF cmq.message
LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT * FROM cmq_consume(queue, max_messages);
END $$;
SELECT create_distributed_function('worker_consume(text, text, int)', 'key',
								   colocate_with => 'worker_key', force_delegation => true) \g /dev/null

--
-- A day
--

\qecho A queue on each worker, or on none
SELECT count(*) = (SELECT count(*) FROM workers()) AS made
  FROM on_all_workers($$ SELECT cmq_create_queue('orders', rewind_seconds => 86400) $$);

\qecho
\qecho An order and its message, in one transaction
BEGIN;
INSERT INTO shop_order VALUES ('Anna', 1, 'apples');
SELECT shop_send('Anna', 'orders', '{"shop": "Anna", "id": 1}') AS msg_id \gset
COMMIT;
\qecho ... rolled back, neither is there
BEGIN;
INSERT INTO shop_order VALUES ('Anna', 2, 'a ghost');
SELECT shop_send('Anna', 'orders', '{"shop": "Anna", "id": 2}') AS msg_id \gset
ROLLBACK;
\qecho ... of several shops, on several workers
DO $$
BEGIN
	FOR i IN 1..20 LOOP
		PERFORM FROM place_order('shop ' || i, 3, 'pears');
	END LOOP;
END $$;
SELECT (SELECT count(*) FROM shop_order) AS orders,
	   (SELECT count(*) FROM on_all_workers('SELECT FROM cmq.q_orders_live')) AS messages,
	   (SELECT count(DISTINCT worker) FROM on_all_workers('SELECT FROM cmq.q_orders_live')) > 1 AS on_several_workers;

-- What a consumer does: take messages of a worker, and do the work on the data, wherever
-- that is.
CREATE FUNCTION pack_orders() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	w record;
	m record;
	n bigint := 0;
BEGIN
	FOR w IN SELECT * FROM workers() LOOP
		FOR m IN SELECT body::jsonb AS parcel FROM worker_consume(w.key, 'orders', 100) LOOP
			UPDATE shop_order o
			   SET state = 'packed'
			 WHERE o.shop = m.parcel ->> 'shop' AND o.id = (m.parcel ->> 'id')::bigint;
			n := n + 1;
		END LOOP;
	END LOOP;
	RETURN n;
END $$;

\qecho
\qecho A consumer: message and work are one transaction
BEGIN;
SELECT pack_orders();
ROLLBACK;
\qecho ... rolled back, the messages are ready and nothing is packed
SELECT (SELECT count(*) FROM shop_order WHERE state = 'packed') AS packed,
	   (SELECT count(*) FROM on_all_workers($$ SELECT FROM cmq.q_orders_live WHERE state = 'ready' $$)) AS ready;
\qecho ... committed
SELECT pack_orders();
SELECT state, count(*) FROM shop_order GROUP BY state;

\qecho
\qecho The parcels were empty: rewind on all workers, or on none, and on the record
SELECT now() - interval '1 hour' AS since \gset
BEGIN;
-- what is set here is set on the workers, too
SET LOCAL citus.propagate_set_commands = 'local';
SET LOCAL cmq.reason = 'empty parcels';
UPDATE shop_order SET state = 'new';
SELECT count(result ->> 'cmq_rewind') = (SELECT count(*) FROM workers()) AS rewound
  FROM on_all_workers(format('SELECT cmq_rewind(%L, %L)', 'orders', :'since'));
COMMIT;
SELECT DISTINCT result ->> 'kind' AS kind, result ->> 'reason' AS reason
  FROM on_all_workers($$ SELECT kind, reason FROM cmq.rewinds WHERE queue = 'orders' $$);
SELECT pack_orders() AS packed_again;

-- To remove all of it:
--   SELECT * FROM on_all_workers($$ SELECT cmq_drop_queue('orders') $$);
--   DROP FUNCTION pack_orders, place_order, shop_send, worker_consume, on_all_workers, on_worker, workers;
--   DROP TABLE shop_order, worker_key;
