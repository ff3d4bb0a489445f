-- psql, after each run: events in the tables (consumed ones too, until
-- rotation), consumed, misses.
SELECT (SELECT count(*) FROM pgque.event_template WHERE ev_data = :'body') - (SELECT coalesce(sum(n), 0) FROM consumed),
	   (SELECT coalesce(sum(n), 0) FROM consumed), 0;
