# Sixteen buffers, and sessions that have read nothing yet: what a call has of a page is
# replaced by another page as soon as nothing keeps it.  Each call returns what was sent.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('buffers', <<'CONF');
autovacuum = off
cmq.maintenance_interval = 1h
CONF

$node->sql(q{
	CREATE ROLE consumer LOGIN SUPERUSER;
	SELECT FROM cmq_create_queue('q', rewind_seconds => 3600);
	SELECT count(*) FROM cmq_send_batch('q', array(SELECT format('body %s %s', i, repeat('.', 200)) FROM generate_series(1, 1000) i),
		headers => array(SELECT jsonb_build_object('n', i) FROM generate_series(1, 1000) i));
	SET SESSION AUTHORIZATION consumer;
	SELECT count(*) FROM cmq_consume('q', 500);
	RESET SESSION AUTHORIZATION;
	CREATE TABLE message AS SELECT row_number() OVER (ORDER BY msg_id) AS n, * FROM cmq.q_q_all});
$node->append_conf('postgresql.conf', 'shared_buffers = 128kB');
$node->restart;

my $columns = 'msg_id, state, deleted_at, deleted_by, receive_count, headers, body';
foreach my $n (1, 150, 300, 450, 500, 501, 650, 999)
{
	my ($id, @row) = split /\|/, $node->sql("SELECT msg_id, $columns FROM message WHERE n = $n");
	my $row = join '|', @row;
	my $after = $id - 1;
	my $part = $n <= 500 ? 'history' : 'pending';
	is($node->sql("SELECT $columns FROM cmq_message('q', $id)"), $row, "$n: cmq_message");
	is($node->sql("SELECT $columns FROM cmq_messages('q', '$part', cmq.enqueued_at($after), $after, max_messages => 1)"), $row, "$n: cmq_messages");
}
my $same = 'SELECT count(*) FROM message m JOIN %s h USING (msg_id, deleted_by, headers, body)';
is($node->sql(sprintf($same, "cmq_history('q')")), '500', 'cmq_history');
is($node->sql("SELECT count(*) FROM message m JOIN cmq_receive('q', 500) r USING (msg_id, headers, body)"), '500', 'cmq_receive');
is($node->sql("SELECT count(*) FROM message m JOIN cmq._deliveries_of('q', array(SELECT msg_id FROM message WHERE n > 500), true) d USING (msg_id, headers, body)"),
	'500', 'cmq._deliveries_of');
$node->is_sound;

done_testing();
