# Databases do not wait for one another: code in the queues of one takes the worker's
# whole time there, and the others are maintained all the same.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
# default places for workers, and the default limit of a step: five minutes
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cmq'
cmq.maintenance_interval = '1h'
fsync = off
CONF
$node->start;

sub sql
{
	my ($sql, $db) = @_;
	return $node->safe_psql($db // 'postgres', $sql);
}

# Maintenance has been here: it saves the clock of a queue in use.
sub maintained
{
	my ($db, $name) = @_;
	sql("SELECT cmq_send('good', 'x')", $db);
	my $sent = sql(q{SELECT max(enqueued_at) FROM cmq_data.q_good}, $db);
	return ok($node->poll_query_until($db, "SELECT clock >= '$sent' FROM cmq.queue WHERE name = 'good'"), $name);
}

my $busy = q{SELECT pid, backend_start FROM pg_stat_activity WHERE backend_type = 'cmq worker' AND wait_event = 'PgSleep' AND datname = };

sub asleep
{
	my ($db, $name) = @_;
	return ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM ($busy '$db') s"), $name);
}

# In each of these the statistics of four queues run code that does not end in time.  They
# are a superuser's, who never rests.
foreach my $db ('va', 'vc', 'vd')
{
	sql("CREATE DATABASE $db");
	sql(q{
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
	sql("CREATE DATABASE $db");
	sql(q{CREATE EXTENSION cmq; SELECT FROM cmq_create_queue('good')}, $db);
}
# one of the slow ones alone at first
sql("ALTER DATABASE $_ ALLOW_CONNECTIONS false") foreach 'vc', 'vd';
sql(q{ALTER SYSTEM SET cmq.maintenance_interval = '1s'});
$node->reload;

asleep('va', 'a worker is held up in one database');
my $worker = sql("$busy 'va'");
maintained($_, "... $_ is maintained meanwhile") foreach 'vb', 've', 'vb', 've';
is(sql("$busy 'va'"), $worker, '... while the one still is where it was');

sql("ALTER DATABASE $_ ALLOW_CONNECTIONS true") foreach 'vc', 'vd';
foreach my $round (1 .. 3)
{
	foreach my $db ('vb', 've')
	{
		maintained($db, "three databases are slow: $db is maintained");
	}
	cmp_ok(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmq worker' AND datname IN ('va', 'vc', 'vd')}), '<=', 2, '... and they leave places to others');
}
ok($node->wait_for_log(qr/terminating background worker "cmq worker" due to administrator command/) > 0, 'who turns out to be slow has to leave the last place');
my $left = sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cmq worker'});
cmp_ok($left, '<=', 2, 'no more workers than there are places for');

# When their code is quick again they are like the others.
sql(q{CREATE OR REPLACE FUNCTION public.slow(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 1; END $$}, $_) foreach 'va', 'vc', 'vd';
sql(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'cmq worker' AND wait_event = 'PgSleep'});
foreach my $db ('va', 'vc', 'vd')
{
	sql(q{SELECT FROM cmq_create_queue('good')}, $db);
	maintained($db, "$db is maintained again");
}

# The launcher ends while workers are at work, and comes again.
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'cmq launcher'});
maintained('vb', 'a new launcher goes on');
sql('DROP DATABASE ve');
maintained('vb', 'without a database that is gone');

my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|terminated by signal|still referenced|XX000/, 'the server has nothing to complain about');
$node->stop;
done_testing();
