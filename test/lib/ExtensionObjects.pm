package ExtensionObjects;

# What an extension has in a database, as text: each object with all that a script gives
# it.  Two databases with the same text have the same objects; no line has an OID.
#
#   extension_objects($node, 'cmq', 'a_database')     lines, in an order of their own
#   object_differences($node, 'cmq', 'one', 'other')  "-" and "+" lines; empty: the same

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw(extension_objects object_differences);

# Rights, in an order of their own.
my $rights = q{(SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(%s) a)};

sub rights { return sprintf $rights, $_[0]; }

# All members: what each is, who owns it, its comment.  Then what is in functions,
# relations and types.
my $query = q{
SET search_path = pg_catalog;
WITH member AS (
  SELECT d.classid, d.objid, pg_describe_object(d.classid, d.objid, 0) AS object
    FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
   WHERE e.extname = 'EXTENSION'
), relation AS (
  SELECT object, c.* FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND c.oid = objid
), line AS (
  SELECT object, 'is there' AS what FROM member
  UNION ALL SELECT object, 'comment ' || obj_description(objid, classid::regclass::text) FROM member
  UNION ALL SELECT object, 'rights at first ' || RIGHTS(initprivs) FROM member JOIN pg_init_privs i ON i.classoid = member.classid AND i.objoid = objid AND i.objsubid = 0
  UNION ALL SELECT object, 'identity ' || identity || ' ' || coalesce(type, '') FROM member, pg_identify_object(classid, objid, 0)
  UNION ALL SELECT object, 'schema of rights ' || RIGHTS(nspacl) FROM member JOIN pg_namespace n ON classid = 'pg_namespace'::regclass AND n.oid = objid

  UNION ALL SELECT object, 'function ' || CASE prokind WHEN 'a' THEN prosrc || pg_get_function_arguments(p.oid) ELSE pg_get_functiondef(p.oid) END
              || ' rights ' || coalesce(RIGHTS(proacl), 'of PUBLIC') || ' owner ' || proowner::regrole::text || coalesce(' library ' || probin, '')
       FROM member JOIN pg_proc p ON classid = 'pg_proc'::regclass AND p.oid = objid

  UNION ALL SELECT object, format('relation kind %s persistence %s options %s rights %s owner %s row security %s/%s replica %s',
              relkind, relpersistence, reloptions, RIGHTS(relacl), relowner::regrole, relrowsecurity, relforcerowsecurity, relreplident) FROM relation
  UNION ALL SELECT object, format('column %s %s %s not null %s default %s identity %s generated %s collation %s storage %s rights %s comment %s',
              row_number() OVER (PARTITION BY attrelid ORDER BY attnum), attname, format_type(atttypid, atttypmod), attnotnull,
              pg_get_expr(adbin, adrelid), attidentity, attgenerated, attcollation::regcollation, attstorage, RIGHTS(attacl), col_description(attrelid, attnum))
       FROM relation r JOIN pg_attribute a ON attrelid = r.oid AND attnum > 0 AND NOT attisdropped LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
  UNION ALL SELECT object, 'constraint ' || conname || ' ' || pg_get_constraintdef(k.oid) || ' valid ' || convalidated FROM relation r JOIN pg_constraint k ON conrelid = r.oid
  UNION ALL SELECT object, 'index ' || pg_get_indexdef(indexrelid) || ' valid ' || indisvalid FROM relation r JOIN pg_index i ON indrelid = r.oid
  UNION ALL SELECT object, 'trigger ' || pg_get_triggerdef(t.oid) || ' enabled ' || tgenabled::text FROM relation r JOIN pg_trigger t ON tgrelid = r.oid AND NOT tgisinternal
  UNION ALL SELECT object, 'rule ' || pg_get_ruledef(w.oid) || ' enabled ' || ev_enabled::text FROM relation r JOIN pg_rewrite w ON ev_class = r.oid
  UNION ALL SELECT object, 'policy ' || (to_jsonb(p) - '{oid,polrelid}'::text[])::text FROM relation r JOIN pg_policy p ON polrelid = r.oid
  UNION ALL SELECT object, 'sequence ' || (to_jsonb(s) - 'seqrelid' - 'seqtypid')::text || format_type(seqtypid, NULL) FROM relation r JOIN pg_sequence s ON seqrelid = r.oid
  UNION ALL SELECT object, 'dumped where ' || quote_literal(condition)
       FROM relation r JOIN (SELECT unnest(extconfig) AS oid, unnest(extcondition) AS condition FROM pg_extension WHERE extname = 'EXTENSION') d ON d.oid = r.oid

  UNION ALL SELECT object, format('type %s %s not null %s default %s rights %s owner %s', typtype, format_type(typbasetype, typtypmod), typnotnull, typdefault, RIGHTS(typacl), typowner::regrole)
       FROM member JOIN pg_type t ON classid = 'pg_type'::regclass AND t.oid = objid
  UNION ALL SELECT object, 'constraint ' || conname || ' ' || pg_get_constraintdef(k.oid) FROM member JOIN pg_constraint k ON classid = 'pg_type'::regclass AND contypid = objid
  UNION ALL SELECT object, 'label ' || row_number() OVER (PARTITION BY enumtypid ORDER BY enumsortorder) || ' ' || enumlabel
       FROM member JOIN pg_enum e ON classid = 'pg_type'::regclass AND enumtypid = objid
  UNION ALL SELECT object, 'event trigger ' || (to_jsonb(e) - '{oid,evtowner,evtfoid}'::text[])::text || evtfoid::regprocedure::text
       FROM member JOIN pg_event_trigger e ON classid = 'pg_event_trigger'::regclass AND e.oid = objid
)
SELECT object || ': ' || regexp_replace(what, '\n', '\\\\n', 'g') FROM line WHERE what IS NOT NULL ORDER BY 1;
};

sub extension_objects
{
	my ($node, $extension, $db) = @_;
	my $sql = $query =~ s/RIGHTS\((\w+)\)/rights($1)/ger =~ s/EXTENSION(?=')/$extension/gr;
	return split /\n/, $node->sql($sql, $db);
}

sub object_differences
{
	my ($node, $extension, $one, $other) = @_;
	my %count;

	$count{$_}-- for extension_objects($node, $extension, $one);
	$count{$_}++ for extension_objects($node, $extension, $other);
	return join "\n", map { ($count{$_} < 0 ? '-' : '+') . $_ } grep { $count{$_} } sort keys %count;
}

1;
