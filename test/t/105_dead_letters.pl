# Dead letters among many clients, with rollbacks, maintenance at work and a
# crash: each message is in one queue, once.  When several redrive it, it is back, once.

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
	SELECT FROM cmq_send_batch('source', array(SELECT 'm' || i FROM generate_series(1, $messages) i));
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
$load->signal('INT');
$load->finish;
all_are_there('all dead');
is($node->sql(q{SELECT DISTINCT headers #>> '{cmq_dead_letter,queue}', headers #>> '{cmq_dead_letter,reason}',
			headers #> '{cmq_dead_letter,receive_count}' FROM cmq.q_dead_live}),
	'source|max_receive_count|3', 'received three times, not more');

# Several send them back; one in four changes its mind.
my $redrive = $node->script('redrive', <<'SQL');
\set what random(1, 4)
BEGIN;
SELECT cmq_redrive('dead', 7);
\if :what = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
$node->start_pgbench(@clients, '-f', $redrive, '-t', '10')->succeeds('redriven by six clients');
all_are_there('redrive');
while ($node->sql(q{SELECT cmq_redrive('dead')}) > 0) { }
is($node->sql('SELECT count(*) FROM cmq.q_source_live'), $messages, 'all are back');
all_are_there('all back');

$node->stop;
done_testing();
