# A bad page in a table of a queue, as a broken disk leaves it: calls that meet the page
# say so, messages elsewhere are sent, received and deleted, and after the repair that
# docs/operations.md shows every message that was not on the page is there, each in one state.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my ($repair) = slurp_file("$top/docs/operations.md") =~ /^## Damage\n.*?```sql\n(.*?)```/ms;
ok($repair, 'docs/operations.md has a repair');

my $node = CmqNode->running('main', <<'CONF', extra => ['--data-checksums']);
autovacuum = off
statement_timeout = 120s
CONF

sub leaf
{
	my ($queue, $which) = @_;
	return $node->sql("SELECT $which FROM cmq.partition WHERE queue = '$queue' ORDER BY lower LIMIT 1");
}

# A bad page; the last one of the table is -1.
sub spoil
{
	my ($table, $page) = @_;
	my ($file, $size) = split /\|/, $node->sql("CHECKPOINT; SELECT pg_relation_filepath('$table'), pg_relation_size('$table')");
	$node->stop;
	$node->corrupt_page_checksum($file, 8192 * $page + ($page < 0 ? $size : 0));
	$node->start;
	return;
}

sub repair
{
	my ($queue, $table) = @_;
	my $sql = $repair =~ s/(VACUUM FULL) \S+;/$1 $table;/r =~ s/orders/$queue/gr;
	foreach my $statement (split /;\s*/, $sql =~ s/--.*//gr)
	{
		$node->sql("SET client_min_messages = error; SET zero_damaged_pages = on; $statement");
	}
	return;
}

# The numbers of messages that are received and deleted, call after call, until two of
# them get nothing.
sub consume
{
	my ($queue, $n) = @_;
	my @got;
	for (my $empty = 0; $empty < 2;)
	{
		my ($out) = $node->both(qq{
			WITH got AS MATERIALIZED (SELECT * FROM cmq_receive('$queue', $n))
			SELECT split_part(body, ' ', 1) FROM got WHERE cmq_delete('$queue', receipt_handle)});
		push @got, split /\n/, $out;
		$empty = $out eq '' ? $empty + 1 : 0;
	}
	return join ' ', sort { $a <=> $b } @got;
}

# 100 messages, some on each of several pages.
sub fill
{
	my ($queue, $settings) = @_;
	return $node->sql(qq{SELECT FROM cmq_create_queue('$queue', visibility_timeout => 43200$settings);
		SELECT FROM cmq_send_batch('$queue', array(SELECT i || ' ' || repeat('x', 500) FROM generate_series(1, 100) i))});
}

# Numbers of the messages that have a row on a page of a table.
sub on_page
{
	my ($queue, $table, $page) = @_;
	return split ' ', $node->sql("SELECT string_agg(split_part(m.body, ' ', 1), ' ' ORDER BY enqueued_at) FROM cmq_data.q_$queue m JOIN $table t USING (enqueued_at)
		WHERE (t.ctid::text::point)[0] = $page");
}

sub but
{
	my %not = map { $_ => 1 } @_;
	return join ' ', grep { !$not{$_} } 1 .. 100;
}

# Are all messages in one state, and are there no states without a message?
sub is_sound
{
	my ($queue) = @_;
	return $node->sql(qq{SELECT count(*) FILTER (WHERE n <> 1 OR m IS NULL) = 0 FROM (
		SELECT m.enqueued_at AS m, count(s.enqueued_at) AS n FROM cmq_data.q_$queue m
		FULL JOIN (SELECT enqueued_at FROM cmq_data.q_${queue}_pending UNION ALL SELECT enqueued_at FROM cmq_data.q_${queue}_rewind) s USING (enqueued_at)
		GROUP BY 1) x});
}


foreach my $settings ('', ', rewind_seconds => 43200')
{
	my $queue = $settings eq '' ? 'plain' : 'kept';

	note "$queue: a page in the midst of a partition of messages";
	fill($queue, $settings);
	my $leaf = leaf($queue, 'messages');
	my @bad = on_page($queue, $leaf, 2);
	my $id = $node->sql("SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_$queue ORDER BY enqueued_at OFFSET $bad[0] - 1 LIMIT 1");
	cmp_ok(scalar(@bad), '>', 5, 'there are messages on the page');
	spoil($leaf, 2);
	is($node->sql("SELECT count(cmq_delete('$queue', receipt_handle)) FROM cmq_receive('$queue', $bad[0] - 1)"), $bad[0] - 1, 'what stands before them is received');
	like($node->complaint("SELECT body FROM cmq_receive('$queue')"), qr/ERROR:  invalid page in block 2 of relation .*\nCONTEXT:  message $id of queue "$queue"$/m, 'then an error says which message');
	like($node->complaint("BEGIN; SELECT FROM cmq_receive('$queue'); ROLLBACK"), qr/WARNING:  reading message $id of queue "$queue" failed: invalid page in block 2/, '... then a warning does');
	is($node->sql("BEGIN; SELECT split_part(body, ' ', 1) FROM cmq_receive('$queue', 1, NULL, 30); ROLLBACK"), $bad[-1] + 1, '... and who waits for a message has the next one');
	is(consume($queue, 7), join(' ', $bad[-1] + 1 .. 100), '... and all others are received once');
	is($node->sql("SELECT active_msg_num, inactive_msg_num FROM cmq_queue_attributes('$queue')"), '0|' . @bad, '... those on the page are in flight');
	is($node->sql("SELECT cmq_send('$queue', '101 new') > $id"), 't', 'sends go on');
	is(consume($queue, 1000), '101', '... and receives, without trying the page again');

	# nothing but messages that cannot be read: it must not sleep on its claims
	$node->sql("UPDATE cmq_data.q_${queue}_pending SET visible_at = enqueued_at");
	is($node->sql("SELECT count(*) FROM cmq_receive('$queue', 1, NULL, 30)"), '0', 'a receive that could wait');
	is($node->sql("SELECT count(*) FROM cmq.metrics WHERE queue = '$queue' AND waits = 0 AND inactive_msg_num = " . @bad), '1', '... returns to commit that they are put off');

	repair($queue, $leaf);
	is(is_sound($queue), 't', 'after the repair each message is in one state');
	is($node->sql("SELECT count(*) FROM cmq.q_${queue}_live"), '0', '... those on the page are gone');
	is($node->sql("SELECT cmq_restore('$queue', '-infinity')"), 101 - @bad, '... the history is there') if $settings;
	is(consume($queue, 1000), but(@bad) . ' 101', '... to be received again') if $settings;
	$node->sql("SELECT cmq_drop_queue('$queue')");

	note "$queue: the last page of messages";
	fill($queue, $settings);
	$leaf = leaf($queue, 'messages');
	@bad = on_page($queue, $leaf, $node->sql("SELECT pg_relation_size('$leaf') / 8192 - 1"));
	spoil($leaf, -1);
	is($node->sql("SELECT active_msg_num FROM cmq_queue_attributes('$queue')"), '100', 'a queue can be used after a start, although its newest message cannot be read');
	# with 16 and later they write to a new page
	like($node->complaint("SELECT cmq_send('$queue', 'x')"), $node->pg_version->major < 16 ? qr/ERROR:  invalid page/ : qr/^$/, '... but for sends, which write there');
	is(consume($queue, 7) =~ s/^x //r, but(@bad), '... what is elsewhere is received');
	repair($queue, $leaf);
	is($node->sql("SELECT cmq_send('$queue', '101 new') > 0"), 't', '... after the repair sends go on');
	is(consume($queue, 1000), '101', '... and receives');
	is(is_sound($queue), 't', '... each message is in one state');
	$node->sql("SELECT cmq_drop_queue('$queue')");

	note "$queue: a page of pending";
	fill($queue, $settings);
	is($node->sql("SELECT count(cmq_delete('$queue', receipt_handle)) FROM cmq_receive('$queue', 10)"), '10', 'some are consumed');
	spoil("cmq_data.q_${queue}_pending", 0);
	like($node->complaint("SELECT FROM cmq_receive('$queue')"), qr/ERROR:  invalid page in block 0/, 'no receive');
	repair($queue, "cmq_data.q_${queue}_pending");
	is(is_sound($queue), 't', '... before the repair: then each message is in one state');
	is($node->sql("SELECT active_msg_num FROM cmq_queue_attributes('$queue')"), '90', '... what was not consumed is ready');
	is(consume($queue, 7), but(1 .. 10), '... and received');
	$node->sql("SELECT cmq_drop_queue('$queue')");
}

foreach my $settings ('', ', rewind_seconds => 43200')
{
	my $name = $settings eq '' ? 'consumes' : 'consumes with rewind';
	fill('eaten', $settings);
	my $leaf = leaf('eaten', 'messages');
	my @bad = on_page('eaten', $leaf, 2);
	spoil($leaf, 2);
	like($node->complaint(q{SELECT FROM cmq_consume('eaten', 100)}), qr/ERROR:  invalid page in block 2 of relation .*\nCONTEXT:  message \d+ of queue "eaten"$/m, "$name: an error says which message");
	is($node->sql(q{SELECT active_msg_num FROM cmq_queue_attributes('eaten')}), '100', '... and nothing was consumed');
	my @got = map { split /\n/, ($node->both(q{SELECT split_part(body, ' ', 1) FROM cmq_consume('eaten', 7, 0)}))[0] } 1 .. 100;
	is(join(' ', @got), but(@bad), '... then all others are, each once');
	is($node->sql(q{SELECT active_msg_num, inactive_msg_num, rewind_msg_num FROM cmq_queue_attributes('eaten')}),
		join('|', 0, scalar @bad, $settings ? 100 - @bad : 0), '... those on the page are in flight');
	repair('eaten', $leaf);
	is(is_sound('eaten'), 't', '... after the repair each message is in one state');
	$node->sql(q{SELECT cmq_drop_queue('eaten')});
}

note 'by ids';
fill('named', ', rewind_seconds => 43200');
# else their pending rows are found without a look at the messages
my $move = q{UPDATE cmq_data.q_named_pending SET visible_at = enqueued_at + interval '1 us'};
$node->sql($move);
my $named = leaf('named', 'messages');
my @unread = on_page('named', $named, 2);
spoil($named, 2);
my $ids = q{ARRAY(SELECT cmq.msg_id(enqueued_at) FROM cmq_data.q_named_pending)};
like($node->complaint("SELECT FROM cmq_receive_messages('named', $ids)"), qr/ERROR:  invalid page in block 2 of relation .*\nCONTEXT:  message \d+ of queue "named"$/m, 'an error says which message');
is(($node->both("SELECT count(*) FROM cmq_receive_messages('named', $ids)"))[0], 100 - @unread, '... then all others are received');
is($node->sql("SELECT inactive_msg_num FROM cmq_queue_attributes('named')"), '100', '... and all are in flight');
$node->sql($move);
is($node->sql("SELECT count(*) FROM cmq_delete_messages('named', $ids)"), '100', '... and with rewind all can be deleted, for the repair');
repair('named', $named);
is(is_sound('named'), 't', '... after which each message is in one state');
$node->sql(q{SELECT cmq_drop_queue('named')});

note 'messages that were removed by hand';
fill('gaps', ', rewind_seconds => 43200');
$node->sql(q{DELETE FROM cmq_data.q_gaps WHERE split_part(body, ' ', 1)::int <= 10});
is($node->sql(q{SELECT split_part(body, ' ', 1) FROM cmq_consume('gaps')}), '11', 'a consume has the next one');
is($node->sql(q{SELECT split_part(body, ' ', 1) FROM cmq_consume('gaps')}), '12', '... and the one behind that');
is($node->sql(q{SELECT inactive_msg_num FROM cmq_queue_attributes('gaps')}), '10', '... for which it has put them off');
$node->sql(q{SELECT cmq_drop_queue('gaps')});

note 'a body in a TOAST table';
$node->sql(q{SELECT FROM cmq_create_queue('large', visibility_timeout => 43200);
	ALTER TABLE cmq_data.q_large ALTER body SET STORAGE external});
$node->sql(q{SELECT FROM cmq_send_batch('large', array(SELECT i || ' ' || repeat('x', 9000) FROM generate_series(1, 10) i))});
my $leaf = leaf('large', 'messages');
$node->sql("ALTER TABLE $leaf ALTER body SET STORAGE external");
spoil($node->sql("SELECT reltoastrelid::regclass FROM pg_class WHERE oid = '$leaf'::regclass"), 2);
my $got = consume('large', 3);
like($got, qr/ 10$/, 'what is behind it is received');
my @lost = split ' ', $node->sql(q{SELECT string_agg(cmq.msg_id(enqueued_at)::text, ' ') FROM cmq_data.q_large_pending WHERE receive_count > 0});
is(split(' ', $got) + @lost, 10, 'all but what is damaged');
$node->sql("SET zero_damaged_pages = on; DELETE FROM cmq_data.q_large WHERE enqueued_at = cmq.enqueued_at($_)") foreach @lost;
repair('large', $leaf);
is(is_sound('large'), 't', 'after the repair each message is in one state');
is($node->sql(q{SELECT cmq_send('large', '11') > 0}), 't', '... and sends go on');
is(consume('large', 3), '11', '... and receives');

note 'dead letters';
$node->sql(q{SELECT FROM cmq_create_queue('dead')});
fill('sick', ', rewind_seconds => 43200');
$node->sql(q{SELECT FROM cmq_receive('sick', 1000);
	UPDATE cmq_data.q_sick_pending SET visible_at = enqueued_at;
	SELECT FROM cmq_alter_queue('sick', dead_letter_queue => 'dead', max_receive_count => 1)});
$leaf = leaf('sick', 'messages');
my @sick = on_page('sick', $leaf, 2);
spoil($leaf, 2);
$node->sql(q{SELECT cmq_send('sick', '101 fresh')});
is($node->sql(q{SELECT split_part(body, ' ', 1) FROM cmq_receive('sick', 10)}), '101', 'those that cannot be read hold up no other');
# the worker's first round may be at it
my $complaint;
foreach (1 .. 20)
{
	$complaint = $node->complaint(q{SELECT cmq_maintain('sick')});
	last if $complaint =~ /statistics/;
}
unlike($complaint, qr/ERROR/, 'maintenance by hand does not fail');
like($complaint, qr/WARNING:  counts and statistics of queue "sick" failed: invalid page/, '... but for the statistics, which it says');
$node->poll(q{SELECT string_agg(split_part(body, ' ', 1), ' ' ORDER BY split_part(body, ' ', 1)::int) FROM cmq.q_dead_live}, '... and all that can be read are moved', wanted => but(@sick));
is($node->sql(q{SELECT active_msg_num, inactive_msg_num FROM cmq_queue_attributes('sick')}), @sick . '|1', '... the others stay');

note 'a page of the history';
fill('past', ', rewind_seconds => 43200');
is(consume('past', 100), but(), 'all are consumed');
$node->sql(q{SELECT cmq_send('past', '101 new') FROM cmq_rewind('past', (SELECT min(enqueued_at) FROM cmq.q_past_history))});
$leaf = leaf('past', 'rewind');
my @stateless = on_page('past', $leaf, 0);
spoil($leaf, 0);
like($node->complaint(q{SELECT FROM cmq_receive('past', 1000)}), qr/ERROR:  invalid page in block 0/, 'a rewind that meets it stops consumers');
$node->sql(q{SELECT cmq_cancel_rewind('past')});
is($node->sql(q{SELECT split_part(body, ' ', 1) FROM cmq_receive('past', 1000)}), '101', '... but a cancel has them go on');
repair('past', $leaf);
is(is_sound('past'), 't', 'after the repair each message is in one state');
is($node->sql(q{SELECT count(*) FROM cmq_receive('past', 1000)}), scalar(@stateless), '... and what had its state there is ready again');

$node->stop;
$node->is_sound('the server has nothing else to complain about');
done_testing();
