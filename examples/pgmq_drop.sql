-- Drop schema pgmq, and the extension, unless something outside depends on them.
--
-- A part of pgmq_move.sql and of pgmq_back.sql, in their transaction and search_path.

-- What others have made of pgmq's tables, types and functions would be dropped without a word.
DO $do$
DECLARE
	pgmq oid := 'pgmq'::regnamespace;
	things text;
BEGIN
	SELECT string_agg(DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid), ', ') INTO things
	  FROM pg_depend d
	  JOIN (SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace = pgmq
			 UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = pgmq
			 UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = pgmq
			 UNION ALL SELECT 'pg_extension'::regclass, oid FROM pg_extension WHERE extname = 'pgmq') p (class, oid)
		ON d.refclassid = p.class AND d.refobjid = p.oid
	 WHERE d.deptype = 'n'
	   -- of a class that is not here, such as another extension, it is something of others
	   AND pgmq IS DISTINCT FROM CASE d.classid
				   WHEN 'pg_class'::regclass THEN (SELECT relnamespace FROM pg_class WHERE oid = d.objid)
				   WHEN 'pg_rewrite'::regclass THEN (SELECT relnamespace FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class WHERE r.oid = d.objid)
				   WHEN 'pg_constraint'::regclass THEN (SELECT connamespace FROM pg_constraint WHERE oid = d.objid)
				   WHEN 'pg_trigger'::regclass THEN (SELECT relnamespace FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE t.oid = d.objid)
				   WHEN 'pg_policy'::regclass THEN (SELECT relnamespace FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE p.oid = d.objid)
				   WHEN 'pg_attrdef'::regclass THEN (SELECT relnamespace FROM pg_attrdef a JOIN pg_class c ON c.oid = a.adrelid WHERE a.oid = d.objid)
				   WHEN 'pg_type'::regclass THEN (SELECT typnamespace FROM pg_type WHERE oid = d.objid)
				   WHEN 'pg_proc'::regclass THEN (SELECT pronamespace FROM pg_proc WHERE oid = d.objid) END;
	IF things IS NOT NULL THEN
		RAISE EXCEPTION USING
			ERRCODE = 'dependent_objects_still_exist',
			MESSAGE = 'other schemas have things that depend on schema pgmq',
			DETAIL = things,
			HINT = 'They would be lost.  Drop them, and create them again afterwards.';
	END IF;
END $do$;
DROP EXTENSION IF EXISTS pgmq CASCADE;
DROP SCHEMA IF EXISTS pgmq CASCADE;
