-- psql, after each run: messages pending, consumed, misses.
SELECT count(*), 0, 0 FROM plain WHERE body = :'body';
