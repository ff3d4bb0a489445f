-- psql, in a fresh database: queues bench_1 to bench_<:queues>, bound to routing key bench.
SELECT format('SELECT pgmq.create(%1$L), pgmq.bind_topic(%2$L, %1$L)', :'queue' || '_' || i, :'queue')
  FROM generate_series(1, :queues) AS i \gexec
