# Without shared_preload_libraries the extension can be created, and each call
# says what is missing; with it everything works; taking it away again loses
# nothing.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Test::More;

my $node = CmqNode->new('main');
$node->init;
$node->append_conf('postgresql.conf', 'statement_timeout = 120s');
$node->start;

# one call of each function
my %call = (
	cmq_create_queue => "cmq_create_queue('orders')",
	cmq_alter_queue => "cmq_alter_queue('orders', visibility_timeout => 5)",
	cmq_drop_queue => "cmq_drop_queue('orders')",
	cmq_queue_attributes => "cmq_queue_attributes('orders')",
	cmq_send => "cmq_send('orders', 'm')",
	cmq_send_batch => "cmq_send_batch('orders', ARRAY['m'])",
	cmq_receive => "cmq_receive('orders')",
	cmq_receive_messages => "cmq_receive_messages('orders', '{1}')",
	cmq_consume => "cmq_consume('orders')",
	cmq_delete_messages => "cmq_delete_messages('orders', '{1}')",
	cmq_delete => "cmq_delete('orders', '1-1-1-0')",
	cmq_delete_batch => "cmq_delete_batch('orders', ARRAY['1-1-1-0'])",
	cmq_change_visibility => "cmq_change_visibility('orders', '1-1-1-0', 1)",
	cmq_change_visibility_batch => "cmq_change_visibility_batch('orders', ARRAY['1-1-1-0'], 1)",
	cmq_release => "cmq_release('orders', ARRAY['1-1-1-0'])",
	cmq_rewind => "cmq_rewind('orders', now())",
	cmq_clear_queue => "cmq_clear_queue('orders')",
	cmq_pause_queue => "cmq_pause_queue('orders')",
	cmq_resume_queue => "cmq_resume_queue('orders')",
	cmq_cancel_rewind => "cmq_cancel_rewind('orders')",
	cmq_history => "cmq_history('orders')",
	cmq_messages => "cmq_messages('orders', 'pending')",
	cmq_message => "cmq_message('orders', 1)",
	cmq_timeline => "cmq_timeline('orders', now() - interval '1 h', now())",
	cmq_rewind_preview => "cmq_rewind_preview('orders', now())",
	cmq_restore => "cmq_restore('orders', now())",
	cmq_restore_messages => "cmq_restore_messages('orders', '{1}')",
	cmq_replay => "cmq_replay('orders', 'other', now())",
	cmq_unbind_dead_letter => "cmq_unbind_dead_letter('orders')",
	cmq_redrive => "cmq_redrive('orders')",
	cmq_create_topic => "cmq_create_topic('topic')",
	cmq_drop_topic => "cmq_drop_topic('topic')",
	cmq_subscribe => "cmq_subscribe('topic', 's', 'orders')",
	cmq_unsubscribe => "cmq_unsubscribe('topic', 's')",
	cmq_publish => "cmq_publish('topic', 'm')",
	cmq_publish_batch => "cmq_publish_batch('topic', ARRAY['m'])",
	cmq_maintain => "cmq_maintain('orders')");

sub check_calls_fail
{
	my ($when) = @_;

	foreach my $function (sort keys %call)
	{
		my ($rc, $stdout, $stderr) = $node->psql('postgres',
			"\\set VERBOSITY verbose\nSELECT * FROM $call{$function}");

		is($rc, 3, "$when: $function fails");
		like($stderr,
			qr/ERROR:  55000: cmq is not in "shared_preload_libraries"/,
			"$when: $function says why");
		like($stderr, qr/shared_preload_libraries = 'cmq'/,
			"$when: $function names the line for postgresql.conf");
	}
}

$node->sql('CREATE EXTENSION cmq');
pass('CREATE EXTENSION works without preloading');

is( $node->sql(q(
	SELECT string_agg(DISTINCT proname, ' ' ORDER BY proname)
	  FROM pg_proc JOIN pg_depend d
		ON d.classid = 'pg_proc'::regclass AND d.objid = pg_proc.oid AND d.deptype = 'e'
	  JOIN pg_extension e ON d.refobjid = e.oid
	 WHERE extname = 'cmq' AND pronamespace = 'public'::regnamespace)),
	join(' ', sort keys %call),
	'the list of calls is complete');

check_calls_fail('not preloaded');

like($node->complaint("SELECT * FROM cmq_maintain()"), qr/cmq is not in "shared_preload_libraries"/,
	'maintenance of all queues fails as well');

like($node->complaint("LOAD 'cmq';\nSELECT cmq_send('orders', 'm')"), qr/cmq is not in "shared_preload_libraries"/,
	'LOAD is not enough');

is($node->sql('SELECT count(*) FROM cmq.queues'),
	'0', 'the list of queues can be read');

# With the line in place.
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\n");
$node->restart;

$node->poll("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cmq launcher'", 'preloaded: there is one launcher');
is( $node->sql(q(
	SELECT FROM cmq_create_queue('orders', rewind_seconds => 3600);
	SELECT count(*) FROM cmq_send_batch('orders', ARRAY['m1', 'm2']);
	SELECT cmq_delete('orders', receipt_handle) FROM cmq_receive('orders');
	SELECT FROM cmq_maintain();
	SELECT string_agg(body, ' ') FROM cmq.q_orders_live;
	SELECT string_agg(body, ' ') FROM cmq.q_orders_history)),
	"2\nt\nm2\nm1", 'preloaded: everything works');
is( $node->sql('SHOW cmq.max_queues; SHOW cmq.maintenance_interval; SHOW cmq.async_receive'),
	"1000\n1min\non",
	'preloaded: the settings are there');

# A second server setting that takes it away again.
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$node->restart;
check_calls_fail('taken away');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cmq'\n");
$node->restart;
is( $node->sql(q(
	SELECT cmq_rewind('orders', now() - interval '1 hour') IS NOT NULL;
	SELECT string_agg(body, ' ') FROM cmq_receive('orders', 10))),
	"t\nm1 m2", 'back again: no message is lost');

$node->stop;

done_testing();
