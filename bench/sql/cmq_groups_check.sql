-- psql, after each run: messages pending, consumed, misses; and those that were received
-- before an earlier one of their group was deleted, or while it is pending.
SELECT (SELECT count(*) FROM cmq.q_bench_live WHERE body = :'body'),
	   (SELECT count(*) FROM cmq.q_bench_history WHERE body = :'body'),
	   (SELECT count(*) FROM miss),
	   (SELECT count(*)
		  FROM (SELECT first_received_at, lag(deleted_at) OVER (PARTITION BY message_group ORDER BY msg_id) AS before
				  FROM cmq.q_bench_history) AS h
		 WHERE first_received_at < before) +
	   (SELECT count(*)
		  FROM (SELECT message_group, max(msg_id) AS last FROM cmq.q_bench_history GROUP BY 1) AS h
		  JOIN (SELECT message_group, min(msg_id) AS first FROM cmq.q_bench_live GROUP BY 1) AS l USING (message_group)
		 WHERE l.first < h.last);
