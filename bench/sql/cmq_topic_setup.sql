-- psql, in a fresh database: topic bench, to which queues bench_1 to bench_<:queues> are
-- subscribed, and an empty table for the misses.  Each queue is made in a transaction of
-- its own.
SELECT cmq_create_topic(:'queue');
SELECT format('SELECT cmq_create_queue(%1$L, rewind_seconds => 345600), cmq_subscribe(%2$L, %1$L, %1$L)',
			  :'queue' || '_' || i, :'queue')
  FROM generate_series(1, :queues) AS i \gexec
CREATE TABLE miss (at timestamptz NOT NULL DEFAULT now());
