-- psql, after each run: messages pending, consumed, misses.  The views join
-- the bodies: a message without its body is not counted.
SELECT (SELECT count(*) FROM cmq.q_bench_live WHERE body = :'body'),
	   (SELECT count(*) FROM cmq.q_bench_history WHERE body = :'body'),
	   (SELECT count(*) FROM miss);
