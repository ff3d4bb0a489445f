-- psql, on the front: messages pending and consumed, of all nodes, with their bodies.
SELECT (SELECT count(*) FROM cmq_cluster.q_bench_live WHERE body = :'body'),
	   (SELECT count(*) FROM cmq_cluster.q_bench_history WHERE body = :'body');
