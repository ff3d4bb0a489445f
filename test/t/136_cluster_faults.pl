# Faults that cmq_cluster once had: calls that wait for each other, for readers or for a node
# that is added; errors after a decision; settings of roles; nodes that lie; who may read what.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqCluster;
use CmqNode;
use PostgreSQL::Test::Utils qw(command_ok);
use Test::More;

my $cluster = CmqCluster->new(3);
my $front = $cluster->{front};

sub nodes_say { my ($sql) = @_; return join ' ', split /\n/, $cluster->sql_on_all($sql); }

sub prepared { return nodes_say('SELECT count(*) FROM pg_prepared_xacts'); }

sub wait_for_lock
{
	my ($call) = @_;
	$front->wait_until("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%$call%' AND pid <> pg_backend_pid()");
	return;
}

sub add
{
	my ($number) = @_;
	my $node = $cluster->node($number);
	return sprintf "CALL cmq_cluster.add_node(%d, '%s', '%s')", $number, $node->host, $node->port;
}

# roles that are no superusers need a password: dblink insists
foreach my $node (map { $cluster->node($_) } $cluster->numbers)
{
	my $hba = $node->data_dir . '/pg_hba.conf';
	my $old = PostgreSQL::Test::Utils::slurp_file($hba);
	open my $file, '>', $hba or die "$hba: $!";
	print $file "local all manager,reader scram-sha-256\n$old";
	close $file;
	$node->reload;
	$node->sql(q{CREATE ROLE manager LOGIN PASSWORD 'm'; CREATE ROLE reader LOGIN PASSWORD 'r'; CREATE ROLE other SUPERUSER LOGIN});
}
$front->sql('CREATE ROLE manager; CREATE ROLE reader');
$front->sql(q{CALL cmq_cluster.add_user('manager', password => 'm', manager => true)});
$front->sql(q{CALL cmq_cluster.add_user('reader', password => 'r')});
# may make topics on the nodes, and not here
nodes_say('GRANT USAGE, CREATE ON SCHEMA cmq, cmq_data TO reader');
like($front->as('reader', q{CALL cmq_cluster.create_topic('of_reader')}), qr/permission denied for table topic/, 'a topic by a role that is no manager');
is(prepared(), '0 0 0', '... nothing is prepared');
nodes_say('REVOKE CREATE ON SCHEMA cmq FROM reader; REVOKE USAGE, CREATE ON SCHEMA cmq_data FROM reader');

#
# A call that has waited acts on the nodes that have the queue then.
#
foreach my $isolation ('read committed', 'repeatable read', 'serializable')
{
	$front->sql("ALTER DATABASE postgres SET default_transaction_isolation = '$isolation'");
	$front->sql(q{CALL cmq_cluster.create_queue('turn', nodes => '{1,2}')});
	$cluster->node(3)->sql(q{SELECT cmq_create_queue('turn')});
	my $adder = $front->session;
	$adder->query_safe(q{BEGIN ISOLATION LEVEL READ COMMITTED; SELECT cmq_cluster._alone(); INSERT INTO cmq_cluster.place VALUES ('turn', 3, true)});
	my $call = $front->start_psql(q{CALL cmq_cluster.alter_queue('turn', visibility_timeout => 7)});
	wait_for_lock('alter_queue');
	$adder->query_safe('COMMIT');
	$adder->quit;
	$call->succeeds("a call waits for a node that is added: $isolation");
	is(nodes_say(q{SELECT visibility_timeout FROM cmq.queues WHERE queue = 'turn'}), '7 7 7', '... and acts there, too');
	$front->sql(q{CALL cmq_cluster.drop_queue('turn')});
}
$front->sql('ALTER DATABASE postgres RESET default_transaction_isolation');

#
# While the front waits for its readers nothing is prepared on a node: they will wait for that.
#
foreach my $call (q{drop_queue('read')}, q{move_queue('read', '{1,2}')}, 'remove_node(3)')
{
	$front->sql(q{CALL cmq_cluster.create_queue('read')});
	my $reader = $front->session;
	$reader->query_safe('BEGIN; EXPLAIN SELECT FROM cmq_cluster.q_read_all');
	my $run = $front->start_psql("CALL cmq_cluster.$call");
	wait_for_lock('CALL');
	is(prepared(), '0 0 0', "$call waits for a reader before nodes prepare it");
	is($reader->query_safe('SELECT count(*) FROM cmq_cluster.q_read_all'), 0, '... who can read on');
	$reader->query_safe('COMMIT');
	$reader->quit;
	$run->succeeds('... and then is done');
	$front->sql(add(3)) if $call =~ /remove_node/;
	$front->sql(q{CALL cmq_cluster.drop_queue('read')}) unless $call =~ /drop_queue/;
}

#
# Errors of the front
#
$front->sql('CREATE TABLE cmq_cluster.q_taken_live ()');
like($front->complaint(q{CALL cmq_cluster.create_queue('taken')}), qr/"q_taken_live" is not a view/, 'the front cannot make the views of a queue');
is(prepared(), '0 0 0', '... and the nodes take back what they have prepared');
is(nodes_say('SELECT count(*) FROM cmq.queues'), '0 0 0', '... and have no queue');
$front->sql('DROP TABLE cmq_cluster.q_taken_live');

$front->sql(q{CALL cmq_cluster.create_queue('q', rewind_seconds => 3600);
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
	CREATE TRIGGER fail BEFORE DELETE ON cmq_cluster.decision FOR EACH ROW EXECUTE FUNCTION fail()});
my ($out, $err) = $front->both(q{CALL cmq_cluster.pause_queue('q')});
is($out, 't', 'an error after the decision is no error of the call');
like($err, qr/^psql:<stdin>:1: WARNING:  the call was interrupted after it was decided\nDETAIL:  no\nHINT:  SELECT \* FROM cmq_cluster\.resolve\(\); finishes it/, '... but a warning');
$front->sql('DROP FUNCTION fail() CASCADE');
$front->sql('SELECT FROM cmq_cluster.resolve()');
is(nodes_say('SELECT count(paused_since) FROM cmq.queues'), '1 1 1', '... and it is done');
$front->sql(q{CALL cmq_cluster.resume_queue('q')});

# what is gone when the decision is committed
$front->sql(q{CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DROP USER MAPPING FOR CURRENT_USER SERVER cmq_cluster_2; RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON cmq_cluster.decision DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lose()});
like($front->complaint(q{CALL cmq_cluster.pause_queue('q')}), qr/^psql:<stdin>:1: WARNING:  node 2 has not committed yet what was decided\nDETAIL:  node 2: user mapping not found/, 'a node that one cannot connect to has not committed');
$front->sql('DROP FUNCTION lose() CASCADE');
$front->sql(q{DO $$ BEGIN EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER cmq_cluster_2 OPTIONS (user %L)', current_user); END $$});
is($front->sql('SELECT node, outcome FROM cmq_cluster.resolve()'), '2|commit', '... and does so when one can');
$front->sql(q{CALL cmq_cluster.resume_queue('q')});

#
# Connections
#
like($front->sql(q{
		SELECT count(*) FROM cmq_cluster.nodes WHERE error IS NULL;
		ALTER SERVER cmq_cluster_3 OPTIONS (SET port '1');
		SELECT error FROM cmq_cluster.nodes WHERE node = 3}),
	qr/^3\nnode 3 cannot be reached: /, 'a session connects anew when the address of a node has changed');
$front->sql(sprintf q{ALTER SERVER cmq_cluster_3 OPTIONS (SET port '%s')}, $cluster->node(3)->port);
is($front->sql(q{
		SELECT answer = current_user FROM cmq_cluster._ask('{3}', '{SELECT current_user}', true);
		ALTER USER MAPPING FOR CURRENT_USER SERVER cmq_cluster_3 OPTIONS (SET user 'other');
		SELECT answer FROM cmq_cluster._ask('{3}', '{SELECT current_user}', true);
		SELECT count(*) FROM unnest(cmq_cluster._connections()) c WHERE c LIKE 'cmq\_cluster:3:%'}),
	"t\nother\n1", '... and when it connects as another role, and closes the old connection');
$front->sql(q{DO $$ BEGIN EXECUTE format('ALTER USER MAPPING FOR CURRENT_USER SERVER cmq_cluster_3 OPTIONS (SET user %L)', current_user); END $$});

$cluster->node(1)->sql(q{DO $$ DECLARE s text; BEGIN
	FOREACH s IN ARRAY '{statement_timeout = 1h,idle_in_transaction_session_timeout = 1h,idle_session_timeout = 1h,synchronous_commit = off}'::text[] LOOP
		EXECUTE format('ALTER ROLE %I SET %s', current_user, regexp_replace(s, '= (.*)', '= ''\1'''));
	END LOOP; END $$});
is($front->sql(q{SELECT string_agg(a.answer, ' ' ORDER BY s.i)
		FROM unnest('{statement_timeout,idle_in_transaction_session_timeout,idle_session_timeout,synchronous_commit}'::text[]) WITH ORDINALITY s(name, i),
			 LATERAL cmq_cluster._ask('{1}', ARRAY['SHOW ' || s.name], true) a}),
	'0 0 0 on', 'no timeout of the role on the node counts, and commits wait for the disk');
unlike(PostgreSQL::Test::Utils::slurp_file($cluster->node(1)->logfile), qr/there is no transaction in progress/, 'calls write no warning into the log of a node');

like($front->sql(q{
		SELECT answer FROM cmq_cluster._ask('{1}', '{BEGIN}', true);
		SELECT cmq_cluster._cancel(cmq_cluster._connection(1)), cmq_cluster._close(cmq_cluster._connection(1));
		SELECT error IS NOT NULL, code FROM cmq_cluster._ask('{1}', '{PREPARE TRANSACTION ''x''}', false, true)}),
	qr/^BEGIN\nOK\|OK\nt\|08/, 'a connection that is lost between two steps is not made anew');

#
# Nodes are not trusted.
#
like($front->complaint(q{SELECT cmq_cluster._define('q', '{"live": [["a", "int); CREATE TABLE hacked (); --"]], "history": [["a", "int"]], "all": [["a", "int"]]}')}),
	qr/syntax error at or near "\)"/, 'what a node says is a type must be one');
is($front->sql(q{SELECT string_agg(cmq_cluster._is_right(r)::text, ' ') FROM unnest('{SELECT,MAINTAIN,"SELECT ON x TO y; DROP TABLE z; GRANT SELECT"}'::text[]) r}),
	'true false false', '... and a right one of those that are copied');

#
# Nodes that are added
#
$front->sql(q{CALL cmq_cluster.create_topic('t')});
$front->sql(q{CALL cmq_cluster.subscribe('t', 's', 'q', '{a,b}')});
$cluster->node($_)->sql(q{GRANT SELECT ON cmq.q_q TO PUBLIC; GRANT INSERT ON cmq.t_t TO PUBLIC}) foreach 1, 2;
$front->sql(q{CALL cmq_cluster.remove_node(3)});
$front->sql(q{CREATE USER MAPPING FOR PUBLIC SERVER cmq_cluster_1 OPTIONS (user 'reader', password 'r')});
is($front->complaint(add(3)), '', 'a node is added again that has the topics still, and with a user mapping for PUBLIC');
is(nodes_say(q{SELECT topic || subscription || queue || filter_tags::text FROM cmq.subscriptions}), 'tsq{a,b} tsq{a,b} tsq{a,b}', '... and has the subscriptions');
is($cluster->node(3)->sql(q{SELECT oid::regclass, a.privilege_type FROM pg_class, aclexplode(relacl) a WHERE relname IN ('q_q', 'q_q_all', 't_t') AND a.grantee = 0 ORDER BY oid::regclass::text}),
	"cmq.q_q|SELECT\ncmq.q_q_all|SELECT\ncmq.t_t|INSERT\ncmq_node.q_q_all|SELECT", '... and the rights of PUBLIC');
is($front->sql(q{SELECT count(*) FROM pg_user_mappings WHERE usename = 'public'}), 2, '... and PUBLIC can connect to it');
$front->sql(q{CALL cmq_cluster.remove_node(3)});
$cluster->node(3)->sql(q{SELECT cmq_drop_topic('t'), cmq_create_topic('t', 'routing')});
like($front->complaint(add(3)), qr/topic "t" is not the same on nodes 1 and 3\nHINT:  Drop it on the node that is added, with cmq_drop_topic\./, 'not if a topic is another one');
$cluster->node(3)->sql(q{SELECT cmq_drop_topic('t')});
$front->sql(add(3));
$front->sql(q{CALL cmq_cluster.unsubscribe('t', 's')});
$front->sql(q{CALL cmq_cluster.drop_topic('t')});
$front->sql(q{DROP USER MAPPING FOR PUBLIC SERVER cmq_cluster_1; DROP USER MAPPING FOR PUBLIC SERVER cmq_cluster_3});

#
# Roles that are no superusers
#
$cluster->node(1)->sql(q{SET ROLE manager; SELECT cmq_create_queue('adopted'); GRANT SELECT ON cmq.q_adopted TO reader; SELECT cmq_send('adopted', 'x')});
$front->sql(q{CALL cmq_cluster.adopt_queue('adopted')});
foreach my $role (qw(manager reader))
{
	is($front->as($role, 'SELECT node, body FROM cmq_cluster.q_adopted_all'), "1|x\n", "$role reads a queue that was on a node before");
}
is($front->as('manager', q{CALL cmq_cluster.revoke('adopted', 'select', 'reader')}), "\n", '... and its owner revokes that');
like($front->as('reader', 'SELECT FROM cmq_cluster.q_adopted_all'), qr/permission denied for view q_adopted_all/, '... from the reader');
$cluster->node(3)->sql(q{SELECT FROM cmq_create_queue('dead'); SELECT cmq_create_queue('dying', dead_letter_queue => 'dead', max_receive_count => 3)});
$cluster->node(2)->sql(q{SELECT FROM cmq_create_queue('dead'); SELECT cmq_create_queue('dying')});
like($front->complaint(q{CALL cmq_cluster.adopt_queue('dying', '{2,3}')}), qr/These differ: dead_letter_queue/, 'queues are not the same whose dead-letter policies are not');

#
# Arguments
#
foreach (
	[ q{CALL cmq_cluster.create_queue(NULL)}, 'the name of a queue or topic must not be NULL' ],
	[ q{CALL cmq_cluster.rewind(NULL, now())}, 'the name of a queue or topic must not be NULL' ],
	[ q{CALL cmq_cluster.create_topic(NULL)}, 'the name of a queue or topic must not be NULL' ],
	[ q{CALL cmq_cluster.grant('q', 'select', NULL)}, 'role must not be NULL' ],
	[ q{CALL cmq_cluster.restore_messages('q', '{7}')}, 'message 7 is of no node of queue "q"' ],
	[ q{CALL cmq_cluster.restore_messages('q', '{{1,2},{3,4}}')}, 'msg_ids for queue "q" must be an array of one dimension without NULL' ],
	[ q{CALL cmq_cluster.restore_messages('q', '{1,NULL}')}, 'msg_ids for queue "q" must be an array of one dimension without NULL' ],
	[ q{CALL cmq_cluster.remove_node(1, NULL)}, 'lost must not be NULL' ],
	[ q{SELECT cmq_cluster.drain_node(1, NULL)}, 'accepts must not be NULL' ])
{
	my ($call, $error) = @$_;
	like($front->complaint("\\set VERBOSITY verbose\n$call"), qr/ERROR:  22023: \Q$error\E\n/, $call);
}

#
# A front without nodes, and a copy of one
#
$front->sql('CREATE DATABASE empty');
$front->sql('CREATE EXTENSION cmq_cluster CASCADE', 'empty');
like($front->complaint(q{CALL cmq_cluster.add_user('manager')}, 'empty'), qr/there is no node that a role could connect to/, 'no user without nodes');
like($front->complaint(q{SELECT cmq_cluster.connection(consumer => 3)}, 'empty'), qr/there is no node/, '... and no connection');
$front->sql('CREATE DATABASE copy');
my $dump = $front->basedir . '/dump.sql';
# pg_dump says proleakproof, and is_sound() looks for leaks in the log
local $ENV{PGOPTIONS} = '-c log_statement=none';
command_ok([ 'pg_dump', '-d', $front->connstr('postgres'), '-f', $dump ], 'the database of the front is dumped');
command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-d', $front->connstr('copy'), '-f', $dump ], '... and restored');
is($front->sql('SELECT cluster FROM cmq_cluster.id', 'copy'), $front->sql('SELECT cluster FROM cmq_cluster.id'), '... with the id of the cluster');

$cluster->is_whole('in the end');

#
# Servers that are gone for good, the last thing that happens here
#
$front->sql(q{CALL cmq_cluster.create_queue('alone', nodes => '{1}')});
$cluster->node($_)->stop('immediate') foreach 1, 2;
$front->sql(q{INSERT INTO cmq_cluster.decision (gid, nodes, what) SELECT 'x:x:' || oid, '{2}', 'drop_queue' FROM pg_roles WHERE rolname = current_user});
like($front->complaint('CALL cmq_cluster.remove_node(1)'), qr/queue "alone" is on node 1 alone/, 'a node is not removed that has a queue alone');
$front->sql('DROP SERVER cmq_cluster_2 CASCADE');
like($front->sql('SELECT error FROM cmq_cluster.nodes WHERE node = 2'), qr/^node 2 cannot be reached: /, '... and one without a server cannot be reached');
$front->sql("CALL cmq_cluster.remove_node($_, lost => true)") foreach 2, 1;
is($front->sql('SELECT string_agg(node::text, $$ $$) FROM cmq_cluster.node'), 3, 'unless it is lost, also while another one does not answer, and with a decision of its own');
is($front->sql('SELECT string_agg(queue || node, $$ $$ ORDER BY queue) FROM cmq_cluster.place'), 'adopted3 q3', '... and a queue that was there alone is forgotten');
is($front->sql('SELECT count(*) FROM cmq_cluster.decision'), 0, '... and so is the decision');
is($front->sql('SELECT count(*) FROM cmq_cluster.q_q_all'), 0, '... and views are of the nodes that are left');
$cluster->stop;
done_testing();
