-- Run examples/reconcile.sql with the variables that are set, and show what it prints, but
-- for the ids, which differ between runs.
\set ECHO none
\set example :srcdir '/../examples/reconcile.sql'
\getenv builddir PG_ABS_BUILDDIR
\set report :builddir '/results/reconcile_report.txt'
\o :report
\i :example
\o
\set ON_ERROR_STOP off
\set report `sed 's/[0-9]\{16\}/ID of a message./g' :'report'`
\echo :report
\set ECHO all
