package ClientTrial;

# What a client library does with cmq, and its consumer in examples/consumer: 300, 308.
#
#   clients_node()                               a server for them, which the environment names
#   try_client($node, 'psycopg', \@check, \@consumer)    commands that take a queue last

use strict;
use warnings;

use CmqNode;
use Exporter qw(import);
use PostgreSQL::Test::Utils qw(run_log);
use Test::More;

our @EXPORT = qw(clients_node try_client);

sub clients_node
{
	# JDBC has no Unix sockets
	my $node = CmqNode->running('clients', <<'CONF');
listen_addresses = '127.0.0.1'
cmq.maintenance_interval = 1min
CONF

	$node->sql(q{
		CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text NOT NULL, amount numeric NOT NULL CHECK (amount > 0),
			booked_at timestamptz NOT NULL DEFAULT now());
	});
	@ENV{qw(PGHOST PGPORT PGDATABASE PGUSER HOME)} =
	  ('127.0.0.1', $node->port, 'postgres', $node->sql('SELECT current_user'), $node->basedir);
	return $node;
}

sub try_client
{
	my ($node, $name, $check, $consumer) = @_;
	_types($node, $name, @$check);
	_orders($node, $name, @$consumer, 'orders');
	_restarts($node, $name, @$consumer, 'orders');
	return;
}

# The program says of each thing whether it is as it should be.
sub _types
{
	my ($node, $name, @check) = @_;
	$node->sql(q{SELECT FROM cmq_create_queue('types', rewind_seconds => 3600)});
	my ($out, $err) = ('', '');
	my $ok = run_log([ @check, 'types' ], '>', \$out, '2>', \$err);
	ok($ok, "$name: check") or diag($err);
	my @checks = grep { /ok - / } split /\n/, $out;
	cmp_ok(scalar(@checks), '>=', 8, "$name: all checks were made");
	foreach (@checks)
	{
		my ($result, $what) = /^((?:not )?ok) - (.*)/;
		is($result, 'ok', "$name: $what");
	}
	is($node->sql(q{SELECT DISTINCT client_addr FROM cmq.rewinds WHERE queue = 'types'}), '127.0.0.1', "$name: its address is on the record");
	$node->sql(q{SELECT cmq_drop_queue('types')});
	return;
}

sub _orders
{
	my ($node, $name, @consumer) = @_;
	my $err = '';

	# the example: forty orders, and four messages that cannot be booked
	$node->sql(q{
		TRUNCATE ledger;
		SELECT FROM cmq_create_queue('dead');
		SELECT FROM cmq_create_queue('orders', rewind_seconds => 3600, dead_letter_queue => 'dead', max_receive_count => 2);
		SELECT count(*) FROM cmq_send_batch('orders', array(SELECT format('{"item": "apples", "amount": %s}', i) FROM generate_series(1, 40) i));
		SELECT count(*) FROM cmq_send_batch('orders', ARRAY['no json', '"no object"', '{"item": "minus", "amount": -1}', '{"item": null, "amount": 1}']);
	});
	ok(run_log([ @consumer, '--drain' ], '2>', \$err), "$name: consumer") or diag($err);
	is(() = $err =~ /^message \d+ failed: /mg, 4, "$name: four could not be booked");
	is($node->sql('SELECT count(*), sum(amount) FROM ledger'), '40|820', "$name: the others were");
	is($node->sql('SELECT inactive_msg_num FROM cmq_queue_attributes(\'orders\')'), '4', "$name: the four are to come again");
	$node->sql(q{UPDATE cmq_data.q_orders_pending SET visible_at = enqueued_at});
	run_log([ @consumer, '--drain' ], '2>', \$err);
	$node->sql(q{UPDATE cmq_data.q_orders_pending SET visible_at = enqueued_at; SELECT cmq_maintain('orders')});
	is($node->sql('SELECT count(*) FROM cmq.q_dead_live'), '4', "$name: and end as dead letters");

	# a rewind: everything comes again, nothing is booked twice
	is($node->sql(q{SELECT cmq_rewind('orders', now() - interval '30 min') IS NOT NULL}), 't', "$name: rewind");
	ok(run_log([ @consumer, '--drain' ], '2>', \$err), "$name: consumer again") or diag($err);
	is($node->sql('SELECT count(*), sum(amount) FROM ledger'), '40|820', "$name: nothing is booked twice");
	is($node->sql('SELECT count(*) FROM cmq.q_orders_history WHERE rewind_count = 1'), '40', "$name: all came again");

	# it ends when it is told to, also while it waits
	my $run = CmqNode::Run->new(@consumer);
	$node->poll("SELECT count(*) = 1 $waiting", "$name: consumer waits");
	$run->signal('TERM');
	$run->finish;
	$node->poll(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query LIKE '%cmq_consume%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()}, "$name: and ends on SIGTERM");
	return;
}

# The server restarts: while the consumer waits, while it works, by a crash, and for
# as long as it takes to try in vain twice.  It goes on by itself; what it had received
# comes again when the visibility timeout is over, and nothing is lost or booked twice.
sub _restarts
{
	my ($node, $name, @consumer) = @_;

	$node->sql(q{
		TRUNCATE ledger;
		SELECT cmq_drop_queue('orders');
		SELECT FROM cmq_create_queue('orders', visibility_timeout => 5, rewind_seconds => 3600);
		CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN new; END $$;
		CREATE OR REPLACE TRIGGER slow BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION slow();
	});
	my $sent = 0;
	my $send = sub {
		$sent += 40;
		$node->sql(q{SELECT count(*) FROM cmq_send_batch('orders', array(SELECT '{"item": "pears", "amount": 1}' FROM generate_series(1, 40)))});
	};
	my $booked = sub {
		my ($n, $when) = @_;
		$node->poll("SELECT count(*) >= $n FROM ledger", "$name: $when");
	};
	my $run = CmqNode::Run->new(@consumer);
	$send->();
	$booked->(40, 'consumes');
	$node->restart;
	$send->();
	$booked->(45, 'goes on after a restart while it waited');
	$node->restart;
	$booked->(80, 'goes on after a restart while it worked');
	$send->();
	$booked->(85, 'consumes again');
	$node->crash;
	$booked->(120, 'goes on after a crash');
	$node->stop;
	$run->{err} = '';
	eventually { !$run->is_running || $run->{err} =~ /no connection, again in 4 s/ };
	like($run->{err}, qr/no connection.*again in 2 s.*\n(.*\n)*no connection.*again in 4 s/, "$name: tries again, with growing pauses");
	$node->start;
	$send->();
	$booked->(160, 'goes on after the server was away');
	$node->poll(q{SELECT active_msg_num + inactive_msg_num + delay_msg_num = 0 FROM cmq_queue_attributes('orders')}, "$name: nothing is left");
	is($node->sql('SELECT count(*), sum(amount) FROM ledger'), "$sent|$sent", "$name: all are booked");
	is($node->sql(q{SELECT count(*) FROM cmq.q_orders_history WHERE msg_id IN (SELECT msg_id FROM ledger)}), $sent, "$name: and deleted");
	unlike($run->{err}, qr/^message \d+ failed/m, "$name: no message was taken for one that fails");
	$node->stop;
	$run->signal('TERM');
	ok(eventually(sub { !$run->is_running }), "$name: ends on SIGTERM while the server is away");
	$run->kill;
	$node->start;
	$node->sql(q{DROP TRIGGER slow ON ledger});
	$node->sql(q{SELECT cmq_drop_queue('orders'); SELECT cmq_drop_queue('dead')});
	return;
}

1;
