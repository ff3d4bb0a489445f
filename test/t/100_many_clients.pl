# Many clients at once send, receive, delete, give back and roll back, at all
# isolation levels: every message is delivered until it is deleted, and no more, and
# no two clients hold one.  The same with rewinds under load: exactly the promised
# messages come again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('main', <<'CONF');
cmq.maintenance_interval = 1s
max_connections = 40
statement_timeout = 120s
CONF

# Each transaction logs what it did in the same transaction, so a rolled back
# one leaves no trace.  No visibility timeout ends during the test: a message
# is received again only after it was given back or rewound.
$node->sql(q(
CREATE TABLE sent (msg_id bigint PRIMARY KEY);
CREATE TABLE taken (handle text PRIMARY KEY, msg_id bigint, rewind_count int, receive_count int);
-- how a delivery ended: deleted, or given back
CREATE TABLE ended (handle text PRIMARY KEY, deleted bool, xid xid8 DEFAULT pg_current_xact_id());
-- what was committed before a rewind, and after it
CREATE TABLE rewinds (before pg_snapshot, after pg_snapshot, lower timestamptz);
SELECT FROM cmq_create_queue('load', visibility_timeout => 43200,
							 msg_retention_seconds => 86400, rewind_seconds => 3600);
));

# The clients' scripts.  \gset variables are pasted into the next command.
my $send = q(
\set n random(1, 4)
\set end random(1, 5)
BEGIN ISOLATION LEVEL %s;
INSERT INTO sent SELECT cmq_send_batch('load', array_fill('body of client ' || :client_id, ARRAY[:n]));
INSERT INTO sent SELECT cmq_send('load', 'one of client ' || :client_id);
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
);

# Receive some; then delete some of them and give one back, in the same
# transaction or in the next one; each transaction may roll back.
my $consume = q(
\set n random(1, 5)
\set end random(1, 6)
BEGIN ISOLATION LEVEL %1$s;
WITH got AS MATERIALIZED (
	SELECT * FROM cmq_receive('load', :n)),
log AS (
	INSERT INTO taken SELECT receipt_handle, msg_id, rewind_count, receive_count FROM got)
SELECT coalesce(string_agg(receipt_handle, ',' ORDER BY msg_id) FILTER (WHERE random() < 0.9), '') AS handles,
	   coalesce(min(receipt_handle), '1-1-1-0') AS back FROM got
\gset
\if :end = 1
ROLLBACK;
\else
\if :end < 4
COMMIT;
BEGIN ISOLATION LEVEL %1$s;
\endif
SAVEPOINT one;
INSERT INTO ended SELECT ':back', false WHERE cmq_change_visibility('load', ':back', 0) IS NOT NULL;
\set one random(1, 4)
\if :one > 1
ROLLBACK TO SAVEPOINT one;
\endif
INSERT INTO ended SELECT h, true FROM cmq_delete_batch('load', string_to_array(':handles', ',')) AS h;
\if :end = 3
ROLLBACK;
\else
COMMIT;
\endif
\endif
);

# One single transaction of receive and delete, one message.
my $single = q(
BEGIN ISOLATION LEVEL %s;
WITH got AS MATERIALIZED (
	SELECT * FROM cmq_receive('load')),
log AS (
	INSERT INTO taken SELECT receipt_handle, msg_id, rewind_count, receive_count FROM got)
INSERT INTO ended SELECT receipt_handle, true FROM got WHERE cmq_delete('load', receipt_handle);
COMMIT;
);

# Everything deleted by transactions that the first snapshot sees must come
# again; nothing deleted by one that the second does not see may.
my $rewind = q(
\set end random(1, 4)
BEGIN;
INSERT INTO rewinds SELECT pg_current_snapshot();
UPDATE rewinds SET lower = cmq_rewind('load', now() - interval '1 hour') WHERE after IS NULL;
UPDATE rewinds SET after = pg_current_snapshot() WHERE after IS NULL;
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
);

my $maintain = "SELECT cmq_maintain('load');\n";

my @levels = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');

# run_load writes the scripts into files, and wants new ones each time
my $run = 0;

sub scripts
{
	my (%weight) = @_;
	my %text = (
		send => $send,
		consume => $consume,
		single => $single,
		rewind => $rewind,
		maintain => $maintain);
	my %files;

	$run++;

	foreach my $what (sort keys %weight)
	{
		if ($text{$what} =~ /%/)
		{
			foreach my $level (@levels)
			{
				(my $name = "${what}_${level}_$run") =~ s/ /_/g;
				$files{"$name\@$weight{$what}"} =
				  sprintf($text{$what}, $level);
			}
		}
		else
		{
			$files{"${what}_$run\@$weight{$what}"} = $text{$what};
		}
	}
	return \%files;
}

# Run n transactions on each of 8 clients; no transaction may fail.
sub run_load
{
	my ($name, $n, %weight) = @_;
	$node->pgbench(
		"-n -M simple -c 8 -j 2 -t $n",
		0,
		[
			qr/number of transactions actually processed: (\d+)\/\1\b/,
			qr/number of failed transactions: 0 /
		],
		[qr/^(?!.*(ERROR|aborted))/s],
		$name,
		scripts(%weight));
}

# End every delivery that is still open, and receive and delete the rest.
sub drain
{
	my ($name) = @_;

	is($node->sql(q(
		INSERT INTO ended SELECT h, true
		  FROM cmq_delete_batch('load', array(
				SELECT handle FROM taken EXCEPT SELECT handle FROM ended)) AS h;
		SELECT count(*) FROM (SELECT handle FROM taken EXCEPT SELECT handle FROM ended) AS o)),
		'0',
		"$name: each delivery not ended was still held by its receiver");
	my $n;
	do
	{
		$n = $node->sql(q(
		WITH got AS MATERIALIZED (
			SELECT * FROM cmq_receive('load', 1000)),
		log AS (
			INSERT INTO taken SELECT receipt_handle, msg_id, rewind_count, receive_count FROM got),
		del AS (
			INSERT INTO ended SELECT receipt_handle, true FROM got WHERE cmq_delete('load', receipt_handle))
		SELECT count(*) FROM got));
	} while ($n > 0);
}

# What must hold whenever everything is consumed.
sub check
{
	my ($name) = @_;

	is($node->sql(q(
		SELECT count(*) FROM sent;
		SELECT count(*) FROM cmq_data.q_load;
		SELECT count(*) FROM cmq.q_load_history)),
		join("\n", ($node->sql('SELECT count(*) FROM sent')) x 3),
		"$name: everything sent and nothing else is in the history");
	is($node->sql(q(
		SELECT count(*) FROM sent FULL JOIN cmq.q_load_history USING (msg_id)
		 WHERE sent.msg_id IS NULL OR enqueued_at IS NULL)),
		'0',
		"$name: message by message");
	is($node->sql('SELECT count(*) FROM cmq.q_load_live'),
		'0', "$name: nothing is left in the queue");
	is($node->sql(q(
		SELECT count(*) FROM (SELECT msg_id FROM taken EXCEPT SELECT msg_id FROM sent) AS m)),
		'0',
		"$name: nothing was delivered that was not sent");

	# A delivery ends once: handles are the primary key of ended.  Deliveries
	# of one message and rewind are numbered from 1 without gaps, and all but
	# the last were given back: so no two were open at the same time.
	is($node->sql(q(
		SELECT t.msg_id, t.rewind_count,
			   string_agg(receive_count || CASE WHEN deleted THEN ' deleted'
										   WHEN NOT deleted THEN ' given back'
										   ELSE ' open' END, ', ' ORDER BY receive_count)
		  FROM taken t LEFT JOIN ended e USING (handle)
		 GROUP BY 1, 2
		HAVING max(receive_count) <> count(*)
			OR count(DISTINCT receive_count) <> count(*)
			OR count(*) FILTER (WHERE e.deleted) <> 1
			OR max(receive_count) FILTER (WHERE e.deleted) <> max(receive_count)
			OR count(*) FILTER (WHERE NOT e.deleted) <> count(*) - 1
		 ORDER BY 1 LIMIT 10)),
		'',
		"$name: no message was held by two, each was deleted once");
	is($node->sql(q(
		SELECT count(*) FROM (
			SELECT msg_id
			  FROM taken JOIN ended USING (handle) JOIN cmq.q_load_history h USING (msg_id)
			 WHERE deleted
			 GROUP BY msg_id, h.rewind_count
			HAVING array_agg(taken.rewind_count ORDER BY taken.rewind_count)
					<> array(SELECT generate_series(0, h.rewind_count))) AS bad)),
		'0',
		"$name: one deletion for each time a message was sent or rewound");
}

note 'more receivers than messages';

# Nearly all receives find nothing; what is sent is received all the same.
$node->sql("SELECT FROM cmq_create_queue('empty', visibility_timeout => 43200, rewind_seconds => 3600)");
$node->pgbench(
	'-n -M prepared -c 8 -j 2 -t 3000',
	0,
	[qr/number of failed transactions: 0 /],
	[qr/^(?!.*(ERROR|aborted))/s],
	'receive from an empty queue',
	{
		'empty_receive@20' =>
		  "SELECT count(*) FROM cmq_delete_batch('empty', array(SELECT receipt_handle FROM cmq_receive('empty', 10)));\n",
		'empty_send@1' => "SELECT cmq_send('empty', 'm');\n"
	});
is($node->sql(q(
	SELECT count(*) > 0 FROM cmq_data.q_empty;
	SELECT FROM cmq_delete_batch('empty', array(SELECT receipt_handle FROM cmq_receive('empty', 1000)));
	SELECT count(*) FROM cmq.q_empty_live;
	SELECT count(*) FROM cmq_data.q_empty FULL JOIN cmq.q_empty_history USING (enqueued_at) WHERE msg_id IS NULL)),
	"t\n0\n0",
	'empty: every message was received and deleted');

note 'without rewind';

run_load('send, receive, delete', 300, send => 3, consume => 3, single => 2);
drain('load');
check('load');
is($node->sql('SELECT max(rewind_count) FROM taken'), '0', 'load: no rewind');

note 'with rewinds under load';

run_load(
	'send, receive, delete, rewind, maintain', 300,
	send => 2,
	consume => 4,
	single => 4,
	rewind => 1,
	maintain => 1);
drain('rewinds');
check('rewinds');
cmp_ok($node->sql('SELECT count(*) FROM rewinds'), '>', 5, 'rewinds: there were some');
cmp_ok($node->sql('SELECT max(rewind_count) FROM taken'),
	'>', 0, 'rewinds: messages came again');

# deletion k of a message, and whether deletion k + 1 followed
$node->sql(q(
	CREATE VIEW deletion AS
	SELECT t.msg_id, t.rewind_count, e.xid, again.msg_id IS NOT NULL AS came_again
	  FROM taken t JOIN ended e ON e.handle = t.handle AND e.deleted
	  LEFT JOIN taken again
		ON again.msg_id = t.msg_id AND again.rewind_count = t.rewind_count + 1
	   AND again.receive_count = 1));
is($node->sql(q(
	SELECT count(*) FROM deletion d
	 WHERE NOT came_again
	   AND EXISTS (SELECT FROM rewinds r WHERE pg_visible_in_snapshot(d.xid, r.before)))),
	'0',
	'rewinds: what was deleted before a rewind came again');
is($node->sql(q(
	SELECT count(*) FROM deletion d
	 WHERE came_again
	   AND NOT EXISTS (SELECT FROM rewinds r WHERE pg_visible_in_snapshot(d.xid, r.after)))),
	'0',
	'rewinds: what was not deleted before any rewind did not');

note 'one rewind to a time, then load';

my $total = $node->sql('SELECT count(*) FROM sent');
my $start = $node->sql(
	"SELECT enqueued_at FROM cmq_data.q_load ORDER BY 1 OFFSET $total / 2 LIMIT 1");
$node->sql(q(CREATE TABLE promised AS SELECT msg_id, rewind_count, enqueued_at FROM cmq.q_load_history));
is($node->sql("SELECT cmq_rewind('load', '$start') = '$start'"),
	't', 'promise: the rewind begins where it should');
run_load('consume a rewind', 200, send => 1, consume => 3, single => 3);
drain('promise');
check('promise');
is($node->sql(qq(
	SELECT count(*) FROM promised p JOIN cmq.q_load_history h USING (msg_id)
	 WHERE h.rewind_count <> p.rewind_count + (p.enqueued_at >= '$start')::int)),
	'0',
	'promise: exactly the promised messages came again');
is($node->sql(q(
	SELECT count(*) FROM cmq.q_load_history h
	 WHERE rewind_count <> 0 AND NOT EXISTS (SELECT FROM promised p WHERE p.msg_id = h.msg_id))),
	'0',
	'promise: new messages came once');
is($node->sql(q(SELECT count(*) FROM ended WHERE deleted)),
	$node->sql(q(SELECT sum(rewind_count + 1) FROM cmq.q_load_history)),
	'promise: sent and rewound are what was deleted');

$node->stop;

done_testing();
