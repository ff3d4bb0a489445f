-- psql, after each run: messages pending, consumed, misses; and those that were deleted
-- before an earlier one of their group, or while it is pending.  first_received_at would
-- tell nothing: it is when a call began, which may have waited for the processor while
-- another one deleted the message before.
SELECT (SELECT count(*) FROM cmq.q_bench_live WHERE body = :'body'),
	   (SELECT count(*) FROM cmq.q_bench_history WHERE body = :'body'),
	   (SELECT count(*) FROM miss),
	   (SELECT count(*)
		  FROM (SELECT deleted_at, lag(deleted_at) OVER (PARTITION BY message_group ORDER BY msg_id) AS before
				  FROM cmq.q_bench_history) AS h
		 WHERE deleted_at < before) +
	   (SELECT count(*)
		  FROM (SELECT message_group, max(msg_id) AS last FROM cmq.q_bench_history GROUP BY 1) AS h
		  JOIN (SELECT message_group, min(msg_id) AS first FROM cmq.q_bench_live GROUP BY 1) AS l USING (message_group)
		 WHERE l.first < h.last);
