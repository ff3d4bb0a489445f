-- psql, after each run: messages pending, consumed, misses.
SELECT (SELECT count(*) FROM pgmq.q_bench WHERE message = to_jsonb(:'body'::text)),
	   (SELECT count(*) FROM pgmq.a_bench WHERE message = to_jsonb(:'body'::text)),
	   (SELECT count(*) FROM miss);
