-- README.md and docs/ against the catalogs: the reference tables name every function
-- with its arguments, every setting with its default, and nothing else.
\getenv srcdir PG_ABS_SRCDIR
\set helpers :srcdir '/helpers.sql'
\i :helpers

\set readme `cd "$PG_ABS_SRCDIR/.." && cat README.md docs/*.md`
CREATE TEMP TABLE readme AS
	SELECT line FROM regexp_split_to_table(:'readme', E'\n') line WHERE line LIKE '| `%';
SELECT length(:'readme') > 1000 AS readme_found;

--
-- Functions: rows like | `cmq_send(queue, body, ...)` | ...
--
CREATE TEMP TABLE documented AS
	SELECT m[1] AS function, regexp_replace(m[2], '\s', '', 'g') AS arguments
	  FROM readme, regexp_match(line, '^\| `(cmq_[a-z_]+)\(([^)]*)\)` \|') m WHERE m IS NOT NULL;
CREATE TEMP TABLE existing AS
	SELECT p.proname::text AS function,
		   array_to_string(p.proargnames[1:p.pronargs], ',') AS arguments
	  FROM pg_proc p
	  JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	 WHERE e.extname = 'cmq' AND p.proname LIKE 'cmq\_%';
SELECT count(*) >= 12 AS functions_found FROM existing;
SELECT function, arguments AS not_documented FROM existing EXCEPT SELECT function, arguments FROM documented ORDER BY 1, 2;
SELECT function, arguments AS not_existing FROM documented EXCEPT SELECT function, arguments FROM existing ORDER BY 1, 2;
-- no row of the tables starts with a cmq_ word in another form
SELECT line AS odd_row FROM readme WHERE line LIKE '| `cmq\_%' AND line NOT LIKE '| `cmq\_data.%' AND line !~ '^\| `cmq_[a-z_]+\([^)]*\)` \|' ORDER BY 1;
-- what the text calls exists
SELECT DISTINCT m[1] AS mentioned_but_not_existing FROM regexp_matches(:'readme', '\m(cmq_[a-z_]+)\(', 'g') m
 WHERE m[1] NOT IN (SELECT function FROM existing) ORDER BY 1;

--
-- Settings: rows like | `cmq.maintenance_interval` | 1min | ...
--
CREATE TEMP TABLE setting AS
	SELECT name,
		   CASE WHEN unit = 's' THEN
				CASE WHEN boot_val::int = 0 THEN '0'
					 WHEN boot_val::int % 86400 = 0 THEN boot_val::int / 86400 || 'd'
					 WHEN boot_val::int % 3600 = 0 THEN boot_val::int / 3600 || 'h'
					 WHEN boot_val::int % 60 = 0 THEN boot_val::int / 60 || 'min'
					 ELSE boot_val || 's' END
				ELSE boot_val || coalesce(unit, '') END AS value
	  FROM pg_settings WHERE name LIKE 'cmq.%';
SELECT name, value FROM setting ORDER BY name COLLATE "C";
SELECT name, value AS not_documented FROM setting
 WHERE NOT EXISTS (SELECT FROM readme WHERE line LIKE '| `' || name || '` | ' || value || ' |%') ORDER BY 1;
-- other rows that start with cmq. name a relation or a function of the schema
SELECT m[1] AS not_existing FROM readme, regexp_match(line, '^\| `cmq\.([a-z_<>]+)') m
 WHERE m IS NOT NULL AND m[1] !~ '^q_' AND 'cmq.' || m[1] NOT IN (SELECT name FROM setting)
   AND to_regclass('cmq.' || quote_ident(m[1])) IS NULL
   AND m[1] NOT IN (SELECT proname FROM pg_proc WHERE pronamespace = 'cmq'::regnamespace)
 ORDER BY 1;

--
-- Queue settings: rows like | visibility_timeout | 30 | 1..43200 s | with the
-- defaults of cmq_create_queue and the ranges that it accepts.
--
CREATE TEMP TABLE queue_setting AS
	SELECT m[1] AS name, m[2]::bigint AS value, m[3]::bigint AS low,
		   CASE WHEN m[4] ~ '^\d+$' THEN m[4]::bigint END AS high
	  FROM regexp_matches(:'readme', '\n\| ([a-z_]+) \| (\d+) \| (\d+)\.\.([a-z_0-9]+)', 'g') m;
CREATE TEMP TABLE queue_default AS
	SELECT m[1] AS name, m[2]::bigint AS value
	  FROM pg_proc, regexp_matches(pg_get_function_arguments(oid), '(\w+) (?:integer|bigint) DEFAULT ''?(\d+)', 'g') m
	 WHERE proname = 'cmq_create_queue';
SELECT * FROM queue_default EXCEPT SELECT name, value FROM queue_setting ORDER BY 1;
SELECT name, value FROM queue_setting EXCEPT SELECT * FROM queue_default ORDER BY 1;
-- the ends are accepted, one beyond is not
CREATE FUNCTION pg_temp.accepts(setting text, value bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE format('SELECT cmq_create_queue(''docs_a'', %I => %s)', setting, value);
		RAISE SQLSTATE 'CMQ00';
	EXCEPTION
		WHEN SQLSTATE 'CMQ00' THEN
			RETURN 'yes';
		WHEN OTHERS THEN
			RETURN SQLSTATE;
	END;
END $$;
SELECT name, pg_temp.accepts(name, low - 1) AS below, pg_temp.accepts(name, low) AS low,
	   pg_temp.accepts(name, high) AS high, pg_temp.accepts(name, high + 1) AS above
  FROM queue_setting WHERE high IS NOT NULL ORDER BY name;

--
-- Columns: the views of a queue, cmq.message, cmq.rewinds and cmq.status, in order.
--
SELECT cmq_create_queue('docs_a');
SELECT relation, documented = array_to_string(array(
		SELECT attname FROM pg_attribute WHERE attrelid = relation::regclass AND attnum > 0 ORDER BY attnum), ', ') AS as_documented
  FROM (VALUES
	('cmq.q_docs_a_live', substring(:'readme' FROM '\| `cmq\.q_orders_live` \| [^|:]*: ([^|]*) \|')),
	('cmq.q_docs_a_history', substring(:'readme' FROM '\| `cmq\.q_orders_history` \| [^|:]*: ([^|]*) \|')),
	('cmq.q_docs_a_all', substring(:'readme' FROM '\| `cmq\.q_orders_all` \| [^|:]*: ([^|]*) \|')),
	('cmq.status', substring(:'readme' FROM '\| `cmq\.status` \| [^|:]*: ([^|]*) \|')),
	('cmq.rewinds', substring(:'readme' FROM '\| `cmq\.rewinds` \| [^|:]*: ([^|]*) \|')),
	('cmq.message', substring(:'readme' FROM 'Returns rows of `cmq\.message`: ([^|.]*)\. \|'))) v (relation, list),
	   LATERAL regexp_replace(list, ' \([^)]*\)', '', 'g') AS documented
 ORDER BY relation;
SELECT cmq_drop_queue('docs_a');
-- what is said of cmq_queue_attributes
SELECT m[1] AS not_a_column FROM readme, regexp_matches(line, '`([a-z_]+)`', 'g') m
 WHERE line LIKE '| `cmq\_queue\_attributes(%' AND m[1] NOT IN (SELECT unnest(proargnames) FROM pg_proc WHERE proname = 'cmq_queue_attributes')
 ORDER BY 1;

-- what is said of cmq.metrics: each column
SELECT attname AS not_documented FROM pg_attribute
 WHERE attrelid = 'cmq.metrics'::regclass AND attnum > 0 AND attname <> 'queue'
   AND strpos(substring(:'readme' FROM E'\n## Monitoring\n\n.*?\n\n'), '`' || attname || '`') = 0
 ORDER BY attnum;

--
-- The tables for CMQ users.  Actions: each once; what they become exists.
--
CREATE TEMP TABLE action AS
	SELECT n, line, m[1] AS actions, m[2] AS ours
	  FROM regexp_split_to_table(substring(:'readme' FROM E'\\| CMQ \\| cmq \\|\n\\|---\\|---\\|\n(.*?)\n\n'), E'\n') WITH ORDINALITY AS l (line, n)
	  LEFT JOIN LATERAL regexp_match(line, '^\| ([^|]+) \| ([^|]+) \|$') m ON true;
SELECT count(*) > 25 AS actions_found FROM action;
SELECT line AS odd_row FROM action WHERE actions IS NULL ORDER BY n;
-- one lists queues and shows one, too
SELECT m[1] AS twice FROM action, regexp_matches(actions, '\m([A-Z][a-z]+[A-Za-z]*)', 'g') m
 GROUP BY m[1] HAVING count(*) > 1 ORDER BY 1;
SELECT m[1] AS not_existing FROM action, regexp_matches(ours, '`(?:SELECT \* FROM |SELECT )?(cmq[._][a-z_]+)', 'g') m
 WHERE m[1] NOT IN (SELECT function FROM existing) AND to_regclass(m[1]) IS NULL ORDER BY 1;

--
-- Errors: a row begins with its codes, 4000/10000 or 10001 for another one of 4000;
-- then a SQLSTATE, or why there is none.
--
CREATE TEMP TABLE error AS
	SELECT n, line, m[1] AS codes, m[2] AS ours
	  FROM regexp_split_to_table(substring(:'readme' FROM E'\\| CMQ error \\| SQLSTATE \\|\n\\|---\\|---\\|\n(.*?)\n\n'), E'\n') WITH ORDINALITY AS l (line, n)
	  LEFT JOIN LATERAL regexp_match(line, '^\| (\d{4}(?:/\d{5})?[, ][^|]+) \| ([^|]+) \|$') m ON true;
SELECT count(*) > 25 AS errors_found FROM error;
SELECT line AS odd_row FROM error
 WHERE codes IS NULL OR ours !~ '^(no|none|any other|[0-9][0-9A-Z]{4})\M' ORDER BY n;
CREATE TEMP TABLE code AS
	SELECT n, i, m[1] AS code, m[2] AS module
	  FROM error, regexp_matches(codes, '\m(?:(\d{4})/)?(\d{4,5})\M', 'g') WITH ORDINALITY AS c (m, i);
UPDATE code SET code = module, module = NULL WHERE code IS NULL AND length(module) = 4;
UPDATE code c SET code = (SELECT b.code FROM code b WHERE b.n = c.n AND b.i < c.i AND b.code IS NOT NULL ORDER BY b.i DESC LIMIT 1)
 WHERE code IS NULL;
SELECT count(*) > 60 AS codes_found, count(*) FILTER (WHERE code IS NULL) AS without_code FROM code;
-- those that mean two things in CMQ, too; without modules a code stands for all of them
SELECT code, module AS twice FROM code GROUP BY 1, 2 HAVING count(*) > 1 ORDER BY 1, 2;
SELECT DISTINCT a.code AS twice FROM code a JOIN code b USING (code) WHERE a.module IS NULL AND b.module IS NOT NULL ORDER BY 1;
-- the table of errors has them, but for those of SQL itself
SELECT DISTINCT m[1] AS not_documented FROM error, regexp_matches(ours, '\m([0-9][0-9A-Z]{4})\M', 'g') m
 WHERE strpos(:'readme', E'\n| ' || m[1] || ' | ') = 0 ORDER BY 1;

--
-- Commands and files that documents name.
--
\set makefile `cat "$PG_ABS_SRCDIR/../Makefile"`
\set documents `cd -P "$PG_ABS_SRCDIR/.." && cat README.md CONTRIBUTING.md SECURITY.md docs/*.md`
\set top `cd -P "$PG_ABS_SRCDIR/.." && pwd`
SELECT DISTINCT m[1] AS no_such_target FROM regexp_matches(:'documents', '(?:`|\n)make ([a-z][a-z-]*)', 'g') m
 WHERE m[1] NOT IN ('install', 'installcheck', 'uninstall') AND :'makefile' !~ ('\n' || m[1] || ':') ORDER BY 1;
SELECT DISTINCT m[1] AS no_such_file
  FROM regexp_matches(:'documents', '`((?:bench|demo|docs|examples|expected|sql|src|test|tools)/[\w./-]+)[` ]', 'g') m
 WHERE pg_stat_file(:'top' || '/' || m[1], true) IS NULL ORDER BY 1;

--
-- Comments: everything a user may call or read has one.
--
SELECT pg_describe_object(d.classid, d.objid, 0) AS without_comment
  FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
 WHERE e.extname = 'cmq' AND d.deptype = 'e' AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
   AND obj_description(d.objid, d.classid::regclass::text::name) IS NULL
 ORDER BY 1;

--
-- So has each column of the views, and each attribute of cmq.message, and it names the
-- unit; comments on functions name those of parameters.
--
SELECT cmq_create_queue('docs_a');
SELECT cmq_create_topic('docs_a');
CREATE FUNCTION pg_temp.unit(name text, type regtype) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN type = 'timestamptz'::regtype THEN 'timestamps? by the (queue|wall) clock'
				WHEN name ~ '_seconds$|timeout$|^max_time_to_live$' THEN '\mseconds\M'
				WHEN name ~ '_bytes$|_size$' THEN '\mbytes\M'
				WHEN name = 'rewind_share' THEN 'per cent'
				WHEN name ~ '^msg_ids?$' THEN 'microseconds since 1970'
				WHEN type IN ('int'::regtype, 'bigint'::regtype, 'float8'::regtype) THEN '\mnumber of\M|how many (times|messages)' END $$;
CREATE TEMP TABLE shown AS
	SELECT c.relname, a.attnum, a.attname, pg_temp.unit(a.attname, a.atttypid) AS unit, col_description(c.oid, a.attnum) AS comment
	  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	 WHERE c.relnamespace = 'cmq'::regnamespace AND c.relkind IN ('v', 'c') AND c.relname NOT LIKE '\_%';
SELECT relname, count(*) > 0 AS columns_found FROM shown
 WHERE relname IN ('message', 'metrics', 'q_docs_a', 'q_docs_a_all', 'q_docs_a_history', 'q_docs_a_live', 'queues', 'rewinds', 'status', 'subscriptions', 't_docs_a', 'topics')
 GROUP BY relname ORDER BY relname;
SELECT relname, attname AS without_comment FROM shown WHERE comment IS NULL ORDER BY relname, attnum;
SELECT relname, attname AS without_unit, comment FROM shown WHERE comment !~ unit ORDER BY relname, attnum;
SELECT count(*) > 30 AS units_found FROM shown WHERE unit IS NOT NULL;
CREATE TEMP TABLE parameter AS
	SELECT p.oid::regprocedure AS function, a.name, pg_temp.unit(a.name, a.type) AS unit, obj_description(p.oid, 'pg_proc') AS comment
	  FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid,
		   unnest(p.proargtypes, p.proargnames[1:p.pronargs]) AS a (type, name)
	 WHERE e.extname = 'cmq' AND p.proname NOT LIKE '\_%'
	   AND (a.type = 'timestamptz'::regtype OR a.name ~ 'seconds|time|size|bytes|msg_id');
SELECT count(*) > 20 AS units_found FROM parameter WHERE unit IS NOT NULL;
SELECT function, name AS without_unit, comment FROM parameter
 WHERE comment !~ unit AND comment !~ 'units of cmq_create_queue' ORDER BY 1, 2;
SELECT cmq_drop_topic('docs_a');
SELECT cmq_drop_queue('docs_a');

--
-- How many relations the extension has in schema cmq, as docs/operations.md says in words
--
WITH has AS (
	SELECT count(*) FILTER (WHERE c.relkind = 'r') AS tables,
		   count(*) FILTER (WHERE c.relkind = 'v') AS views
	  FROM pg_class c
	  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
	  JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	 WHERE e.extname = 'cmq' AND c.relnamespace = 'cmq'::regnamespace
), words AS (
	SELECT '{one,two,three,four,five,six,seven,eight,nine,ten,eleven,twelve}'::text[] AS word
)
SELECT replace(:'readme', E'\n', ' ') LIKE '%four views for each queue, ' || word[tables] ||
	   ' tables of the extension''s own, and ' || word[views] || ' more views%' AS parts,
	   replace(:'readme', E'\n', ' ') LIKE '%20 queues with 15 days of history are ' || 20 * 4 + tables + views || ' relations%' AS all_of_them
  FROM has, words;
