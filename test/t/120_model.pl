# A random program of all public functions on several sessions, whose transactions
# overlap, checked after each step against a simple model of the queues: RandomCalls.pm and
# QueueModel.pm have them.  CMQ_TEST_SEED repeats a run.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use RandomCalls;
use Seed;
use Test::More;

my $full_program = 700;
my $steps = $ENV{CMQ_TEST_STEPS} || ($ENV{CMQ_TEST_LONG} ? 10_000 : $full_program);

my $node = CmqNode->running('model', <<'CONF');
max_prepared_transactions = 20
lock_timeout = 10s
log_lock_waits = on
client_min_messages = error
CONF

my $server = server('model', $node);
my @sessions = @{ $server->{sessions} };
my ($most_open, %totals) = (0);

sub add_totals
{
	foreach my $counted (values %{ $model->{counted} })
	{
		$totals{$_} += $counted->{$_} foreach keys %$counted;
	}
	$totals{duplicates} += $model->{duplicates};
	return;
}

sub begin_anew
{
	# each of them may be ordered
	my %ordered = map { $_ => pick(0, 1) } qw(q copy dead);
	my $create = join ";\n\t\t\t", map { my ($name, %settings) = @$_; "PERFORM cmq_create_queue('$name', " . join(', ', map { "$_ => '$settings{$_}'" } sort keys %settings) . ')' } first_queues(%ordered);
	$server->{observer}->query_safe(qq{
		DO \$\$
		DECLARE
			r record;
		BEGIN
			FOR r IN SELECT topic, subscription FROM cmq.subscriptions LOOP
				PERFORM cmq_unsubscribe(r.topic, r.subscription);
			END LOOP;
			FOR r IN SELECT topic FROM cmq.topics LOOP
				PERFORM cmq_drop_topic(r.topic);
			END LOOP;
			FOR r IN SELECT queue FROM cmq.queues ORDER BY dead_letter_queue NULLS LAST LOOP
				PERFORM cmq_drop_queue(r.queue);
			END LOOP;
			$create;
			CREATE INDEX broken ON cmq_data.q_dead_pending (breaks(receive_count));
			PERFORM cmq_create_topic('news'), cmq_create_topic('routes', 'routing');
			PERFORM cmq_subscribe('news', 's1', 'q', '{a}'), cmq_subscribe('routes', 's1', 'copy', binding_keys => '{a.#}');
		END \$\$});
	forget_all();
	model_first_queues(%ordered);
	return;
}

# what has drawn numbers so far must not matter
srand(seed());
turn_to($server);
begin_anew();
for my $step (1 .. $steps)
{
	# for a while transactions overlap, then they do not, and tables can be changed
	my $overlap = $step / 25 % 2;
	end_all() unless $overlap;
	push @trace, "step $step";
	age() if !$overlap && rand() < 0.1;
	end_delays() if !$overlap && rand() < 0.2;
	step(pick(@sessions), $overlap);
	check();

	my $open = @{ $server->{prepared} } + scalar grep { $_->{open} } @sessions;
	$most_open = $open if $open > $most_open;
	my $size = 0;
	$size += $model->messages($stranger, $_) foreach qw(q dead copy extra);
	if (!$disagree && ($size > 150 || $step == $steps))
	{
		end_all();
		check();
		check_rewinds();
		add_totals();
		begin_anew() unless $disagree;
	}
	last if $disagree;
}
report("$steps steps, $transactions transactions, at most $most_open of them open, $prepares prepared");
note('messages ', join ', ', map { "$_ $totals{$_}" } sort keys %totals);
if (!$disagree && $steps >= $full_program)
{
	my @functions = split /\n/, $server->{observer}->query_safe(q{SELECT DISTINCT proname FROM pg_proc WHERE proname LIKE 'cmq\_%' AND pronamespace = 'public'::regnamespace});
	is(join(' ', grep { !$called{$_} } @functions), '', 'all public functions took part, of ' . @functions);
	cmp_ok($totals{duplicates}, '>', 0, 'so did duplicates');
}
$_->quit foreach $server->{observer}, map { $_->{psql} } @sessions;
$node->stop;
done_testing();
