# No operator, function or type in the schema that the extension is installed in gets
# into what the scripts and the functions make.  The owner of a database, who is no
# superuser, plants them before CREATE EXTENSION.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use File::Basename;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = CmqNode->configured('main');
$node->start;

# Each script looks names up in pg_catalog alone.  What it makes there it must
# name with a schema.
my %called;
my @scripts = glob("$top/sql/cmq--*.sql");
cmp_ok(scalar @scripts, '>', 0, 'there are scripts');
foreach my $file (@scripts)
{
	my $script = slurp_file($file);
	$script =~ s/^\s*--.*$//mg;
	$script =~ s{/\*.*?\*/}{}gs;
	$script =~ s/^\\echo.*$//mg;
	like($script, qr/\A\s*SET LOCAL search_path TO pg_catalog, pg_temp;/, basename($file) . ' begins with a path of its own');
	my @unqualified = grep { !/^(cmq\.|cmq_data\.|\@extschema\@\.)/ } $script =~ /^CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|VIEW|TABLE|TYPE|OPERATOR|AGGREGATE|SEQUENCE)\s+(\S+)/mg;
	is("@unqualified", '', '... and names what it makes with a schema');
	$called{$_} = 1 foreach $script =~ /\b([a-z_]\w*)\s*\(/g;
}
# also what the views of a queue and of a topic call
$called{$_} = 1 foreach qw(now max min count coalesce array_agg current_setting format);
my $names = join ',', sort grep { !/^cmq_/ } keys %called;

my $plant = <<"SQL";
CREATE FUNCTION public.become_superuser() RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
		EXECUTE 'ALTER ROLE dbowner SUPERUSER';
	END IF;
END \$\$;
DO \$\$
DECLARE
	types text[] := '{oid,regclass,regnamespace,regrole,regproc,name,text,varchar,bpchar,"\\"char\\"",int2,int4,int8,numeric,float8,bool,timestamptz,timestamp,interval,jsonb,json,bytea,inet,xid,text[],int8[]}';
	l text;
	r text;
	op text;
	n int := 0;
BEGIN
	FOREACH l IN ARRAY types LOOP
		FOREACH r IN ARRAY types LOOP
			FOREACH op IN ARRAY '{=,<>,<,<=,>,>=,||,+,-,@>}'::text[] LOOP
				n := n + 1;
				EXECUTE pg_catalog.format('CREATE FUNCTION public.planted_%s(%s, %s) RETURNS %s LANGUAGE plpgsql AS \$f\$ BEGIN PERFORM public.become_superuser(); RETURN NULL; END \$f\$',
					n, l, r, CASE WHEN op IN ('||', '+', '-') THEN 'text' ELSE 'boolean' END);
				EXECUTE pg_catalog.format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.planted_%s)', op, l, r, n);
			END LOOP;
		END LOOP;
	END LOOP;
END \$\$;
-- the functions that the scripts call: with exactly the arguments of the server's,
-- and with others, which are nearer to what some caller has
DO \$\$
DECLARE
	f record;
	t text;
	n int := 0;
BEGIN
	FOR f IN SELECT DISTINCT proname, pronargs, pg_catalog.pg_get_function_identity_arguments(oid) AS args
			   FROM pg_catalog.pg_proc
			  WHERE pronamespace::oid OPERATOR(pg_catalog.=) 'pg_catalog'::regnamespace::oid
				AND proname::text OPERATOR(pg_catalog.=) ANY (pg_catalog.string_to_array('$names', ','))
				AND pronargs::int BETWEEN 0 AND 4 LOOP
		FOREACH t IN ARRAY '{exact,oid,regclass,regrole,name,text,varchar,int4,int8,timestamptz,anyelement}'::text[] LOOP
			CONTINUE WHEN f.pronargs::int OPERATOR(pg_catalog.=) 0 AND t OPERATOR(pg_catalog.<>) 'exact';
			BEGIN
				EXECUTE pg_catalog.format('CREATE FUNCTION public.%I(%s) RETURNS boolean LANGUAGE plpgsql AS \$f\$ BEGIN PERFORM public.become_superuser(); RETURN true; END \$f\$',
					f.proname, CASE WHEN t OPERATOR(pg_catalog.=) 'exact' THEN f.args ELSE pg_catalog.array_to_string(pg_catalog.array_fill(t, ARRAY[f.pronargs::int]), ', ') END);
				n := n OPERATOR(pg_catalog.+) 1;
			-- arguments that only the server's own functions may have
			EXCEPTION WHEN duplicate_function OR invalid_function_definition OR feature_not_supported OR syntax_error THEN NULL;
			END;
		END LOOP;
	END LOOP;
	IF n OPERATOR(pg_catalog.<) 20 THEN
		RAISE EXCEPTION 'only % functions are planted', n;
	END IF;
END \$\$;
-- what the scripts give has_table_privilege() and pg_has_role(), and its neighbours
DO \$\$
DECLARE
	name text;
	first text;
BEGIN
	FOREACH name IN ARRAY '{has_table_privilege,pg_has_role}'::text[] LOOP
		FOREACH first IN ARRAY '{oid,regclass,regrole,text,name}'::text[] LOOP
			EXECUTE pg_catalog.format('CREATE OR REPLACE FUNCTION public.%I(%s, text) RETURNS boolean LANGUAGE plpgsql AS \$f\$ BEGIN PERFORM public.become_superuser(); RETURN true; END \$f\$', name, first);
			EXECUTE pg_catalog.format('CREATE OR REPLACE FUNCTION public.%I(%s, varchar) RETURNS boolean LANGUAGE plpgsql AS \$f\$ BEGIN PERFORM public.become_superuser(); RETURN true; END \$f\$', name, first);
		END LOOP;
	END LOOP;
END \$\$;
DO \$\$
DECLARE
	t text;
BEGIN
	FOREACH t IN ARRAY '{text,int4,int8,bool,timestamptz,interval,jsonb,regclass,regnamespace,oid,name}'::text[] LOOP
		EXECUTE pg_catalog.format('CREATE DOMAIN public.%I AS pg_catalog.%I', t, CASE t WHEN 'text' THEN 'bytea' ELSE 'text' END);
	END LOOP;
END \$\$;
CREATE TABLE public.pg_class (oid pg_catalog.int4);
CREATE TABLE public.pg_roles (oid pg_catalog.int4);
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
member (classid, objid) AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' WHERE e.extname = 'cmq'),
planted (classid, oid, what) AS (
	SELECT 'pg_proc'::regclass, oid, 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace
	UNION ALL SELECT 'pg_operator'::regclass, oid, 'operator ' || oid::regoperator FROM pg_operator WHERE oprnamespace = 'public'::regnamespace
	UNION ALL SELECT 'pg_type'::regclass, oid, 'type ' || oid::regtype FROM pg_type WHERE typnamespace = 'public'::regnamespace
	UNION ALL SELECT 'pg_collation'::regclass, oid, 'collation ' || collname FROM pg_collation WHERE collnamespace = 'public'::regnamespace
	UNION ALL SELECT 'pg_class'::regclass, oid, 'relation ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace),
others (classid, oid, what) AS (
	SELECT * FROM planted WHERE (classid, oid) NOT IN (SELECT classid, objid FROM member)),
relations (oid) AS (
	SELECT objid FROM mine WHERE classid = 'pg_class'::regclass),
expression (what, tree) AS (
	SELECT ev_class::regclass::text, ev_action::text || ev_qual::text FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM relations)
	UNION ALL SELECT adrelid::regclass::text, adbin::text FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM relations)
	UNION ALL SELECT indexrelid::regclass::text, concat(indexprs::text, indpred::text) FROM pg_index WHERE indrelid IN (SELECT oid FROM relations)
	UNION ALL SELECT partrelid::regclass::text, partexprs::text FROM pg_partitioned_table WHERE partrelid IN (SELECT oid FROM relations)
	UNION ALL SELECT conname, conbin::text FROM pg_constraint WHERE conrelid IN (SELECT oid FROM relations)
	UNION ALL SELECT tgname, tgqual::text FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM relations)
	UNION ALL SELECT p.oid::regprocedure::text, concat(proargdefaults::text, prosqlbody::text) FROM pg_proc p WHERE oid IN (SELECT objid FROM mine WHERE classid = 'pg_proc'::regclass))
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' depends on ' || p.what
  FROM mine m JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid JOIN others p ON p.classid = d.refclassid AND p.oid = d.refobjid
UNION
SELECT e.what || ' has ' || p.what
  FROM expression e, regexp_matches(e.tree, ':(opno|opfuncid|funcid|aggfnoid|winfnoid|eqop|sortop|inputcollid|constcollid|collation|opresulttype|funcresulttype|resulttype|consttype|vartype|aggtype|relid) (\d+)', 'g') m
  JOIN others p ON p.oid = m[2]::oid
UNION
SELECT a.attrelid::regclass || '.' || attname || ' has ' || p.what FROM pg_attribute a JOIN others p ON p.oid IN (a.atttypid, a.attcollation)
 WHERE a.attrelid IN (SELECT oid FROM relations)
UNION
SELECT f.oid::regprocedure || ' has ' || p.what FROM pg_proc f JOIN others p ON p.classid = 'pg_type'::regclass AND (p.oid = f.prorettype OR p.oid = ANY (f.proargtypes) OR p.oid = ANY (f.proallargtypes))
 WHERE f.oid IN (SELECT objid FROM mine WHERE classid = 'pg_proc'::regclass)
SQL

# Has the owner of the database become superuser since the last look?
sub is_superuser
{
	return $node->sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'dbowner'; ALTER ROLE dbowner NOSUPERUSER});
}

$node->sql('CREATE ROLE dbowner LOGIN; CREATE ROLE queueowner');

# Into public, into a schema whose name must be quoted, and into a database whose
# owner has put the schema before pg_catalog for everybody.
foreach my $case ([ 'shop', 'public', 0 ], [ 'odd', '"Odd schema"', 0 ], [ 'path', 'public', 1 ])
{
	my ($db, $schema, $path) = @$case;
	$node->sql("CREATE DATABASE $db OWNER dbowner");
	$node->safe_psql($db, "CREATE SCHEMA $schema AUTHORIZATION dbowner", extra_params => [ '-U', 'dbowner' ]) if $schema ne 'public';
	(my $here = $plant) =~ s/public\./$schema./g;
	$node->safe_psql($db, $here, extra_params => [ '-U', 'dbowner' ]);
	$node->safe_psql($db, "ALTER DATABASE $db SET search_path = $schema, pg_catalog", extra_params => [ '-U', 'dbowner' ]) if $path;
	cmp_ok($node->sql("SELECT pg_catalog.count(*) FROM pg_catalog.pg_operator WHERE oprnamespace OPERATOR(pg_catalog.=) '$schema'::pg_catalog.regnamespace::pg_catalog.oid", $db),
		'>', 6000, "database $db: operators stand in schema $schema");
	$node->sql("CREATE EXTENSION cmq SCHEMA $schema", $db);
	is(is_superuser(), 'f', '... the script runs none of it');
	$node->sql("GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO queueowner; GRANT USAGE ON SCHEMA $schema TO queueowner", $db);
	# a role that owns a queue, and a superuser who does
	foreach my $role ('queueowner', 'DEFAULT')
	{
		my $n = $role eq 'queueowner' ? 1 : 2;
		$node->sql("SET SESSION AUTHORIZATION $role;
			SELECT $schema.cmq_create_queue('dead$n');
			SELECT $schema.cmq_create_queue('orders$n', rewind_seconds => 3600, dead_letter_queue => 'dead$n', max_receive_count => 2);
			SELECT $schema.cmq_create_topic('news$n');
			SELECT $schema.cmq_create_topic('keys$n', 'routing');
			SELECT $schema.cmq_subscribe('news$n', 's', 'orders$n', ARRAY['a']);
			SELECT $schema.cmq_publish('news$n', 'm', ARRAY['a']);
			SELECT $schema.cmq_send('orders$n', 'm', headers => '{\"a\": 1}');
			SELECT $schema.cmq_send('dead$n', 'back', headers => '{\"cmq_dead_letter\": {\"queue\": \"orders$n\"}}');
			SELECT $schema.cmq_redrive('dead$n');
			SELECT $schema.cmq_delete('orders$n', receipt_handle) FROM $schema.cmq_receive('orders$n', 3);
			SELECT $schema.cmq_alter_queue('orders$n', visibility_timeout => 31, rewind_seconds => 3601)", $db);
		is($node->sql("SELECT pg_catalog.count(*) FROM cmq.q_orders${n}_history", $db), 3, "... a queue of role $role works");
		(my $look = $captured) =~ s/'public'::regnamespace/'$schema'::regnamespace/g;
		is($node->sql($look, $db), '', '... nothing is captured');
		# monitoring, psql's completion, anybody
		$node->sql(qq{
			SELECT pg_catalog.count(*) FROM cmq.queues; SELECT pg_catalog.count(*) FROM cmq.topics; SELECT pg_catalog.count(*) FROM cmq.subscriptions;
			SELECT pg_catalog.count(*) FROM cmq.metrics; SELECT pg_catalog.count(*) FROM cmq.status; SELECT pg_catalog.count(*) FROM cmq.q_orders${n}_all; SELECT pg_catalog.count(*) FROM cmq.t_news$n;
			SELECT $schema.cmq_queue_attributes('orders$n'); SELECT $schema.cmq_maintain();
			SELECT $schema.cmq_restore('orders$n', '-infinity');
			SELECT $schema.cmq_delete('orders$n', receipt_handle) FROM $schema.cmq_receive('orders$n', 1);
			SELECT $schema.cmq_rewind('orders$n', earliest_rewind_time) FROM $schema.cmq_queue_attributes('orders$n');
			SELECT pg_catalog.count(*) FROM cmq.rewinds; SELECT $schema.cmq_maintain(); SELECT $schema.cmq_clear_queue('orders$n')}, $db);
		is(is_superuser(), 'f', '... nobody who looks runs any of it');
	}
	foreach my $n (1, 2)
	{
		$node->sql("SELECT $schema.cmq_unsubscribe('news$n', 's'); SELECT $schema.cmq_drop_topic('news$n'); SELECT $schema.cmq_drop_topic('keys$n');
			SELECT $schema.cmq_drop_queue('orders$n'); SELECT $schema.cmq_drop_queue('dead$n')", $db);
	}
	is(is_superuser(), 'f', '... and nobody who drops');
	# it would be seen: a superuser who does run some of it, by the path or by its name
	$node->sql('SELECT 1 ' . ($path ? '=' : "OPERATOR($schema.=)") . ' 1', $db);
	is(is_superuser(), 't', '... while what is run does what it is made for');
}

# the look finds what is there to be found
sub finds
{
	my ($make, $what) = @_;
	$node->sql($make, 'shop');
	return like($node->sql($captured, 'shop'), $what, "the look finds $what");
}
finds(q{CREATE VIEW cmq.q_trap AS SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(public.=) 'cmq'::pg_catalog.regnamespace},
	qr/operator public\.=\(oid,regnamespace\)/);
finds(q{CREATE TABLE cmq_data.trap (a pg_catalog.int4 DEFAULT (public.lower('A'::pg_catalog.text)::pg_catalog.int4))}, qr/cmq_data\.trap has function public\.lower\(text\)/);
finds(q{CREATE TABLE cmq_data.trap2 (a public.timestamptz)}, qr/trap2\.a has type public\.timestamptz/);
$node->stop;
done_testing();
