# pg_upgrade from an older major with queues in all states: what was there is
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
is($to->sql(q{SELECT cmq_maintain(); SELECT count(*) > 0 FROM cmq.partition}), "\nt", 'maintenance works');

$to->stop;
done_testing();
