# Whatever stands in the schema that the extension is installed in: no operator,
# function or type of it gets into what the scripts and the functions make.  The
# owner of a database, who is no superuser, plants them before CREATE EXTENSION.

use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\ncmq.maintenance_interval = '1h'\nfsync = off\n");
$node->start;

# Each script looks names up in pg_catalog alone.  What it makes there it must
# name with a schema.
foreach my $file (glob(dirname(__FILE__) . '/../../sql/cmq--*.sql'))
{
	my $script = PostgreSQL::Test::Utils::slurp_file($file);
	$script =~ s/^\s*--.*$//mg;
	$script =~ s{/\*.*?\*/}{}gs;
	$script =~ s/^\\echo.*$//mg;
	like($script, qr/\A\s*SET LOCAL search_path TO pg_catalog, pg_temp;/, basename($file) . ' begins with a path of its own');
	my @unqualified = grep { !/^(cmq\.|cmq_data\.|\@extschema\@\.)/ } $script =~ /^CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|VIEW|TABLE|TYPE|OPERATOR|AGGREGATE|SEQUENCE)\s+(\S+)/mg;
	is("@unqualified", '', '... and names what it makes with a schema');
}

my $plant = <<'SQL';
CREATE TABLE public.become (times int);
CREATE FUNCTION public.become_superuser() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
		EXECUTE 'ALTER ROLE dbowner SUPERUSER';
	END IF;
END $$;
DO $$
DECLARE
	types text[] := '{oid,regclass,regnamespace,regrole,regproc,name,text,varchar,bpchar,"\"char\"",int2,int4,int8,numeric,float8,bool,timestamptz,timestamp,interval,jsonb,json,bytea,inet,xid,text[],int8[]}';
	l text;
	r text;
	op text;
	n int := 0;
BEGIN
	FOREACH l IN ARRAY types LOOP
		FOREACH r IN ARRAY types LOOP
			FOREACH op IN ARRAY '{=,<>,<,<=,>,>=,||,+,-,@>}'::text[] LOOP
				n := n + 1;
				EXECUTE pg_catalog.format('CREATE FUNCTION public.planted_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.become_superuser(); RETURN NULL; END $f$',
					n, l, r, CASE WHEN op IN ('||', '+', '-') THEN 'text' ELSE 'boolean' END);
				EXECUTE pg_catalog.format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.planted_%s)', op, l, r, n);
			END LOOP;
		END LOOP;
	END LOOP;
END $$;
-- functions that the scripts and the views call, for exactly their types
DO $$
DECLARE
	f record;
	t text;
BEGIN
	FOR f IN SELECT DISTINCT p.proname, p.pronargs FROM pg_catalog.pg_proc p WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::regnamespace::oid
		AND p.proname IN ('has_table_privilege', 'pg_has_role', 'pg_get_userbyid', 'lower', 'pg_extension_config_dump', 'now', 'max', 'current_setting', 'coalesce')
		AND p.pronargs IN (1, 2, 3) LOOP
		FOREACH t IN ARRAY '{oid,regclass,name,text,unknown_}'::text[] LOOP
			BEGIN
				EXECUTE pg_catalog.format('CREATE FUNCTION public.%I(%s) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.become_superuser(); RETURN true; END $f$',
					f.proname, pg_catalog.array_to_string(pg_catalog.array_fill(CASE t WHEN 'unknown_' THEN 'anyelement' ELSE t END, ARRAY[f.pronargs::int]), ', '));
			EXCEPTION WHEN duplicate_function THEN NULL;
			END;
		END LOOP;
	END LOOP;
END $$;
CREATE FUNCTION public.has_table_privilege(oid, text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.become_superuser(); RETURN true; END $f$;
CREATE FUNCTION public.pg_has_role(oid, text) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM public.become_superuser(); RETURN true; END $f$;
CREATE DOMAIN public.timestamptz AS pg_catalog.text;
CREATE DOMAIN public.jsonb AS pg_catalog.text;
CREATE DOMAIN public.regclass AS pg_catalog.text;
CREATE DOMAIN public.oid AS pg_catalog.text;
CREATE TABLE public.pg_class (oid pg_catalog.int4);
CREATE COLLATION public."C" FROM pg_catalog."POSIX";
SQL

# Everything that is cmq's, or a queue's, and what it depends on outside of
# pg_catalog, the extension and its schemas; and OIDs of planted things anywhere
# in stored expressions.
my $captured = <<'SQL';
SET search_path = pg_catalog;
WITH RECURSIVE mine (classid, objid) AS (
	SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_data'::regnamespace)
	UNION SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' WHERE e.extname = 'cmq'
	UNION SELECT d.classid, d.objid FROM pg_depend d JOIN mine m ON d.refclassid = m.classid AND d.refobjid = m.objid WHERE d.deptype IN ('i', 'a', 'n', 'I')),
planted (oid, what) AS (
	SELECT oid, 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname !~ '^cmq_'
	UNION ALL SELECT oid, 'operator ' || oid::regoperator FROM pg_operator WHERE oprnamespace = 'public'::regnamespace
	UNION ALL SELECT oid, 'type ' || oid::regtype FROM pg_type WHERE typnamespace = 'public'::regnamespace
	UNION ALL SELECT oid, 'collation ' || collname FROM pg_collation WHERE collnamespace = 'public'::regnamespace
	UNION ALL SELECT oid, 'relation ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace),
expression (what, tree) AS (
	SELECT ev_class::regclass::text, ev_action::text FROM pg_rewrite WHERE ev_class IN (SELECT objid FROM mine WHERE classid = 'pg_class'::regclass)
	UNION ALL SELECT adrelid::regclass::text, adbin::text FROM pg_attrdef WHERE adrelid IN (SELECT objid FROM mine WHERE classid = 'pg_class'::regclass)
	UNION ALL SELECT indexrelid::regclass::text, indexprs::text || coalesce(indpred::text, '') FROM pg_index WHERE indrelid IN (SELECT objid FROM mine WHERE classid = 'pg_class'::regclass) AND indexprs IS NOT NULL
	UNION ALL SELECT conname, conbin::text FROM pg_constraint WHERE conrelid IN (SELECT objid FROM mine WHERE classid = 'pg_class'::regclass) AND conbin IS NOT NULL
	UNION ALL SELECT oid::regprocedure::text, proargdefaults::text FROM pg_proc WHERE oid IN (SELECT objid FROM mine WHERE classid = 'pg_proc'::regclass) AND proargdefaults IS NOT NULL)
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' depends on ' || p.what
  FROM mine m JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid JOIN planted p ON p.oid = d.refobjid
UNION
SELECT e.what || ' has ' || p.what
  FROM expression e, regexp_matches(e.tree, ':(?:opno|opfuncid|funcid|inputcollid|constcollid|opresulttype|funcresulttype|resulttype|consttype|vartype) (\d+)', 'g') m
  JOIN planted p ON p.oid = m[1]::oid
UNION
SELECT a.attrelid::regclass || '.' || attname || ' has ' || p.what FROM pg_attribute a JOIN planted p ON p.oid IN (a.atttypid, a.attcollation)
 WHERE a.attrelid IN (SELECT objid FROM mine WHERE classid = 'pg_class'::regclass)
UNION
SELECT f.oid::regprocedure || ' has ' || p.what FROM pg_proc f JOIN planted p ON p.oid = f.prorettype OR p.oid = ANY (f.proargtypes) OR p.oid = ANY (f.proallargtypes)
 WHERE f.oid IN (SELECT objid FROM mine WHERE classid = 'pg_proc'::regclass)
SQL

$node->safe_psql('postgres', 'CREATE ROLE dbowner LOGIN; CREATE ROLE queueowner');
foreach my $schema ('public', '"Odd schema"')
{
	my $db = $schema eq 'public' ? 'shop' : 'odd';
	$node->safe_psql('postgres', "CREATE DATABASE $db OWNER dbowner");
	$node->safe_psql($db, "CREATE SCHEMA $schema AUTHORIZATION dbowner", extra_params => [ '-U', 'dbowner' ]) if $schema ne 'public';
	(my $here = $plant) =~ s/public\./$schema./g;
	$node->safe_psql($db, $here, extra_params => [ '-U', 'dbowner' ]);
	cmp_ok($node->safe_psql($db, "SELECT count(*) FROM pg_catalog.pg_operator WHERE oprnamespace OPERATOR(pg_catalog.=) '$schema'::pg_catalog.regnamespace::pg_catalog.oid"),
		'>', 6000, "operators stand in schema $schema");
	$node->safe_psql($db, "CREATE EXTENSION cmq SCHEMA $schema;
		GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO queueowner;
		GRANT USAGE ON SCHEMA $schema TO queueowner;
		SET ROLE queueowner;
		SELECT $schema.cmq_create_queue('orders', rewind_seconds => 3600);
		SELECT $schema.cmq_create_topic('news');
		SELECT $schema.cmq_subscribe('news', 'orders', 'orders');
		SELECT $schema.cmq_publish('news', 'm');
		SELECT $schema.cmq_send('orders', 'm');
		SELECT $schema.cmq_delete('orders', receipt_handle) FROM $schema.cmq_receive('orders', 2)");
	(my $look = $captured) =~ s/'public'::regnamespace/'$schema'::regnamespace/g;
	is($node->safe_psql($db, $look), '', 'nothing is captured');
	# monitoring, psql's completion, anybody
	$node->safe_psql($db, qq{
		SELECT pg_catalog.count(*) FROM cmq.queues; SELECT pg_catalog.count(*) FROM cmq.topics; SELECT pg_catalog.count(*) FROM cmq.subscriptions;
		SELECT pg_catalog.count(*) FROM cmq.rewinds; SELECT pg_catalog.count(*) FROM cmq.metrics; SELECT pg_catalog.count(*) FROM cmq.q_orders_all;
		SELECT pg_catalog.count(*) FROM cmq.t_news; SELECT $schema.cmq_maintain(); SELECT $schema.cmq_rewind('orders', pg_catalog.now() OPERATOR(pg_catalog.-) '1 min'::pg_catalog.interval);
		SELECT $schema.cmq_drop_queue('orders')});
	is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'dbowner'}), 'f', 'the owner of the database is no superuser');
}
# the look finds what is there to be found
$node->safe_psql('shop', q{CREATE VIEW cmq.q_trap AS SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(public.=) 'cmq'::pg_catalog.regnamespace});
like($node->safe_psql('shop', $captured), qr/operator/, 'the look finds a captured operator');
$node->stop;
done_testing();
