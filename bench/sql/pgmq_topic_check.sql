-- psql, after runs on queues bench_1 to bench_<:queues>: messages pending and consumed, of all.
CREATE TEMP TABLE found (pending bigint, consumed bigint);
SELECT format('INSERT INTO found SELECT (SELECT count(*) FROM pgmq.q_bench_%1$s WHERE message = to_jsonb(%2$L::text)), (SELECT count(*) FROM pgmq.a_bench_%1$s WHERE message = to_jsonb(%2$L::text))',
			  i, :'body')
  FROM generate_series(1, :queues) AS i \gexec
SELECT sum(pending), sum(consumed) FROM found;
