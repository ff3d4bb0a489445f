# Databases do not wait for one another: code in the queues of one database takes all
# time of the worker there, and the other databases are maintained all the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use PostgreSQL::Test::Utils;
use Test::More;

# default places for workers, and the default limit of a step: five minutes
my $node = CmqNode->configured('main');
$node->start;

my $busy = q{SELECT pid, backend_start FROM pg_stat_activity WHERE backend_type = 'cmq worker' AND wait_event = 'PgSleep' AND datname = };

sub asleep
{
	my ($db, $name) = @_;
	return $node->poll("SELECT count(*) = 1 FROM ($busy '$db') s", $name);
}

# In each of these the statistics of four queues run code that does not end in time.  They
# are a superuser's, who never rests.
foreach my $db ('va', 'vc', 'vd')
{
	$node->sql("CREATE DATABASE $db");
	$node->sql(q{
		CREATE EXTENSION cmq;
		CREATE FUNCTION public.slow(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$;
		SELECT FROM generate_series(1, 4) i, cmq_create_queue('slow' || i);
		CREATE INDEX ON cmq_data.q_slow1 (public.slow(body)); CREATE INDEX ON cmq_data.q_slow2 (public.slow(body));
		CREATE INDEX ON cmq_data.q_slow3 (public.slow(body)); CREATE INDEX ON cmq_data.q_slow4 (public.slow(body));
		SELECT FROM generate_series(1, 4) i, cmq_send('slow' || i, 'x');
		CREATE OR REPLACE FUNCTION public.slow(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(100000); RETURN 1; END $$;}, $db);
}
foreach my $db ('vb', 've')
{
	$node->sql("CREATE DATABASE $db");
	$node->sql(q{CREATE EXTENSION cmq; SELECT FROM cmq_create_queue('good')}, $db);
}
# one of the slow ones alone at first
$node->sql("ALTER DATABASE $_ ALLOW_CONNECTIONS false") foreach 'vc', 'vd';
$node->set('cmq.maintenance_interval', '1s');

asleep('va', 'a worker is held up in one database');
my $worker = $node->sql("$busy 'va'");
$node->maintained('good', "... $_ is maintained meanwhile", $_) foreach 'vb', 've', 'vb', 've';
is($node->sql("$busy 'va'"), $worker, '... while the one still is where it was');

$node->sql("ALTER DATABASE $_ ALLOW_CONNECTIONS true") foreach 'vc', 'vd';
foreach my $round (1 .. 3)
{
	foreach my $db ('vb', 've')
	{
		$node->maintained('good', "three databases are slow: $db is maintained", $db);
	}
	cmp_ok($node->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmq worker' AND datname IN ('va', 'vc', 'vd')}), '<=', 2, '... and they leave places to others');
}
$node->logs(qr/terminating background worker "cmq worker" due to administrator command/, 'who turns out to be slow has to leave the last place');
my $left = $node->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmq worker'});
cmp_ok($left, '<=', 2, 'no more workers than there are places for');

# When their code is quick again they are like the others.
$node->sql(q{CREATE OR REPLACE FUNCTION public.slow(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$}, $_) foreach 'va', 'vc', 'vd';
$node->sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'cmq worker' AND wait_event = 'PgSleep'});
foreach my $db ('va', 'vc', 'vd')
{
	$node->sql(q{SELECT FROM cmq_create_queue('good')}, $db);
	$node->maintained('good', "$db is maintained again", $db);
}

# The launcher ends while workers are at work, and comes again.
$node->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'cmq launcher'});
$node->maintained('good', 'a new launcher goes on', 'vb');
$node->sql('DROP DATABASE ve');
$node->maintained('good', 'without a database that is gone', 'vb');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
