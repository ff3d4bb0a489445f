-- psql: :n batches of :batch messages.
SELECT count(*) FROM (
	SELECT cmq_send_batch(:'queue', array_fill(:'body'::text, ARRAY[:batch]))
	  FROM generate_series(1, :n)) AS sent;
