-- psql, after each run: messages pending, messages consumed (empty when
-- rewind is off and nothing keeps them), misses.  The views join the bodies:
-- a message without its body is not counted.
SELECT (SELECT count(*) FROM cmq.q_bench_live WHERE body = :'body'),
	   CASE WHEN :rewind > 0 THEN
			(SELECT count(*) FROM cmq.q_bench_history WHERE body = :'body')
	   END,
	   (SELECT count(*) FROM bench_miss);
