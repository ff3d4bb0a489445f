# CMQ has transaction queues for this: a send beside a business change
# commits or vanishes with it, also across PREPARE TRANSACTION, a restart and a crash.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('business', 'max_prepared_transactions = 10');

$node->sql(q{
	CREATE TABLE orders (id int PRIMARY KEY);
	SELECT FROM cmq_create_queue('q');
	SELECT FROM cmq_create_queue('fan');
	SELECT FROM cmq_create_topic('topic');
	SELECT FROM cmq_subscribe('topic', 's', 'fan');
});

# An order, a message, a publication.
sub work
{
	my ($id) = @_;
	return "INSERT INTO orders VALUES ($id); SELECT cmq_send('q', 'order $id');
		SELECT FROM cmq_publish('topic', 'order $id');";
}

# The orders that are there must be the ones with messages, in both queues.
sub is_there
{
	my ($expected, $when) = @_;
	is($node->sql(q{SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders}), $expected, "$when: orders");
	foreach my $queue ('q', 'fan')
	{
		is($node->sql(qq{SELECT string_agg(substr(body, 7), ' ' ORDER BY substr(body, 7)::int) FROM cmq.q_${queue}_live}),
			$expected, "$when: messages in $queue");
	}
	return;
}

$node->sql('BEGIN;' . work(1) . 'COMMIT');
$node->sql('BEGIN;' . work(2) . 'ROLLBACK');
$node->sql('BEGIN;' . work(3) . 'SAVEPOINT s;' . work(4) . 'ROLLBACK TO s; COMMIT');
# an error in the business part takes the message along
$node->answer('BEGIN;' . work(5) . 'INSERT INTO orders VALUES (1); COMMIT');
# and one in the send the business part
$node->answer(q{BEGIN; INSERT INTO orders VALUES (6); SELECT cmq_send('q', ''); COMMIT});
is_there('1 3', 'one phase');

$node->sql('BEGIN;' . work($_) . "PREPARE TRANSACTION 'p$_'") foreach 10 .. 15;
is_there('1 3', 'prepared');
is($node->sql(q{SELECT count(*) FROM cmq_receive('q', 10, 1) WHERE body > 'order 1' AND body <> 'order 3'}),
	'0', 'what is prepared is not received');
$node->sql(q{COMMIT PREPARED 'p10'; ROLLBACK PREPARED 'p11'});
is_there('1 3 10', 'ended');
$node->restart;
is_there('1 3 10', 'restarted');
$node->sql(q{COMMIT PREPARED 'p12'; ROLLBACK PREPARED 'p13'});
is_there('1 3 10 12', 'ended after a restart');
$node->crash;
is_there('1 3 10 12', 'crashed');
$node->sql(q{COMMIT PREPARED 'p14'; ROLLBACK PREPARED 'p15'});
is_there('1 3 10 12 14', 'ended after a crash');

# all of them can be received, once
$node->wait_until(q{SELECT count(*) = 5 FROM cmq.q_q_live WHERE state = 'ready'});
is($node->sql(q{SELECT string_agg(body, ', ' ORDER BY substr(body, 7)::int) FROM cmq_receive('q', 10)}),
	'order 1, order 3, order 10, order 12, order 14', 'received');

# Consumed with its effect, or not at all.
$node->sql(q{CREATE TABLE booked (body text UNIQUE)});
my $book = q{WITH m AS MATERIALIZED (SELECT * FROM cmq_receive('fan', 1, 43200)), d AS MATERIALIZED (
		SELECT body FROM m WHERE cmq_delete('fan', receipt_handle)) INSERT INTO booked SELECT body FROM d};
$node->sql("BEGIN; $book; PREPARE TRANSACTION 'consume'");
$node->restart;
is($node->sql('SELECT count(*) FROM booked'), '0', 'not booked yet');
$node->sql(q{ROLLBACK PREPARED 'consume'});
$node->sql("BEGIN; $book; PREPARE TRANSACTION 'consume'");
$node->crash;
$node->sql(q{COMMIT PREPARED 'consume'});
is($node->sql('SELECT body FROM booked'), 'order 1', 'booked once');
is($node->sql('SELECT count(*) FROM cmq.q_fan_live'), '4', 'and consumed once');

$node->stop;
done_testing();
