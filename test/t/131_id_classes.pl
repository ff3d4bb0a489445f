
# Several servers have queues of one name: ids of each are of a class of its own, whatever
# gives them out, through restart, crash, promotion and clocks that are ahead.  An id or a
# handle that came to the wrong server is an error, unless the queue has the message.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils qw(slurp_file);
use Test::More;

my $step = 16;

# a server before it has a class
my $node = CmqNode->running('old', undef, allows_streaming => 1);
$node->sql(q{
	SELECT FROM cmq_create_queue('q', visibility_timeout => 3600, rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('off');
	SELECT FROM cmq_create_queue('many');
	SELECT FROM cmq_create_queue('dead');
	SELECT FROM cmq_create_queue('ordered', ordered => true, dedup_seconds => 600, rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('letters', dead_letter_queue => 'dead', max_receive_count => 1);
	SELECT FROM cmq_create_topic('t');
	SELECT cmq_subscribe('t', 'a', 'q'), cmq_subscribe('t', 'b', 'off'), cmq_subscribe('t', 'c', 'ordered');
	SELECT count(cmq_send('q', 'old ' || i)) FROM generate_series(1, 40) i;
	SELECT count(cmq_send('off', 'old ' || i)) FROM generate_series(1, 40) i;
	SELECT FROM cmq_publish('t', 'old');
	CREATE TABLE old_handle AS
		SELECT 'q' AS queue, * FROM cmq_receive('q', 20) UNION ALL SELECT 'off', * FROM cmq_receive('off', 20)});

foreach ([ 16, 16 ], [ 1, 3 ])
{
	my ($n, $offset) = @$_;
	$node->sql("ALTER SYSTEM SET cmq.msg_id_step = $n; ALTER SYSTEM SET cmq.msg_id_offset = $offset");
	my $size = $node->log_size;
	$node->stop;
	ok(!$node->start(fail_ok => 1), "no server with class $offset of $n");
	like($node->log_since($size), qr/FATAL:  cmq.msg_id_offset must be less than cmq.msg_id_step\n.*DETAIL:  cmq.msg_id_offset is $offset, and cmq.msg_id_step is $n\./, '... and the log says why');
	open my $auto, '>', $node->data_dir . '/postgresql.auto.conf' or die;
	close $auto;
	$node->start;
}

sub set_class
{
	my ($server, $class) = @_;
	$server->sql("ALTER SYSTEM SET cmq.msg_id_step = $step");
	$server->sql("ALTER SYSTEM SET cmq.msg_id_offset = $class");
	$server->restart;
	return;
}

# Give out ids in all ways; what is not of the class.
sub others
{
	my ($server, $class) = @_;
	return $server->sql(qq{
		CREATE TEMP TABLE id (way text, id bigint);
		INSERT INTO id SELECT 'send', cmq_send('q', 'm') FROM generate_series(1, 50);
		INSERT INTO id SELECT 'batch', cmq_send_batch('q', array_fill('b'::text, ARRAY[500]));
		INSERT INTO id SELECT 'key', cmq_send('ordered', 'k', message_group => 'g', dedup_key => i || clock_timestamp()::text) FROM generate_series(1, 20) i;
		INSERT INTO id SELECT 'keys', msg_id FROM cmq_send_batch('ordered', array_fill('k'::text, ARRAY[20]), dedup_keys => array(SELECT i || clock_timestamp()::text FROM generate_series(1, 20) i)) msg_id;
		INSERT INTO id SELECT 'publish', p.msg_id FROM generate_series(1, 30) i, LATERAL cmq_publish('t', 'p' || i) p;
		INSERT INTO id SELECT 'publish_batch', p.msg_id FROM cmq_publish_batch('t', array_fill('p'::text, ARRAY[100])) p;
		SELECT FROM cmq_send_batch('letters', array_fill('l'::text, ARRAY[10]));
		SELECT FROM cmq_release('letters', array(SELECT receipt_handle FROM cmq_receive('letters', 10)), 0);
		SELECT FROM cmq_receive('letters', 10);
		INSERT INTO id SELECT 'letter', msg_id FROM cmq_receive('dead', 1000);
		SELECT FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM cmq_receive('q', 10)));
		SELECT FROM cmq_queue_attributes('q') a, LATERAL cmq_replay('q', 'dead', a.earliest_rewind_time);
		INSERT INTO id SELECT 'replay', msg_id FROM cmq_consume('dead', 1000);
		SELECT string_agg(DISTINCT way || ' ' || id % $step, ', ') FROM id WHERE id % $step <> $class;
		SELECT count(*) > 700 AND count(DISTINCT way) = 8 AND count(DISTINCT (way, id)) < count(*) + 1 FROM id});
}

set_class($node, 3);
is(others($node, 3), "\nt", 'ids are of the class of the server');
$node->restart;
is(others($node, 3), "\nt", '... after a restart');
$node->crash;
is(others($node, 3), "\nt", '... after a crash');

# a clock that is ahead goes on in steps
my @ahead = split /\n/, $node->sql(q{SELECT cmq_send_batch('many', array_fill('x'::text, ARRAY[20000]))});
cmp_ok($ahead[-1] - $ahead[0], '>=', 19999 * $step, 'a batch takes a step for each message');
is(scalar(grep { $_ % $step != 3 } @ahead), 0, '... is of the class');
is(scalar(grep { $ahead[$_] <= $ahead[ $_ - 1 ] } 1 .. $#ahead), 0, '... and increases');
is($node->sql(q{SELECT count(*) FROM cmq_receive('many', 1000)}), 1000, '... and can be received at once');

my $standby = $node->standby('standby');
$node->wait_for_catchup($standby);
$node->stop;
$standby->promote;
$node = $standby;
is(others($node, 3), "\nt", '... after a promotion');

#
# What came to the wrong server.
#
my $other = CmqNode->running('other', "cmq.msg_id_step = $step\ncmq.msg_id_offset = 5\n");
$other->sql(q{
	SELECT FROM cmq_create_queue('dead');
	SELECT FROM cmq_create_queue('q', visibility_timeout => 3600, rewind_seconds => 3600, dead_letter_queue => 'dead', max_receive_count => 5);
	SELECT FROM cmq_create_queue('off');
	SELECT cmq_send('q', 'own'), cmq_send('off', 'own')});
my ($handle, $id) = split /\|/, $other->sql(q{SELECT receipt_handle, msg_id FROM cmq_receive('q')});
my ($foreign_handle, $foreign) = split /\|/, $node->sql(q{SELECT receipt_handle, msg_id FROM cmq_receive('q', 1000) WHERE body !~ 'old' LIMIT 1});
is($foreign % $step, 3, 'a message of the first server');

foreach my $queue (qw(q off))
{
	foreach my $call (
		"cmq_delete('$queue', '$foreign_handle')",
		"cmq_delete_batch('$queue', '{$handle,$foreign_handle}')",
		"cmq_change_visibility('$queue', '$foreign_handle', 10)",
		"cmq_change_visibility_batch('$queue', '{$foreign_handle,$handle}', 10)",
		"cmq_release('$queue', '{$foreign_handle}')",
		"cmq_receive_messages('$queue', '{$id,$foreign}')",
		"cmq_delete_messages('$queue', '{$id,$foreign}')",
		"cmq_message('$queue', $foreign)",
		"cmq._deliveries_of('$queue', '{$foreign}', false)",
		$queue eq 'q' ? ("cmq_restore_messages('q', '{$id,$foreign}')", "cmq_redrive('dead', msg_ids => '{$foreign}')") : ())
	{
		my $where = $call =~ /redrive/ ? 'dead' : $queue;
		my $err = $other->complaint("\\set VERBOSITY verbose\nSELECT $call");
		like($err, qr/22023: message $foreign of queue "$where" is of another server\nDETAIL:  Its id is of class 3 \(msg_id % 16\), and this server gives out ids of class 5\.\nHINT:  Make the call on the server whose cmq\.msg_id_offset is 3\./,
			(split /'/, $call)[0] . "$queue', ...) refuses a message of another server");
	}
}
is($other->sql(q{SELECT string_agg(body || ' ' || state, ', ') FROM cmq.q_q_all}), 'own in_flight', 'nothing was done');
is($other->sql("SELECT cmq_delete('q', '$handle'), cmq_delete('q', '$handle')"), 't|f', 'a stale handle of its own is no error');

#
# What the queue has is its own, whatever its class.
#
cmp_ok($node->sql("SELECT count(*) FROM old_handle WHERE msg_id % $step <> 3"), '>', 20, 'messages from before the server had a class');
is($node->sql(q{SELECT queue, count(cmq_delete(queue, receipt_handle) OR NULL) FROM (SELECT * FROM old_handle WHERE queue = 'q' LIMIT 10) h GROUP BY 1}), 'q|10', '... are deleted');
is($node->sql(q{SELECT count(*) FROM cmq_delete_batch('q', array(SELECT receipt_handle FROM old_handle WHERE queue = 'q'))}), 10, '... and only what is left');
is($node->sql(q{SELECT count(*) FROM cmq_restore_messages('q', array(SELECT msg_id FROM old_handle WHERE queue = 'q'))}), 20, '... restored');
is($node->sql(q{SELECT count(*) FROM cmq_receive_messages('q', array(SELECT msg_id FROM old_handle WHERE queue = 'q'))}), 20, '... received');
is($node->sql(q{SELECT count(m.body) FROM old_handle, cmq_message('q', msg_id) m WHERE queue = 'q' AND state = 'in_flight'}), 20, '... looked at');
is($node->sql(q{SELECT count(*) FROM cmq_delete_batch('off', array(SELECT receipt_handle FROM old_handle WHERE queue = 'off'))}), 20, '... deleted for ever');
like($node->complaint("SELECT count(cmq_delete('off', receipt_handle)) FROM old_handle WHERE queue = 'off' AND msg_id % $step <> 3"), qr/is of another server/, 'then their ids are of another server');
is($node->sql(q{SELECT count(*) FROM cmq_delete_messages('off', array(SELECT msg_id FROM cmq.q_off_live WHERE body LIKE 'old %' AND state = 'ready'))}), 20, 'by id, too');
my $published = $node->sql(q{SELECT msg_id FROM cmq.q_q_all WHERE body = 'old'});
is($node->sql("SELECT count(*) FROM cmq_restore_messages('q', '{$published}')"), 1, 'and what was published');

$_->is_sound foreach $node, $other;
$_->stop foreach $node, $other;
done_testing();
