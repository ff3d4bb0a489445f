# pg_upgrade from an older major with queues, groups and keys in all states: what was there is
# there, and the queues go on working.  Skipped unless an older PostgreSQL with cmq
# is installed beside this one, as test/versions does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

my ($bindir, $major);
{
	my ($out, $err) = run_command([ 'pg_config', '--version' ]);
	($major) = $out =~ /(\d+)/;
	($bindir) = run_command([ 'pg_config', '--bindir' ]);
}

# the oldest one that cmq was installed for
my ($old) = grep {
	$_->{major} < $major && -x "$_->{path}/bin/postgres" && -e "/usr/share/postgresql/$_->{major}/extension/cmq.control"
  } sort { $a->{major} <=> $b->{major} }
  map { m{/(\d+)$} ? { path => $_, major => $1 } : () } glob('/usr/lib/postgresql/*');
plan skip_all => "no PostgreSQL older than $major with cmq is on this machine" unless defined $old;

sub everything
{
	my ($node) = @_;
	return $node->sql(q{
		SELECT * FROM cmq.queues ORDER BY queue;
		SELECT * FROM cmq_data.q_ordered_pending ORDER BY enqueued_at; SELECT * FROM cmq_data.q_ordered_rewind ORDER BY enqueued_at;
		SELECT queue, lower, upper, messages, rewind, dedup FROM cmq.partition ORDER BY queue, lower;
		SELECT tableoid::regclass, * FROM cmq_data.q_once_dedup ORDER BY enqueued_at;
		SELECT * FROM cmq.topics; SELECT * FROM cmq.subscriptions; SELECT * FROM cmq.rewinds ORDER BY id}) . $node->contents;
}

my @init = (extra => [ '--encoding=UTF8', '--no-locale' ]);
my $from = CmqNode->running([ 'old', install_path => $old->{path} ], '', @init);
$from->sql(q{
	CREATE ROLE consumer;
	SELECT FROM cmq_create_queue('dlq');
	SELECT FROM cmq_create_queue('a', visibility_timeout => 43200, rewind_seconds => 86400, dead_letter_queue => 'dlq', max_receive_count => 5);
	GRANT DELETE ON cmq.q_a TO consumer;
	SELECT FROM cmq_create_topic('t');
	SELECT FROM cmq_subscribe('t', 's', 'a', '{yes}');
	SELECT cmq_create_queue('b', rewind_seconds => 86400), cmq_create_queue('c');
	SELECT FROM cmq_create_topic('u');
	SELECT count(cmq_subscribe('u', q, q)) FROM unnest('{b,c}'::text[]) q;
	SELECT FROM cmq_publish_batch('u', '{p1,p2}');
	SELECT FROM cmq_consume('b', 1);
	SELECT FROM cmq_send_batch('a', '{d1,d2,d3,f4,r5}', headers => array_fill('{"x": 1}'::jsonb, '{5}'));
	SELECT FROM cmq_send('a', 'later', deliver_at => now() + interval '3 days');
	SET ROLE consumer;
	SELECT FROM cmq_delete_batch('a', array(SELECT receipt_handle FROM cmq_receive('a', 3)));
	RESET ROLE;
	SET cmq.reason = 'before the upgrade';
	SELECT FROM cmq_restore('a', (SELECT enqueued_at FROM cmq_data.q_a WHERE body = 'd3'));
	SELECT FROM cmq_rewind('a', (SELECT enqueued_at FROM cmq_data.q_a WHERE body = 'd1'));
});
my $handle = $from->handle('a');

# Groups: h is consumed; the rewind brings all of back and the first of flying, whose
# second is in flight; the first of off is put off; wait waits.  Keys: of a message that
# waits, of one that is consumed, and of one that has gone with its partition.
$from->sql(q{
	SELECT FROM cmq_create_queue('ordered', visibility_timeout => 43200, rewind_seconds => 86400, ordered => true);
	SELECT FROM cmq_send_batch('ordered', '{h1,back1,back2,flying1,back3,flying2,flying3,off1,off2,wait1,wait2,free}',
		message_groups => '{h,back,back,flying,back,flying,flying,off,off,wait,wait,NULL}');
	CREATE TABLE taken (body text, handle text);
	CREATE FUNCTION take(bodies text[]) RETURNS void LANGUAGE sql AS
	$$ INSERT INTO taken SELECT body, receipt_handle FROM cmq_receive_messages('ordered', array(SELECT msg_id FROM cmq.q_ordered_live WHERE body = ANY (bodies))) $$;
	SELECT take('{h1,back1,back2,flying1,off1}');
	SELECT cmq_delete('ordered', handle) FROM taken WHERE body <> 'off1';
	SELECT take('{flying2}');
	SELECT cmq_release('ordered', array(SELECT handle FROM taken WHERE body = 'off1'), 43200);
	SELECT cmq_rewind('ordered', (SELECT enqueued_at FROM cmq_data.q_ordered WHERE body = 'back1'));
	SELECT FROM cmq_create_queue('once', visibility_timeout => 43200, dedup_seconds => 86400);
	SELECT cmq_send('once', 'consumed', dedup_key => 'consumed'), cmq_send('once', 'waits', dedup_key => 'waits');
	SELECT cmq_delete('once', receipt_handle) FROM cmq_receive('once');
	DO $$
	DECLARE
		first timestamptz := (SELECT min(lower) FROM cmq.partition WHERE queue = 'once');
	BEGIN
		EXECUTE format('CREATE TABLE cmq_data.m_once_old PARTITION OF cmq_data.q_once FOR VALUES FROM (%1$L) TO (%2$L);
			CREATE TABLE cmq_data.r_once_old PARTITION OF cmq_data.q_once_rewind FOR VALUES FROM (%1$L) TO (%2$L);
			CREATE TABLE cmq_data.d_once_old (LIKE cmq_data.q_once_dedup, UNIQUE (key));
			ALTER TABLE cmq_data.q_once_dedup ATTACH PARTITION cmq_data.d_once_old FOR VALUES FROM (%1$L) TO (%2$L)', first - interval '1 hour', first);
		INSERT INTO cmq.partition VALUES ('once', first - interval '1 hour', first, 'cmq_data.m_once_old', 'cmq_data.r_once_old', 'cmq_data.d_once_old');
		INSERT INTO cmq_data.d_once_old VALUES ('old', first - interval '1 s');
		PERFORM cmq_alter_queue('once', visibility_timeout => 43200);
	END $$});
my $ids = $from->sql(q{SELECT string_agg(cmq.msg_id(enqueued_at)::text, ' ' ORDER BY key) FROM cmq_data.q_once_dedup});
# the rewind goes on behind what was received, as the first round there would say
$from->sql(q{SELECT cmq_maintain('a')});
my $before = everything($from);
my $last_id = $from->sql(q{SELECT max(msg_id) FROM cmq.q_a_all});
$from->stop;

# 18 has checksums by default; both must be the same
push @{ $init[1] }, '--no-data-checksums' if $major >= 18;
my $to = CmqNode->configured('new', '', @init);

chdir $to->basedir or die;
command_ok(
	[
		'pg_upgrade', '--no-sync', '-b', "$old->{path}/bin", '-B', $bindir, '-d', $from->data_dir, '-D', $to->data_dir,
		'-s', $to->host, '-p', $from->port, '-P', $to->port
	],
	"pg_upgrade from $old->{major} to $major");
$to->start;

is(everything($to), $before, 'all is as it was');
is($to->sql("SELECT cmq_delete('a', '$handle')"), 't', 'a handle of before is good');
cmp_ok($to->sql(q{SELECT cmq_send('a', 'new')}), '>', $last_id, 'ids go on increasing');
is( $to->sql(q{SELECT queue FROM cmq_publish('t', 'published', '{yes}')}),
	'a', 'the topic works');
is( $to->receive('a', 10),
	'd2 d3 f4 r5 new published', 'the rewind goes on, and what was waiting is received');
is($to->receive('c', 10), 'p1 p2', 'what was published to several queues is there');
is($to->sql(q{SELECT FROM cmq_restore('b', '-infinity'); SELECT queue FROM cmq_publish('u', 'p3'); SELECT string_agg(body, ' ' ORDER BY msg_id) FROM cmq_consume('b', 10)}),
	"b\nc\np1 p2 p3", '... and comes back');
is( $to->sql(q{
		SELECT FROM cmq_cancel_rewind('a');
		SELECT string_agg(body, ' ') FROM cmq_restore_messages('a', array(SELECT msg_id FROM cmq.q_a_history)) i JOIN cmq.q_a_all a ON a.msg_id = i}),
	'd1', 'history can be restored');

is($to->sql(q{SELECT blocked_groups FROM cmq.status WHERE queue = 'ordered'}), 2, 'groups are blocked');
$to->sql(q{SELECT FROM cmq_send_batch('ordered', '{wait3,off3,flying4,back4}', message_groups => '{wait,off,flying,back}')});
my $in_order = q{SELECT string_agg(body, ' ' ORDER BY message_group, ordinality) FROM cmq_receive('ordered', 100) WITH ORDINALITY};
is($to->sql($in_order), 'back1 back2 back3 back4 wait1 wait2 wait3 free', 'the others are received in order, with what is sent here');
is($to->sql(q{SELECT cmq_delete('ordered', handle) FROM taken WHERE body = 'flying2'}), 't', 'what was in flight is deleted');
is($to->sql($in_order), 'flying1 flying3 flying4', '... and its group goes on');
$to->sql(q{SELECT cmq_send('ordered', 'wait4', message_group => 'wait'), cmq_send('ordered', 'h2', message_group => 'h')});
is($to->sql($in_order), 'h2', 'what is received here blocks its group');
$to->sql(q{SELECT cmq_delete('ordered', receipt_handle) FROM cmq._deliveries_of('ordered', array(SELECT msg_id FROM cmq.q_ordered_live WHERE state = 'in_flight'), false);
	SELECT cmq_send('ordered', 'h3', message_group => 'h');
	SELECT FROM cmq_restore_messages('ordered', array(SELECT msg_id FROM cmq.q_ordered_history WHERE body IN ('h1', 'h2', 'wait2')))});
is($to->sql($in_order), 'h1 h2 h3 off2 off3 wait2 wait4', 'all that was had is deleted, groups go on, and history of before and after the upgrade comes back in order');

my $send = q{SELECT string_agg(cmq_send('once', key, dedup_key => key)::text, ' ' ORDER BY key COLLATE "C") FROM unnest('{consumed,old,waits}'::text[]) key};
is($to->sql($send), $ids, 'keys are known, and whose they are');
is($to->sql(q{SELECT cmq_send('once', 'new', dedup_key => 'new') = cmq_send('once', 'again', dedup_key => 'new')}), 't', '... and new ones');
is($to->receive('once'), 'waits new', '... and nothing is stored twice');

is($to->sql(q{SELECT cmq_maintain(); SELECT count(*) > 0 FROM cmq.partition}), "\nt", 'maintenance works');
is($to->sql($send), $ids, '... and leaves the keys');

$to->stop;
done_testing();
