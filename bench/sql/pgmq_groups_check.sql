-- psql, after each run: as cmq_groups_check.sql.
SELECT (SELECT count(*) FROM pgmq.q_bench WHERE message = to_jsonb(:'body'::text)),
	   (SELECT count(*) FROM pgmq.a_bench WHERE message = to_jsonb(:'body'::text)),
	   (SELECT count(*) FROM miss),
	   (SELECT count(*)
		  FROM (SELECT last_read_at, lag(archived_at) OVER (PARTITION BY headers->>'x-pgmq-group' ORDER BY msg_id) AS before
				  FROM pgmq.a_bench) AS a
		 WHERE last_read_at < before) +
	   (SELECT count(*)
		  FROM (SELECT headers->>'x-pgmq-group' AS g, max(msg_id) AS last FROM pgmq.a_bench GROUP BY 1) AS a
		  JOIN (SELECT headers->>'x-pgmq-group' AS g, min(msg_id) AS first FROM pgmq.q_bench GROUP BY 1) AS q USING (g)
		 WHERE q.first < a.last);
