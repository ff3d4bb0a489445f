
# Queues of one name on three nodes: what cmq_cluster does on all of them or on none, and what
# it shows.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqCluster;
use CmqNode;
use PostgreSQL::Test::Utils qw(run_command);
use Test::More;

my $cluster = CmqCluster->new(3);
my $front = $cluster->{front};
my @nodes = map { $cluster->node($_) } 1 .. 3;

# What psql says of an error: SQLSTATE, message, DETAIL and HINT.
sub error_of
{
	my ($sql, %options) = @_;
	my $said = $front->complaint("\\set VERBOSITY verbose\n\\set SHOW_CONTEXT never\nSET client_min_messages = warning;\n"
		. ($options{role} ? "SET SESSION AUTHORIZATION $options{role};\n" : '') . $sql);
	$said =~ s/^psql:<stdin>:\d+: //mg;
	$said =~ s/^LOCATION: .*\n?//mg;
	return $said;
}

# A test: the call is refused.  Then one that nothing has happened anywhere, for all calls
# that were refused since remember().
my $known;

sub remember { $known = contents(); return; }

sub refused
{
	my ($sql, $pattern, $name, %options) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return like(error_of($sql, %options), $pattern, "refused: $name");
}

sub nothing_has_happened
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(contents(), $known, '... and nothing has happened');
}

# All that management could change on the nodes and on the front.
sub contents
{
	return $cluster->sql_on_all(q{
		SELECT * FROM cmq.queues ORDER BY queue;
		SELECT * FROM cmq.topics ORDER BY topic;
		SELECT * FROM cmq.subscriptions ORDER BY topic, subscription;
		SELECT count(*) FROM cmq.rewinds;
		SELECT queue, sent, deleted, rewound, left_of_rewind, pending_msg_num FROM cmq.metrics ORDER BY queue;
		SELECT oid::regclass, relacl FROM pg_class WHERE relnamespace IN ('cmq'::regnamespace, 'cmq_node'::regnamespace) ORDER BY oid;
		SELECT gid FROM pg_prepared_xacts}) . $front->sql(q{
		SELECT * FROM cmq_cluster.queue ORDER BY 1; SELECT * FROM cmq_cluster.place ORDER BY 1, 2; SELECT * FROM cmq_cluster.topic ORDER BY 1;
		SELECT oid::regclass, relacl FROM pg_class WHERE relnamespace = 'cmq_cluster'::regnamespace AND relkind IN ('r', 'v', 'p', 'f') ORDER BY oid;
		SELECT * FROM cmq_cluster.decision; SELECT node, accepts FROM cmq_cluster.node ORDER BY 1});
}

#
# The same arguments and columns as cmq has
#

# cmq's functions that the cluster has, too, and the rest: what a client calls on a node.
my @of_cluster = qw(alter_queue cancel_rewind clear_queue create_queue create_topic drop_queue drop_topic pause_queue queue_attributes restore restore_messages
  resume_queue rewind rewind_preview subscribe unbind_dead_letter unsubscribe);
my @of_nodes = qw(change_visibility change_visibility_batch consume delete delete_batch delete_messages history maintain message messages publish publish_batch receive receive_messages redrive release replay
  send send_batch timeline);

is($nodes[0]->sql(q{SELECT string_agg(DISTINCT substr(p.proname, 5), ' ' ORDER BY substr(p.proname, 5)) FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'cmq' WHERE p.proname LIKE 'cmq\_%'}), join(' ', sort @of_cluster, @of_nodes), 'which functions of cmq the cluster has is decided for each');

# name type DEFAULT .. of what goes in; what comes out.
sub arguments
{
	my ($server, $function) = @_;
	my ($arguments, $result) = split /\|/, $server->sql("SELECT pg_get_function_arguments('$function'::regproc), pg_get_function_result('$function'::regproc)");
	my @all = split /, (?=[\w ]+)/, $arguments;
	my @in = map { s/^IN //r } grep { !/^(OUT|INOUT) / } @all;
	my ($inout) = map { /^INOUT \w+ (\S.*?)( DEFAULT .*)?$/ ? $1 : () } @all;
	return (join("\n", @in), $inout // $result // '');
}

foreach my $function (@of_cluster)
{
	my ($there, $result) = arguments($nodes[0], "cmq_$function");
	my ($here, $out) = arguments($front, "cmq_cluster.$function");
	$here =~ s/\nnodes integer\[\] DEFAULT NULL::integer\[\]$// if $function eq 'create_queue';
	is($here, $there, "$function has the arguments of cmq_$function");
	$result =~ s/^SETOF (.*)/$1\[]/;
	is($out, $result eq 'void' ? '' : $result, '... and its result') unless $function =~ /^(queue_attributes|rewind_preview)$/;
}

sub columns
{
	my ($server, $function) = @_;
	return $server->sql(qq{SELECT a.name, a.type::regtype FROM pg_proc p, unnest(p.proargnames, p.proallargtypes, p.proargmodes) WITH ORDINALITY a(name, type, mode, i)
		WHERE p.oid = '$function'::regproc AND a.mode IN ('o', 't') ORDER BY a.i});
}

sub attributes
{
	my ($server, $relation) = @_;
	return $server->sql("SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = '$relation'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum");
}

$front->sql(q{CALL cmq_cluster.create_queue('q', rewind_seconds => 3600)});
is(columns($front, "cmq_cluster.$_"), "node|integer\nerror|text\n" . columns($nodes[0], "cmq_$_"), "$_ has the columns of cmq_$_") foreach qw(queue_attributes rewind_preview);
is(attributes($front, "cmq_cluster.$_"), "node|integer\nerror|text\n" . attributes($nodes[0], "cmq.$_"), "$_ has the columns of cmq.$_") foreach qw(status metrics rewinds);
is(attributes($front, "cmq_cluster.$_"), "node|integer\n" . attributes($nodes[0], "cmq.$_"), "$_ has the columns of cmq.$_") foreach map { "q_q_$_" } qw(live history all);

#
# Each of them, with odd names and odd texts
#

my $odd = q{it's \\ "x" $$ %s %I; --};
$cluster->sql_on_all(q{CREATE ROLE "Joe's ""x"" \\ $$"});
$front->sql(q{
	CALL cmq_cluster.create_queue('Order-Items', visibility_timeout => 41, polling_wait_seconds => 2, msg_retention_seconds => 86400, rewind_seconds => 3600, max_msg_size => 5000,
		max_msg_heap_num => 1000, dead_letter_queue => 'q', max_receive_count => 5, retry_backoff_seconds => 3, retry_backoff_max_seconds => 44, rewind_share => 50);
	CALL cmq_cluster.create_queue('Ordered-1', ordered => true, dedup_seconds => 60, rewind_seconds => 3600)});
is($cluster->sql_on_all(q{SELECT visibility_timeout, polling_wait_seconds, msg_retention_seconds, rewind_seconds, max_msg_size, max_msg_heap_num, dead_letter_queue,
	max_receive_count, retry_backoff_seconds, retry_backoff_max_seconds, rewind_share FROM cmq.queues WHERE queue = 'Order-Items'; SELECT ordered, dedup_seconds FROM cmq.queues WHERE queue = 'Ordered-1'}),
	join("\n", ("41|2|86400|3600|5000|1000|q|5|3|44|50\nt|60") x 3), 'create_queue takes each setting to all nodes');
$front->sql(q{
	CALL cmq_cluster.alter_queue('Order-Items', visibility_timeout => 42, max_time_to_live => 3000, rewind_share => 60);
	CALL cmq_cluster.unbind_dead_letter('Order-Items')});
is($cluster->sql_on_all(q{SELECT visibility_timeout, polling_wait_seconds, rewind_share, dead_letter_queue FROM cmq.queues WHERE queue = 'Order-Items'}), join("\n", ('42|2|60|') x 3), 'alter_queue and unbind_dead_letter');
$front->sql(qq{
	CALL cmq_cluster.create_topic('T-1'); CALL cmq_cluster.create_topic('keys', filter_type => 'routing');
	CALL cmq_cluster.subscribe('T-1', 'S-1', 'Order-Items', filter_tags => ARRAY['it''s', 'a,b', '"', '\\', 'NULL']);
	CALL cmq_cluster.subscribe('keys', 's', 'q', binding_keys => ARRAY['a.*.b', 'a.#']);
	CALL cmq_cluster.subscribe('keys', 'gone', 'q', binding_keys => ARRAY['x'])});
is($cluster->sql_on_all(q{SELECT topic, subscription, filter_tags, binding_keys FROM cmq.subscriptions ORDER BY 1, 2}),
	join("\n", (qq{T-1|S-1|{it's,"a,b","\\"","\\\\","NULL"}|\nkeys|gone||{x}\nkeys|s||{a.*.b,a.#}}) x 3), 'topics and subscriptions');
$front->sql(q{CALL cmq_cluster.unsubscribe('keys', 'gone'); CALL cmq_cluster.create_topic('gone'); CALL cmq_cluster.drop_topic('gone')});
is($cluster->sql_on_all('SELECT count(*) FROM cmq.topics, cmq.subscriptions'), "4\n4\n4", 'unsubscribe and drop_topic');

$cluster->sql_on_all(q{
	SELECT FROM cmq_send_batch('Order-Items', ARRAY['a', 'b', 'c', 'd']); SELECT FROM cmq_consume('Order-Items', 3);
	SELECT FROM cmq_send_batch('Ordered-1', ARRAY['o', 'p'], message_groups => ARRAY['g', 'g']); SELECT FROM cmq_consume('Ordered-1'); SELECT FROM cmq_send('q', 'x')});
is($front->sql(qq{SET cmq.reason = '$odd'} =~ s/it's/it''s/r . q{;
	CALL cmq_cluster.pause_queue('q', E'it''s \\\\ "x" $$');
	CALL cmq_cluster.pause_queue('q');
	CALL cmq_cluster.resume_queue('q');
	CALL cmq_cluster.resume_queue('q');
	CALL cmq_cluster.restore('Order-Items', now() - interval '10 min', now() + interval '10 min', expected_count => 9);
	CALL cmq_cluster.cancel_rewind('Order-Items')}), "t\nf\nt\nf\n9\nf", 'pause, resume, restore and cancel_rewind say what cmq says');
is($cluster->sql_on_all(q{SELECT kind, reason, messages FROM cmq.rewinds WHERE kind IN ('restore', 'pause', 'resume') ORDER BY id}) =~ s/^(pause|resume).*\n?//mgr,
	join("\n", ("restore|$odd|3") x 3), 'cmq.reason comes along');
$cluster->sql_on_all(q{SELECT FROM cmq_consume('Order-Items', 4)});
my ($first_start, $first) = split /\|/, $front->sql(q{SELECT min(enqueued_at), (array_agg(msg_id ORDER BY msg_id) FILTER (WHERE body = 'b'))::text FROM cmq_cluster."q_Order-Items_history"});
is($front->sql("CALL cmq_cluster.restore_messages('Order-Items', '$first'); CALL cmq_cluster.restore_messages('Order-Items', '{}')"), "$first\n{}", 'restore_messages, each where its id says');
is($cluster->sql_on_all(q{SELECT body FROM cmq_consume('Order-Items', 4)}), "b\nb\nb", '... brings back one on each node');
is($front->sql("CALL cmq_cluster.rewind('Order-Items', '$first_start')"), $first_start, 'rewind says from when');
is($front->sql(q{CALL cmq_cluster.cancel_rewind('Order-Items')}), 't', '... and is cancelled');
is($front->sql(q{SELECT node, messages, error FROM cmq_cluster.rewind_preview('Order-Items', now() - interval '1 min', filter => '{"it''s": "\\\\ $$"}')}), "1|0|\n2|0|\n3|0|\n|0|", 'rewind_preview with a filter');
is($front->sql(q{SELECT node, messages, body_bytes FROM cmq_cluster.rewind_preview('Order-Items', now() - interval '1 min')}), "1|4|4\n2|4|4\n3|4|4\n|12|12", '... and without');
is($front->sql(q{CALL cmq_cluster.clear_queue('q')}), 3, 'clear_queue says how many');
is($front->sql(qq{SELECT min(enqueued_at) AS earliest FROM cmq_cluster."q_Ordered-1_history" \\gset
	CALL cmq_cluster.rewind('Ordered-1', :'earliest')}), $cluster->sql_on_all(q{SELECT min(enqueued_at) FROM cmq."q_Ordered-1_all"}) =~ s/\n.*//sr, 'an ordered queue is rewound');
is($cluster->sql_on_all(q{SELECT string_agg(body, '' ORDER BY msg_id) FROM cmq_receive('Ordered-1', 10)}), "op\nop\nop", '... and is in order');
$front->sql(q{CALL cmq_cluster.grant('Order-Items', 'select', 'Joe''s "x" \\ $$'); CALL cmq_cluster.grant('T-1', 'INSERT', 'Joe''s "x" \\ $$')});
my $rights = q{SELECT has_table_privilege('Joe''s "x" \\ $$', r, 'SELECT'), has_table_privilege('Joe''s "x" \\ $$', r, 'INSERT') FROM unnest(ARRAY['cmq."q_Order-Items"', 'cmq_node."q_Order-Items_all"', 'cmq."t_T-1"']) r};
is($cluster->sql_on_all($rights), join("\n", ("t|f\nt|f\nf|t") x 3), 'grant on a queue and a topic');
$front->sql(q{CALL cmq_cluster.revoke('Order-Items', 'ALL', 'Joe''s "x" \\ $$'); CALL cmq_cluster.revoke('T-1', 'INSERT', 'Joe''s "x" \\ $$')});
is($cluster->sql_on_all($rights), join("\n", ("f|f") x 9), '... and revoke');
is($front->sql(q{SELECT node, queue, ready FROM cmq_cluster.status WHERE queue ~ '^O' ORDER BY 1, 2}), join("\n", map { ("$_|Order-Items|0", "$_|Ordered-1|0") } 1 .. 3), 'status');
is($front->sql(q{SELECT node, error, sent FROM cmq_cluster.metrics WHERE queue = 'Order-Items' ORDER BY 1}), "1||4\n2||4\n3||4", 'metrics');
is($front->sql(q{SELECT node, kind, messages FROM cmq_cluster.rewinds WHERE queue = 'Order-Items' AND kind = 'restore' AND messages = 3 ORDER BY 1}), "1|restore|3\n2|restore|3\n3|restore|3", 'rewinds');
is($front->sql('SELECT node, host IS NOT NULL, port IS NOT NULL, dbname, accepts, error, version IS NOT NULL, queues, pending, in_doubt FROM cmq_cluster.nodes ORDER BY 1'), join("\n", map { "$_|t|t|postgres|t||t|3|2|0" } 1 .. 3), 'nodes');
$front->sql(q{CALL cmq_cluster.drop_queue('Ordered-1')});
is($cluster->sql_on_all(q{SELECT count(*) FROM cmq.queues; SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_node'::regnamespace}), "2\n6\n2\n6\n2\n6", 'drop_queue');
is($front->sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_cluster'::regnamespace AND relname ~ 'Ordered'}), 0, '... drops its views, too');

#
# On all or on none
#

$nodes[1]->sql(q{SELECT FROM cmq_create_queue('there'); SELECT FROM cmq_create_topic('there'); CREATE ROLE only_there});
remember();
my $nothing = qr/\nHINT:  Nothing was done on any node\.\n?/;
refused(q{CALL cmq_cluster.create_queue('there')}, qr/^ERROR:  42710: node 2: queue "there" already exists/, 'a queue that one node has');
refused(q{CALL cmq_cluster.create_topic('there')}, qr/^ERROR:  42710: node 2: topic "there" already exists/, 'a topic that one node has');
refused(q{CALL cmq_cluster.create_queue('q')}, qr/^ERROR:  42710: the cluster has a queue "q"/, 'a queue that the cluster has');
refused(q{CALL cmq_cluster.create_topic('keys')}, qr/^ERROR:  42710: node 1: topic "keys" already exists/, 'a topic that the cluster has');
refused(q{CALL cmq_cluster.create_queue('-')}, qr/^ERROR:  22023: node 1: /, 'a bad name');
refused(q{CALL cmq_cluster.create_queue(NULL)}, qr/^ERROR:  22/, 'no name');
refused(q{CALL cmq_cluster.create_queue('x', nodes => '{}')}, qr/^ERROR:  22023: no node for queue "x"/, 'no node at all');
refused(q{CALL cmq_cluster.create_queue('x', nodes => '{1,9}')}, qr/^ERROR:  42704: there is no node 9/, 'a node that is not there');
refused(q{CALL cmq_cluster.create_queue('x', nodes => '{}')}, qr/^ERROR:  22023: no node for queue "x"/, 'no nodes');
refused(q{CALL cmq_cluster.create_queue('x', rewind_seconds => -1)}, qr/^ERROR:  22023: node 1: rewind_seconds.*\n(DETAIL: .*\n)?HINT: /, 'a bad setting');
refused(q{CALL cmq_cluster.alter_queue('q', dead_letter_queue => 'there', max_receive_count => 3)}, qr/^ERROR:  42704: node 1: queue "there" does not exist/, 'a dead-letter queue that one node has');
refused(q{CALL cmq_cluster.grant('q', 'SELECT', 'only_there')}, qr/^ERROR:  42704: node 1: role "only_there" does not exist$nothing/, 'a role that is missing');
refused(q{CALL cmq_cluster.grant('q', 'TRIGGER', 'only_there')}, qr/^ERROR:  22023: no privilege/, 'another privilege');
refused(qq{CALL cmq_cluster.$_}, qr/^ERROR:  42704: the cluster has no queue "there"\nHINT:  .*adopt_queue/, "not of the cluster: $_")
  foreach q{alter_queue('there')}, q{drop_queue('there')}, q{clear_queue('there')}, q{rewind('there', now())}, q{restore_messages('there', '{1}')}, q{grant('there', 'SELECT', 'only_there')};
refused(qq{CALL cmq_cluster.$_}, qr/^ERROR:  42704: the cluster has no topic "there"/, "not of the cluster: $_") foreach q{drop_topic('there')}, q{subscribe('there', 's', 'q')};
refused(q{CALL cmq_cluster.drop_topic('keys')}, qr/^ERROR:  \w{5}: node 1: /, 'a topic with subscriptions');
nothing_has_happened();
refused(q{CALL cmq_cluster.restore('Order-Items', now() - interval '10 min', expected_count => 11)},
	qr/^ERROR:  21000: restore would bring back 12 messages, not 11\nDETAIL:  node 1: 4, node 2: 4, node 3: 4\nHINT:  Nothing was done on any node\. See cmq_cluster\.rewind_preview\('Order-Items', \.\.\)/, 'another number than expected');
refused(q{CALL cmq_cluster.restore_messages('Order-Items', ARRAY[17, NULL])}, qr/^ERROR:  22023: msg_ids for queue "Order-Items"/, 'NULL as an id');
refused(q{CALL cmq_cluster.restore_messages('Order-Items', ARRAY[17, 18, 24])}, qr/^ERROR:  22023: message 24 is of no node of queue "Order-Items"\nDETAIL:  .*class 8 /, 'an id of no node');
refused(q{CALL cmq_cluster.restore_messages('Order-Items', ARRAY[-1]::bigint[])}, qr/^ERROR:  22023: message -1 is of no node/, 'a negative id');
nothing_has_happened();
$nodes[2]->sql(q{SELECT FROM cmq_alter_queue('Order-Items', rewind_seconds => 60)});
remember();
refused(q{CALL cmq_cluster.rewind('Order-Items', now() - interval '10 min')}, qr/^ERROR:  22023: node 3: start_time is before the rewind window.*\nDETAIL:  .*\nHINT:  /, 'a start_time that two nodes take');
is($front->sql(q{SELECT node, earliest_rewind_time = (SELECT max(earliest_rewind_time) FROM cmq_cluster.queue_attributes('Order-Items') WHERE node IS NOT NULL), rewind_seconds FROM cmq_cluster.queue_attributes('Order-Items') WHERE node IS NULL}) =~ s/^\|[tf]/|/r, '||', 'queue_attributes: what differs is not known');
nothing_has_happened();
$nodes[2]->sql(q{SELECT FROM cmq_alter_queue('Order-Items', rewind_seconds => 3600)});

# what fails on the front, when the nodes have prepared
$front->sql('CREATE TABLE cmq_cluster."_q_taken_live" (other int)');
remember();
refused(q{CALL cmq_cluster.create_queue('taken')}, qr/^ERROR:  42/, 'a relation of the front is in the way');
nothing_has_happened();
$front->sql('DROP TABLE cmq_cluster."_q_taken_live"; CREATE VIEW needs_it AS SELECT * FROM cmq_cluster.q_q_live');
remember();
refused(q{CALL cmq_cluster.drop_queue('q')}, qr/^ERROR:  2BP01: cannot drop view/, 'a view on the front needs the queue');
nothing_has_happened();
$front->sql('DROP VIEW needs_it');

# where calls are made
$front->sql(q{CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$BEGIN CALL cmq_cluster.unbind_dead_letter('q'); END$$});
remember();
refused('SELECT f()', qr/^ERROR:  2D000: /, 'in a function');
refused(q{BEGIN; CALL cmq_cluster.pause_queue('q')}, qr/^ERROR:  2D000: /, 'in a transaction block');
nothing_has_happened();
is($front->answer(q{DO 'DECLARE did boolean; BEGIN CALL cmq_cluster.pause_queue($$q$$, NULL, did); CALL cmq_cluster.resume_queue($$q$$, did); RAISE NOTICE $$%$$, did; END'}) =~ s/^.*NOTICE/NOTICE/r, "NOTICE:  t", 'a DO block');
is($cluster->sql_on_all(q{SELECT count(*) FROM cmq.queues WHERE paused_since IS NOT NULL}), "0\n0\n0", 'in a DO block it works');
$front->sql(q{SET default_transaction_isolation = 'serializable'; CALL cmq_cluster.alter_queue('q', visibility_timeout => 33)});
is($cluster->sql_on_all(q{SELECT visibility_timeout FROM cmq.queues WHERE queue = 'q'}), "33\n33\n33", 'and in a session that is serializable');

#
# Rights
#

is($front->sql(q{
	SELECT 'routine', p.oid::regprocedure::text FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE p.pronamespace = 'cmq_cluster'::regnamespace AND a.grantee = 0
	UNION ALL SELECT 'relation', c.oid::regclass::text FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'cmq_cluster'::regnamespace AND a.grantee = 0
	UNION ALL SELECT 'schema', n.nspname FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'cmq_cluster' AND a.grantee = 0}), '', 'nothing is granted to PUBLIC');

$cluster->add_role('reader', 'false');
$cluster->add_role('manager', 'true');
$front->sql('CREATE ROLE nobody LOGIN; CREATE ROLE unmapped LOGIN; GRANT USAGE ON SCHEMA cmq_cluster TO unmapped; GRANT SELECT ON ALL TABLES IN SCHEMA cmq_cluster TO unmapped;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA cmq_cluster TO unmapped; GRANT INSERT, DELETE ON cmq_cluster.decision, cmq_cluster.turn TO unmapped');
remember();
refused(q{CALL cmq_cluster.rewind('q', now())}, qr/^ERROR:  42501: permission denied for schema cmq_cluster/, 'nobody', role => 'nobody');
refused(q{CALL cmq_cluster.rewind('q', now())}, qr/^ERROR:  08001: node 1: user mapping not found for .*"unmapped".*\nHINT:  Nothing was done on any node\. Each role that uses the cluster needs a user mapping: CALL cmq_cluster\.add_user/, 'a role without a user mapping', role => 'unmapped');
is($front->as('unmapped', q{SELECT node, error ~ 'user mapping' FROM cmq_cluster.status; SELECT node, state FROM cmq_cluster.q_q_live ORDER BY 1}), "1|t\n2|t\n3|t\n1|unreachable\n2|unreachable\n3|unreachable\n", '... sees that it reaches no node');
refused("CALL cmq_cluster.$_", qr/^ERROR:  (42501|2F003): /m, "a reader: $_", role => 'reader')
  foreach q{rewind('q', now() - interval '1 min')}, q{pause_queue('q')}, q{create_queue('r')}, q{drop_queue('q')}, q{grant('q', 'ALL', 'reader')}, q{create_topic('r')}, q{add_user('reader', manager => true)}, q{add_node(9, 'x')}, q{remove_node(1)}, q{move_queue('q', '{1}')};
nothing_has_happened();
like(error_of('SELECT * FROM cmq_cluster.q_q_live', role => 'reader'), qr/^ERROR:  42501: permission denied/, 'a reader without GRANTs on the nodes sees no messages');
$front->sql(q{CALL cmq_cluster.grant('q', 'SELECT', 'reader')});
is($front->as('reader', q{SELECT count(*) FROM cmq_cluster.q_q_live; SELECT node, error, visibility_timeout FROM cmq_cluster.queue_attributes('q') ORDER BY 1}), "0\n1||33\n2||33\n3||33\n||33\n", '... and with GRANTs all');
remember();
refused("CALL cmq_cluster.$_", qr/^ERROR:  42501: node 1: permission denied for/, "a reader who can read: $_", role => 'reader') foreach q{rewind('q', now() - interval '1 min')}, q{clear_queue('q')};
nothing_has_happened();
$nodes[0]->sql('GRANT UPDATE ON cmq.q_q TO reader');
remember();
refused(q{CALL cmq_cluster.rewind('q', now() - interval '1 min')}, qr/^ERROR:  42501: node 2: permission denied for/, 'a role with GRANTs on one node only', role => 'reader');
nothing_has_happened();
$nodes[0]->sql('REVOKE ALL ON cmq.q_q FROM reader');
is($front->as('reader', q{SELECT node, error FROM cmq_cluster.queue_attributes('q') WHERE error <> ''}) =~ s/permission denied.*?(?=\n|;|$)/denied/gr, "1|node 1: denied\n|node 1: denied\n", '... and with none on one: a row says so');
$nodes[0]->sql('GRANT SELECT ON cmq.q_q TO reader');

$front->sql(q{SET SESSION AUTHORIZATION manager; CALL cmq_cluster.create_queue('m', rewind_seconds => 3600); CALL cmq_cluster.create_topic('mt'); CALL cmq_cluster.subscribe('mt', 's', 'm');
	CALL cmq_cluster.grant('m', 'SELECT', 'reader'); CALL cmq_cluster.rewind('m', now())});
is($cluster->sql_on_all(q{SELECT queue FROM cmq.queues WHERE owner = 'manager'}), "m\nm\nm", 'a manager creates queues and topics');
is($front->as('reader', 'SELECT count(*) FROM cmq_cluster.q_m_all'), "0\n", '... which a reader sees');
remember();
refused(q{CALL cmq_cluster.drop_queue('q')}, qr/^ERROR:  42501: node 1: must be owner of/, 'a queue of another owner', role => 'manager');
nothing_has_happened();
like(error_of(q{CREATE FUNCTION cmq_cluster._arg(text, int) RETURNS text LANGUAGE sql RETURN 'x'}, role => 'manager'), qr/^ERROR:  42501: permission denied for schema cmq_cluster/, 'a manager creates nothing in schema cmq_cluster');
$front->sql(q{SET SESSION AUTHORIZATION manager; CALL cmq_cluster.unsubscribe('mt', 's'); CALL cmq_cluster.drop_topic('mt'); CALL cmq_cluster.drop_queue('m')});
$front->sql(q{CALL cmq_cluster.add_user('manager', password => 'secret')});
remember();
refused(q{CALL cmq_cluster.create_queue('m')}, qr/^ERROR:  42501: /, 'a manager who is none any more', role => 'manager');
nothing_has_happened();

# One session and its open connections.
is($front->answer(q{
	\set VERBOSITY terse
	SELECT count(*) FROM cmq_cluster.nodes WHERE error IS NULL;
	SET ROLE unmapped; SELECT count(*) FROM cmq_cluster.nodes WHERE error IS NULL; RESET ROLE;
	SET ROLE reader; SELECT string_agg(DISTINCT queue, ' ') FROM cmq_cluster.status; RESET ROLE;
	SELECT string_agg(DISTINCT queue, ' ' ORDER BY queue) FROM cmq_cluster.status}), "3\n0\nq\nOrder-Items q there", 'SET ROLE brings other connections');

# Functions and operators that come first in search_path.
$front->sql(q{
	CREATE SCHEMA evil;
	DO $do$ DECLARE f record; BEGIN
		FOR f IN SELECT DISTINCT ON (p.proname, p.proargtypes) p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result FROM pg_proc p
			WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0 AND p.proallargtypes IS NULL
			  AND p.proname IN ('now', 'unnest', 'array_fill', 'coalesce', 'array_to_string', 'json_array_elements', 'statement_timestamp', 'current_setting', 'set_config', 'strpos', 'int4eq', 'texteq', 'textcat', 'array_cat', 'starts_with', 'quote_literal', 'int4pl')
		LOOP
			EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', f.proname, f.arguments, f.result, 'BEGIN RAISE ''evil''; END');
		END LOOP;
	END $do$;
	CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.int4eq);
	CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.texteq);
	CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.textcat);
	CREATE OPERATOR evil.+ (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.int4pl);
	CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false);
	CREATE DOMAIN evil.int4 AS pg_catalog.int4 CHECK (false);
	CREATE DOMAIN evil.int8 AS pg_catalog.int8 CHECK (false)});
is($front->answer(q{
	\set VERBOSITY terse
	SET search_path = evil, pg_catalog;
	CALL cmq_cluster.create_queue('e', rewind_seconds => 3600);
	CALL cmq_cluster.alter_queue('e', visibility_timeout => 3);
	CALL cmq_cluster.pause_queue('e', 'why'); CALL cmq_cluster.resume_queue('e'); CALL cmq_cluster.clear_queue('e'); CALL cmq_cluster.unbind_dead_letter('e');
	CALL cmq_cluster.create_topic('e'); CALL cmq_cluster.subscribe('e', 'e', 'e'); CALL cmq_cluster.unsubscribe('e', 'e'); CALL cmq_cluster.drop_topic('e');
	CALL cmq_cluster.grant('e', 'SELECT', 'reader'); CALL cmq_cluster.revoke('e', 'SELECT', 'reader');
	CALL cmq_cluster.cancel_rewind('e'); CALL cmq_cluster.restore('e', '10 min ago'::pg_catalog.interval OPERATOR(pg_catalog.+) pg_catalog.now(), '1 min'::pg_catalog.interval OPERATOR(pg_catalog.+) pg_catalog.now());
	CALL cmq_cluster.restore_messages('e', '{}');
	CALL cmq_cluster.move_queue('e', '{1,2}'); CALL cmq_cluster.move_queue('e', NULL); SELECT cmq_cluster.drain_node(1); SELECT cmq_cluster.drain_node(1, true);
	SELECT pg_catalog.count(*) FROM cmq_cluster.status; SELECT pg_catalog.count(*) FROM cmq_cluster.metrics; SELECT pg_catalog.count(*) FROM cmq_cluster.nodes;
	SELECT pg_catalog.count(*) FROM cmq_cluster.q_e_live; SELECT pg_catalog.count(*) FROM cmq_cluster.queue_attributes('e'); SELECT pg_catalog.count(*) FROM cmq_cluster.rewind_preview('e', pg_catalog.now());
	SELECT pg_catalog.count(cmq_cluster.connection('e')); SELECT pg_catalog.count(*) FROM cmq_cluster.resolve();
	CALL cmq_cluster.drop_queue('e');
	SELECT now()}) =~ s/psql:<stdin>:\d+: //gr, "t\nt\n0\nf\n0\n{}\n\n\n10\n10\n3\n0\n4\n4\n1\n0ERROR:  evil", 'a hostile search_path changes nothing');

#
# Looking, and nodes that die and come back
#

$front->sql('SELECT cmq_cluster.drain_node(1, true)');
$cluster->sql_on_all(q{SELECT FROM cmq_send_batch('q', ARRAY['a', 'b', 'c']); SELECT FROM cmq_consume('q', 1)});
like($front->sql("EXPLAIN (COSTS OFF) SELECT * FROM cmq_cluster.q_q_$_"), qr/(Async Foreign Scan.*){3}/s, "q_q_$_ reads all nodes at once") foreach qw(live history all);
my $all = join("\n", map { ("$_|b|ready", "$_|c|ready") } 1 .. 3);
my $without_2 = "1|b|ready\n1|c|ready\n2||unreachable\n3|b|ready\n3|c|ready";
my $session = $front->session;
$session->query_safe('PREPARE p AS SELECT node, body, state FROM cmq_cluster.q_q_live ORDER BY node, body');
is($session->query_safe('EXECUTE p'), $all, "a prepared statement, run $_") foreach 1 .. 6;
my $other = $front->session(on_error_stop => 0);
$other->query_safe('BEGIN; DECLARE c CURSOR FOR SELECT node, body, state FROM cmq_cluster.q_q_live');
$front->sql(q{CALL cmq_cluster.create_queue('alone', nodes => '{2}')});
is($front->sql('SELECT node, state FROM cmq_cluster.q_alone_live'), '', 'a queue on one node alone');
$nodes[1]->stop('immediate');
is($front->sql('SELECT node, state FROM cmq_cluster.q_alone_live; SELECT count(*) FROM cmq_cluster.q_alone_history'), "2|unreachable\n1", '... has a row for it when it does not answer');
is($session->query_safe('EXECUTE p'), $without_2, '... a node died');
is($session->query_safe('EXECUTE p'), $without_2, '... and is still dead');
is($front->sql("SELECT node, count(body), max(state) FROM cmq_cluster.q_q_$_ GROUP BY node ORDER BY node") =~ s/(deleted|ready)//gr, $_ eq 'live' ? "1|2|\n2|0|unreachable\n3|2|" : $_ eq 'all' ? "1|3|\n2|0|unreachable\n3|3|" : "1|1|\n2|0|\n3|1|", "q_q_$_ has a row for it") foreach qw(live all);
is($front->sql('SELECT node, body FROM cmq_cluster.q_q_history ORDER BY 1'), "1|a\n2|\n3|a", 'q_q_history has a row for it');
is($front->sql("SELECT DISTINCT node, error ~ '^node 2 cannot be reached: ' FROM cmq_cluster.$_ ORDER BY 1"), "1|\n2|t\n3|", "$_ has a row for it") foreach qw(status metrics rewinds nodes);
is($front->sql("SELECT node, error ~ '^node 2 cannot be reached: ', $_->[1] FROM cmq_cluster.$_->[0] ORDER BY 1"), $_->[2], "$_->[0] has a row for it, and knows no sums")
  foreach [ q{queue_attributes('q')}, 'active_msg_num', "1||2\n2|t|\n3||2\n|t|" ], [ q{rewind_preview('q', now() - interval '10 min')}, 'messages', "1||1\n2|t|\n3||1\n|t|" ];
is($front->sql('SELECT node, gid, outcome ~ \'^node 2 cannot be reached\' FROM cmq_cluster.resolve()'), '2||t', 'resolve() has a row for it');
# a cursor that asked when the node was alive fails; one that did when it was dead says so to the end
is($other->query('FETCH ALL FROM c'), '', 'a cursor over a node that died gets nothing');
like($other->{stderr}, qr/ERROR: .*connection/, '... but an error');
$other->quit;
$other = $front->session;
$other->query_safe('BEGIN; DECLARE c CURSOR FOR SELECT node, body, state FROM cmq_cluster.q_q_live');
refused("CALL cmq_cluster.$_", qr/^ERROR:  08001: node 2 cannot be reached\nDETAIL:  .*$nothing/s, $_) foreach q{rewind('q', now() - interval '1 min')}, q{create_queue('x')}, q{alter_queue('q', visibility_timeout => 1)}, q{create_topic('x')}, q{add_user('reader')};
is($front->sql(q{CALL cmq_cluster.create_queue('on two', nodes => '{1,3}')} =~ s/on two/on-two/r . q{; CALL cmq_cluster.drop_queue('on-two')}), '', 'what does not concern the node works');
$nodes[1]->start;
# the nodes answer in any order
is(join("\n", sort split /\n+/, $other->query_safe('FETCH ALL FROM c')), "1|b|ready\n1|c|ready\n2||unreachable\n3|b|ready\n3|c|ready", 'a cursor that began without the node');
$other->query_safe('COMMIT');
is($session->query_safe('EXECUTE p'), $all, '... it is back');
$front->sql(q{CALL cmq_cluster.drop_queue('alone')});
$nodes[2]->restart;
is($session->query_safe('EXECUTE p'), $all, '... another one was restarted');
$_->quit foreach $session, $other;

#
# Nodes and queues come and go
#

$cluster->start_node(4);
$cluster->make_role(4, $_) foreach qw(reader manager);
my ($host, $port) = ($cluster->node(4)->host, $cluster->node(4)->port);
my $port_3 = $nodes[2]->port;
# in one session: the second call may not ask the server of the first
like($front->answer(qq{
	\\set ON_ERROR_STOP 0
	CALL cmq_cluster.add_node(4, '$host', '$port_3');
	CALL cmq_cluster.add_node(4, '$host', '$port');
	SELECT node, port, error FROM cmq_cluster.nodes WHERE node = 4}), qr/^4\|$port\|.*the server cannot be node 4\n.*DETAIL:  Its cmq.msg_id_offset is 3\./s, 'a server with another class is refused, and the right one is taken');
is($cluster->node(4)->sql('SELECT queue FROM cmq.queues ORDER BY 1; SELECT topic FROM cmq.topics ORDER BY 1; SELECT count(*) FROM cmq.subscriptions'), "Order-Items\nq\nT-1\nkeys\n2", 'it has all queues and topics');
is($cluster->node(4)->sql(q{SELECT has_table_privilege('reader', 'cmq.q_q', 'SELECT'), has_table_privilege('reader', 'cmq_node.q_q_all', 'SELECT')}), 't|t', '... and rights');
is($front->as('reader', 'SELECT DISTINCT node, error FROM cmq_cluster.status ORDER BY 1'), "1|\n2|\n3|\n4|\n", '... and a reader sees it');
like(error_of("CALL cmq_cluster.add_node(4, '$host', '$port')"), qr/^ERROR:  42710: there is a node 4/, 'a node that is there');
like(error_of("CALL cmq_cluster.add_node(5, '$host', '1')"), qr/^ERROR:  08001: node 5 cannot be reached/, 'a server that is not there');

is($front->sql('SELECT cmq_cluster.drain_node(n) FROM unnest(ARRAY[1, 2, 3]) n; SELECT DISTINCT cmq_cluster.connection(\'q\') FROM generate_series(1, 20)') =~ s/\n+/\n/gr =~ s/^\n//r,
	"host=$host port=$port dbname=postgres target_session_attrs=read-write", 'connection() hands out nodes that accept messages');
is($front->sql("SELECT cmq_cluster.connection('q', i) = cmq_cluster.connection('q', i + 4) FROM generate_series(0, 3) i; SELECT count(DISTINCT cmq_cluster.connection('q', i)) FROM generate_series(0, 9) i"), "t\nt\nt\nt\n4", '... and all to consumers');
$front->sql('SELECT cmq_cluster.drain_node(4)');
like(error_of('SELECT cmq_cluster.connection()'), qr/^ERROR:  55000: no node accepts messages\nHINT: /, '... none');
like(error_of(q{SELECT cmq_cluster.connection('there')}), qr/^ERROR:  42704: /, '... no queue');
like(error_of('SELECT cmq_cluster.drain_node(9)'), qr/^ERROR:  42704: there is no node 9/, 'drain_node of none');
$front->sql('SELECT cmq_cluster.drain_node(n, true) FROM unnest(ARRAY[1, 2, 3, 4]) n');
my $connection = $front->sql(q{SELECT cmq_cluster.connection('q', 1)});
is((run_command([ 'psql', '-XAtq', '-d', "$connection", '-c', 'SHOW cmq.msg_id_offset' ]))[0], 2, 'a client connects to it');

# adopt a topic
$nodes[2]->sql(q{SELECT FROM cmq_create_topic('adopted', 'routing'); SELECT FROM cmq_subscribe('adopted', 's', 'q', binding_keys => '{"a.#",it''s}')});
$cluster->sql_on_all('CREATE ROLE publisher');
$nodes[2]->sql('GRANT INSERT ON cmq.t_adopted TO publisher');
is(error_of(q{CALL cmq_cluster.adopt_topic('adopted')}), '', 'adopt_topic');
is($cluster->node(4)->sql(q{SELECT subscription, queue, binding_keys FROM cmq.subscriptions WHERE topic = 'adopted'; SELECT has_table_privilege('publisher', 'cmq.t_adopted', 'INSERT')}), "s|q|{a.#,it's}\nt", '... a node that did not have it has it, with its subscriptions and rights');
like(error_of(q{CALL cmq_cluster.adopt_topic('adopted')}), qr/^ERROR:  42710: the cluster has a topic "adopted"/, '... and cannot be adopted again');
like(error_of(q{CALL cmq_cluster.adopt_topic('nowhere')}), qr/^ERROR:  42704: none of the nodes has a topic "nowhere"/, '... what no node has cannot');
is(error_of(q{CALL cmq_cluster.unsubscribe('adopted', 's')}) . error_of(q{CALL cmq_cluster.drop_topic('adopted')}), '', '... it is one of the cluster');

# adopt and move
is(error_of(q{CALL cmq_cluster.adopt_queue('there')}), '', 'adopt_queue');
is($cluster->sql_on_all(q{SELECT count(*) FROM cmq.queues WHERE queue = 'there'}), "1\n1\n1\n1", '... it is on all nodes');
like(error_of(q{CALL cmq_cluster.adopt_queue('there')}), qr/^ERROR:  42710: the cluster has a queue "there"/, '... and cannot be adopted again');
like(error_of(q{CALL cmq_cluster.adopt_queue('nowhere')}), qr/^ERROR:  42704: none of the nodes has a queue "nowhere"/, '... what no node has cannot');
$cluster->sql_on_all(q{SELECT FROM cmq_create_queue('differs', visibility_timeout => 5 + current_setting('cmq.msg_id_offset')::int)});
refused(q{CALL cmq_cluster.adopt_queue('differs')}, qr/^ERROR:  55000: queue "differs" is not the same on nodes 1 and \d\nDETAIL:  These differ: visibility_timeout\./, 'adopt_queue of what differs');
$nodes[0]->sql(q{SELECT FROM cmq_send('there', 'x')});
$front->sql(q{CALL cmq_cluster.move_queue('there', '{3,4}')});
is($cluster->sql_on_all(q{SELECT count(*) FROM cmq.queues WHERE queue = 'there'}), "1\n0\n1\n1", 'move_queue leaves it where it has messages');
is($front->sql(q{SELECT count(DISTINCT cmq_cluster.connection('there', i)), (SELECT count(DISTINCT cmq_cluster.connection('there')) FROM generate_series(1, 50)) FROM generate_series(0, 9) i}), '3|2', '... for consumers');
$nodes[0]->sql(q{SELECT FROM cmq_consume('there')});
$front->sql(q{CALL cmq_cluster.move_queue('there', '{3,4}')});
is($cluster->sql_on_all(q{SELECT count(*) FROM cmq.queues WHERE queue = 'there'; SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_node'::regnamespace AND relname ~ 'there'}), "0\n0\n0\n0\n1\n3\n1\n3", '... until they are gone');
is($front->sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = 'cmq_cluster'::regnamespace AND relname ~ '^_\d_q_there' ; SELECT count(*) FROM cmq_cluster.q_there_all}), "6\n0", '... and its views are of the others');

# remove
$cluster->node(4)->sql(q{SELECT FROM cmq_send('q', 'x')});
refused('CALL cmq_cluster.remove_node(4)', qr/^ERROR:  55000: node 4: queue "q" is not empty\nDETAIL:  1 messages/, 'remove_node with messages');
refused('CALL cmq_cluster.remove_node(9)', qr/^ERROR:  42704: there is no node 9/, 'remove_node of none');
$cluster->node(4)->sql(q{SELECT FROM cmq_clear_queue('q')});
$front->sql('CALL cmq_cluster.remove_node(4)');
is($front->sql('SELECT node FROM cmq_cluster.nodes ORDER BY 1; SELECT count(*) FROM pg_foreign_server; SELECT count(DISTINCT node) FROM cmq_cluster.q_q_all'), "1\n2\n3\n3\n3", 'remove_node');
is($cluster->node(4)->sql('SELECT queue FROM cmq.queues'), 'differs', '... drops its queues');
$front->sql("CALL cmq_cluster.add_node(4, '$host', '$port')");
is($front->sql('SELECT count(*) FROM cmq_cluster.nodes WHERE error IS NULL'), 4, 'it is added again');
$cluster->node(4)->sql(q{SELECT FROM cmq_send('q', 'x')});
$cluster->node(4)->stop('immediate');
like(error_of('CALL cmq_cluster.remove_node(4)'), qr/^ERROR:  08001: node 4 cannot be reached/, 'remove_node of a dead one');
$front->sql('CALL cmq_cluster.remove_node(4, lost => true)');
is($front->sql('SELECT node, error FROM cmq_cluster.nodes ORDER BY 1; SELECT count(*) FROM cmq_cluster.q_q_live'), "1|\n2|\n3|\n6", '... that is lost');
delete $cluster->{nodes}{4};

#
# A dump of the front, at once and in sections; the new front goes on
#

my $dump = $front->basedir . '/dump';
$ENV{PGOPTIONS} = '-c log_statement=none';		# the log is looked through for leaks, and pg_dump says leakproof
foreach my $way ([ 'whole', '' ], [ 'pieces', 'pre-data', 'data', 'post-data' ])
{
	my ($database, @sections) = @$way;
	$front->sql("CREATE DATABASE $database");
	foreach my $section (@sections)
	{
		$front->command_ok([ 'pg_dump', '-f', $dump, $section ? "--section=$section" : (), '-d', $front->connstr('postgres') ], "a dump of the front: $database $section");
		$front->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $front->connstr($database), '-f', $dump ], '... is restored');
	}
	is($front->sql('SELECT cluster FROM cmq_cluster.id', $database), $front->sql('SELECT cluster FROM cmq_cluster.id'), '... it is the same cluster');
	is($front->sql(q{CALL cmq_cluster.create_queue('new'); CALL cmq_cluster.alter_queue('q', visibility_timeout => 9); CALL cmq_cluster.drop_queue('new'); SELECT count(*) FROM cmq_cluster.q_q_live; SELECT count(*) FROM cmq_cluster.nodes WHERE error IS NULL}, $database), "6\n3", '... and works');
	is($front->as('reader', 'SELECT count(*) FROM cmq_cluster.q_q_live; SELECT count(*) FROM cmq_cluster.status', $database) =~ s/\d+\n$/n/r, "6\nn", '... also for a reader');
	is($front->sql(q{SELECT count(*) FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE p.pronamespace = 'cmq_cluster'::regnamespace AND a.grantee = 0}, $database), 0, '... nothing is granted to PUBLIC');
	like($front->complaint('DROP EXTENSION cmq_cluster', $database), qr/ERROR:  cannot drop extension cmq_cluster because other objects depend on it/, 'DROP EXTENSION asks for CASCADE');
	is($front->complaint('SET client_min_messages = warning; DROP EXTENSION cmq_cluster CASCADE', $database), '', '... and drops the front alone');
	is($front->sql(q{SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('cmq_cluster') AND relkind = 'v'}, $database), 0, '... with its views');
}
is($cluster->sql_on_all(q{SELECT count(*) FROM cmq.queues WHERE queue = 'q'}), "1\n1\n1", 'the nodes have their queues');

$cluster->is_whole('the end');
$cluster->stop;
done_testing();
