-- psql, after runs on queues <:queue>_1 to <:queue>_<:queues>: messages pending and consumed
-- of each.  The views join the bodies: a message without its body is not counted.
CREATE TEMP TABLE found (i int, pending bigint, consumed bigint);
SELECT format('INSERT INTO found SELECT %1$s, (SELECT count(*) FROM cmq.%2$I WHERE body = %3$L), (SELECT count(*) FROM cmq.%4$I WHERE body = %3$L)',
			  i, 'q_' || :'queue' || '_' || i || '_live', :'body', 'q_' || :'queue' || '_' || i || '_history')
  FROM generate_series(1, :queues) AS i \gexec
SELECT pending, consumed FROM found ORDER BY i;
