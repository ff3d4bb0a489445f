# Dead letters among many clients, with rollbacks, maintenance at work and a
# crash: each message is in one queue, once.  When several redrive it, whatever comes or
# chosen ones, it is back, once.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->running('dead', 'cmq.maintenance_interval = 1s');

my $messages = 400;

# Every body is in one of the two queues, as one message with one state.
sub all_are_there
{
	my ($when) = @_;
	return is(
		$node->sql(qq{
			WITH there AS (
				SELECT body FROM cmq.q_source_live UNION ALL SELECT body FROM cmq.q_dead_live)
			SELECT count(*), count(DISTINCT body) FROM there}),
		"$messages|$messages", "$when: each message is in one queue, once")
	  && is(
		$node->sql(q{SELECT (SELECT count(*) FROM cmq_data.q_source) + (SELECT count(*) FROM cmq_data.q_dead WHERE enqueued_at IN
				(SELECT enqueued_at FROM cmq_data.q_dead_pending))}),
		$messages, "$when: and so are the bodies");
}

$node->sql(qq{
	SELECT FROM cmq_create_queue('dead');
	SELECT FROM cmq_create_queue('source', visibility_timeout => 43200, dead_letter_queue => 'dead', max_receive_count => 3);
	SELECT FROM cmq_send_batch('source', array(SELECT 'm' || i FROM generate_series(1, $messages) i),
		headers => array(SELECT jsonb_build_object('half', i % 2) FROM generate_series(1, $messages) i));
});

# A consumer that fails: what it receives is ready again at once.
my $script = $node->script('fail', <<'SQL');
\set what random(1, 4)
BEGIN;
SELECT count(*) FROM (
	SELECT cmq_change_visibility('source', receipt_handle, 0) FROM cmq_receive('source', 3)) r;
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
my @clients = ('-c', '6', '-j', '2');

# until half of them are dead, then the power fails
my $load = $node->start_pgbench(@clients, '-f', $script, '-T', '60');
$node->wait_until("SELECT count(*) > $messages / 2 FROM cmq_data.q_dead_pending");
$node->stop('immediate');
$load->finish;
$node->start;
all_are_there('after a crash');

# until all are
$load = $node->start_pgbench(@clients, '-f', $script, '-T', '60');
$node->wait_until("SELECT count(*) = $messages FROM cmq_data.q_dead_pending");
$load->signal('TERM');
$load->finish;
all_are_there('all dead');
is($node->sql(q{SELECT DISTINCT headers #>> '{cmq_dead_letter,queue}', headers #>> '{cmq_dead_letter,reason}',
			headers #> '{cmq_dead_letter,receive_count}' FROM cmq.q_dead_live}),
	'source|max_receive_count|3', 'received three times, not more');

# Several send them back; one in four changes its mind.
my $redrive = $node->script('redrive', <<'SQL');
\set what random(1, 4)
\set how random(1, 3)
BEGIN;
\if :how = 1
SELECT cmq_redrive('dead', 5);
\elif :how = 2
SELECT cmq_redrive('dead', 5, '{"half": 1}');
\else
SELECT cmq_redrive('dead', msg_ids => array(SELECT msg_id FROM cmq.q_dead_live ORDER BY random() LIMIT 5));
\endif
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
$node->start_pgbench(@clients, '-f', $redrive, '-t', '10')->succeeds('redriven by six clients');
all_are_there('redrive');
my %left = map { $_ => $node->sql("SELECT count(*) FROM cmq.q_dead_live WHERE headers @> '{\"half\": $_}'") } 0, 1;
cmp_ok($left{0}, '>', 0, 'some are left');
is($node->sql(q{SELECT cmq_redrive('dead', filter => '{"half": 0}')}), $left{0}, 'those of one half by filter');
is($node->sql(q{SELECT count(*) FROM cmq.q_dead_live WHERE headers @> '{"half": 0}'}), '0', '... all of them');
is($node->sql(q{SELECT count(*) FROM cmq.q_dead_live}), $left{1}, '... and no other');
all_are_there('redrive by filter');
is($node->sql(q{SELECT cmq_redrive('dead', msg_ids => array(SELECT msg_id FROM cmq.q_dead_live ORDER BY msg_id LIMIT 10))}), $left{1} < 10 ? $left{1} : 10, 'ten by their ids');
while ($node->sql(q{SELECT cmq_redrive('dead')}) > 0) { }
is($node->sql('SELECT count(*) FROM cmq.q_source_live'), $messages, 'all are back');
all_are_there('all back');

$node->stop;
done_testing();
