-- psql, after each run: rows there, rows consumed, misses.
SELECT count(*), 0, 0 FROM plain WHERE body = :'body';
