# examples/monitoring: postgres_exporter as a member of pg_monitor, Prometheus with the alarms, and the
# queries of the dashboard, fed by real queues, some of them with trouble, and one that is rewound.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use Clients;
use CmqNode;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Utils qw(run_log slurp_file);
use Test::More;

my ($exporter) = grep { defined } map { find_command($_) } qw(prometheus-postgres-exporter postgres_exporter);
plan skip_all => 'postgres_exporter is not installed' unless defined $exporter;

my $monitoring = "$top/examples/monitoring";
my $readme = slurp_file("$monitoring/README.md");
my $http = HTTP::Tiny->new(timeout => 10);

my $node = CmqNode->running([ 'monitoring' ], 'cmq.maintenance_interval = 1', allows_streaming => 1);
my $dir = $node->basedir;
my ($role) = $readme =~ /```sql\n(.*?)```/s;
# nothing may depend on the path of the role
$node->sql("$role; ALTER ROLE cmq_exporter SET search_path = nowhere");

sub free_port { return PostgreSQL::Test::Cluster::get_free_port() }

sub start_exporter
{
	my ($server) = @_;
	my $port = free_port();
	local $ENV{DATA_SOURCE_NAME} = 'user=cmq_exporter dbname=postgres sslmode=disable host=' . $server->host . ' port=' . $server->port;
	my $run = $server->beside($exporter, "--web.listen-address=127.0.0.1:$port", "--extend.query-path=$monitoring/queries.yaml",
		'--disable-default-metrics', '--disable-settings-metrics');
	return ($run, $port);
}

sub scrape
{
	my ($port) = @_;
	my $response = $http->get("http://127.0.0.1:$port/metrics");
	return $response->{success} ? $response->{content} : '';
}

sub values_of
{
	my ($metrics, $queue) = @_;
	return { $metrics =~ /^cmq_queue_(\w+)\{[^}]*queue="\Q$queue\E"[^}]*\} (\S+)/mg };
}

note 'queues, some of them in trouble';

$node->sql(q{
	SELECT FROM cmq_create_queue('shown', rewind_seconds => 3600, max_msg_heap_num => 1000, visibility_timeout => 43200);
	SELECT FROM cmq_send_batch('shown', '{a,b,c}');
	SELECT cmq_send('shown', 'later', 600);
	SELECT cmq_delete('shown', receipt_handle) FROM cmq_receive('shown', 1);
	SELECT FROM cmq_receive('shown', 1);
	SELECT cmq_rewind('shown', now() - interval '1 hour');

	SELECT FROM cmq_create_queue('idle');
	SELECT FROM cmq_create_queue('rewound', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('rewound', array_fill('m'::text, '{100}'));
	SELECT count(*) FROM cmq_consume('rewound', 100);
	SELECT cmq_rewind('rewound', now() - interval '1 hour');
	SELECT count(*) FROM cmq_consume('rewound', 60);
	SELECT FROM cmq_create_queue('restored', rewind_seconds => 3600);
	SELECT FROM cmq_send_batch('restored', array_fill('m'::text, '{100}'));
	SELECT count(*) FROM cmq_consume('restored', 100);
	SELECT cmq_restore('restored', now() - interval '1 hour');
	SELECT count(*) FROM cmq_consume('restored', 60);

	SELECT FROM cmq_create_queue('Odd-Letters', rewind_seconds => 3600);
	SELECT FROM cmq_create_queue('fails', visibility_timeout => 600, dead_letter_queue => 'Odd-Letters', max_receive_count => 1);
	SELECT FROM cmq_send_batch('fails', '{a,b}');
	SELECT cmq_change_visibility('fails', receipt_handle, 0) FROM cmq_receive('fails', 2);
	SELECT FROM cmq_receive('fails');

	SELECT FROM cmq_create_queue('full', max_msg_heap_num => 10);
	SELECT FROM cmq_send_batch('full', array_fill('m'::text, '{9}'));
	SELECT FROM cmq_create_queue('hangs', visibility_timeout => 43200);
	SELECT cmq_send('hangs', 'm');
	SELECT FROM cmq_receive('hangs');
	UPDATE cmq_data.q_hangs_pending SET first_received_at = first_received_at - interval '2 hours';
	SELECT FROM cmq_create_queue('stopped');
	SELECT cmq_send('stopped', 'm');
	UPDATE cmq_data.q_stopped_pending SET visible_at = visible_at - interval '20 minutes';
	SELECT FROM cmq_create_queue('paused');
	SELECT cmq_send('paused', 'm');
	SELECT cmq_pause_queue('paused');
	UPDATE cmq_data.q_paused_pending SET visible_at = visible_at - interval '20 minutes';
	SELECT FROM cmq_create_queue('forgotten');
	SELECT cmq_pause_queue('forgotten');
	UPDATE cmq.queue SET paused_since = paused_since - interval '2 days' WHERE name = 'forgotten';
	ALTER TABLE ONLY cmq_data.q_forgotten ALTER COLUMN body SET STATISTICS -1;
});

note 'the exporter';

my ($run, $port) = start_exporter($node);
my $metrics = '';
ok(eventually { $metrics = scrape($port); return $metrics =~ /^cmq_queue_/m || !$run->is_running }, 'the exporter answers') or diag $run->{err};
my $shown = values_of($metrics, 'shown');
my %expected = (
	sent_messages_total => 4,
	received_messages_total => 2,
	redelivered_messages_total => 0,
	rewound_messages_total => 0,
	deleted_messages_total => 1,
	dead_lettered_messages_total => 0,
	empty_receives_total => 0,
	waits_total => 0,
	sent_body_bytes_total => 8,
	ready_messages => 2,
	in_flight_messages => 1,
	delayed_messages => 1,
	history_messages => 0,
	left_of_rewind_messages => 1,
	paused_seconds => 0,
	retention_seconds => 345600,
	max_pending_messages => 1000,
	is_dead_letter_queue => 0);
cmp_ok($shown->{$_}, '==', $expected{$_}, $_) foreach sort keys %expected;
my @above_0 = qw(oldest_ready_seconds oldest_in_flight_seconds first_expiry_seconds pending_bytes history_bytes);
cmp_ok($shown->{$_}, '>', 0, $_) foreach @above_0;
is_deeply([ sort keys %$shown ], [ sort keys %expected, @above_0, 'unmaintained_seconds' ], 'and no others');
cmp_ok(values_of($metrics, 'Odd-Letters')->{is_dead_letter_queue}, '==', 1, 'a dead-letter queue');
cmp_ok(values_of($metrics, 'forgotten')->{paused_seconds}, '>', 86400, 'a queue that is paused');
is_deeply(
	[ sort +(slurp_file("$monitoring/queries.yaml") =~ /AS (\w+_\w+)/g, qw(unmaintained_seconds pending_bytes first_expiry_seconds)) ],
	[ sort keys %$shown ], 'all that is asked is shown');
foreach my $name (sort keys %$shown)
{
	like($readme, qr/`cmq_queue_$name`/, "README.md has cmq_queue_$name");
}
is($node->sql(q{SELECT string_agg(b.rolname, ' ') FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid WHERE m.member = 'cmq_exporter'::regrole}),
	'pg_monitor', 'the role is a member of pg_monitor and of nothing else');
is($node->sql(q{SELECT count(*) FROM pg_shdepend WHERE refobjid = 'cmq_exporter'::regrole}), '0', '... and nothing was granted to it');

SKIP:
{
	my $prometheus = find_command('prometheus');
	my $promtool = find_command('promtool');
	skip 'prometheus is not installed', 1 unless defined $prometheus && defined $promtool;

	note 'promtool';

	my ($out, $err) = ('', '');
	my $promtool_is_content = sub {
		my ($what, $input, @command) = @_;
		my $ok = run_log([ $promtool, @command ], '<', \$input, '>', \$out, '2>', \$err);
		ok($ok && $out . $err !~ /warn|duplicate/i, $what) or diag "$out$err";
	};
	my $names = join '', grep { /^(# (HELP|TYPE) )?cmq_/ } $metrics =~ /^.*\n/mg;
	$promtool_is_content->('promtool finds the names as they should be', $names, qw(check metrics));
	$promtool_is_content->('... and the rules', '', 'check', 'rules', "$monitoring/rules.yml");
	$promtool_is_content->('... which go off as they should', '', 'test', 'rules', "$monitoring/rules_test.yml");

	note 'Prometheus, with the numbers of the primary and of a standby';

	my $standby = $node->standby('standby');
	$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
	my ($standby_run, $standby_port) = start_exporter($standby);
	my $on_standby;
	ok(eventually { $on_standby = values_of(scrape($standby_port), 'shown'); %$on_standby || !$standby_run->is_running }, 'the exporter of the standby answers');
	is($on_standby->{$_}, 'NaN', "no $_ on a standby") foreach grep { /_total$|^unmaintained/ } sort keys %$on_standby;
	cmp_ok($on_standby->{$_}, '==', $expected{$_}, "$_ on a standby") foreach grep { !/_total$/ } sort keys %expected;

	# the rules as they are, but that a second is long enough, and README.md's configuration
	my $rules = slurp_file("$monitoring/rules.yml");
	cmp_ok($rules =~ s/^(\s+for: )\d+m$/${1}1s/mg, '>', 10, 'alarms wait');
	my ($config) = $readme =~ /```yaml\n(.*?)```/s;
	$config =~ s/^   //mg;
	ok($config =~ s/_interval: 30s/_interval: 1s/g && $config =~ s{/etc/prometheus/cmq/}{$dir/} && $config =~ s/'localhost:9187'/'127.0.0.1:$port', '127.0.0.1:$standby_port'/,
		'README.md has a configuration');
	PostgreSQL::Test::Utils::append_to_file("$dir/rules.yml", $rules);
	PostgreSQL::Test::Utils::append_to_file("$dir/prometheus.yml", $config);
	$promtool_is_content->('promtool finds it right', '', 'check', 'config', "$dir/prometheus.yml");
	my $prometheus_port = free_port();
	my $server = CmqNode::Run->new($prometheus, "--config.file=$dir/prometheus.yml", "--storage.tsdb.path=$dir/tsdb",
		"--web.listen-address=127.0.0.1:$prometheus_port", '--log.level=warn');

	# What the API answers: its data, or undef.
	my $ask = sub {
		my ($path, %parameters) = @_;
		my $response = $http->get("http://127.0.0.1:$prometheus_port/api/v1/$path" . (%parameters ? '?' . $http->www_form_urlencode(\%parameters) : ''));
		my $answer = eval { decode_json($response->{content}) } // {};
		$err = $answer->{error} // $response->{content};
		return ($answer->{status} // '') eq 'success' ? $answer->{data} : undef;
	};
	my $result = sub { my $data = $ask->('query', query => $_[0]); return $data ? $data->{result} : undef };
	my $firing = sub {
		return join ' ', sort map { "$_->{alertname}:" . ($_->{queue} // '') . (($_->{instance} // '') =~ /:$port$/ ? '' : ' elsewhere') }
		  map { $_->{metric} } @{ $result->('ALERTS{alertstate="firing"}') // [] };
	};

	my $all = 'CmqDeadLetters:Odd-Letters CmqInFlightTooLong:hangs CmqNobodyConsumes:stopped CmqPausedLong:forgotten CmqQueueNearlyFull:full';
	ok(eventually { $firing->() eq $all || !$server->is_running }, 'alarms go off') or diag $firing->() . "\n" . $server->{err};

	# a rewind beside, and what it brings back is consumed
	$node->sql(q{SELECT cmq_rewind('rewound', now() - interval '1 hour'); SELECT count(*) FROM cmq_consume('rewound', 70)});
	my $left = $node->sql(q{SELECT left_of_rewind FROM cmq.metrics WHERE queue = 'rewound'});
	cmp_ok($left, '>', 0, 'a rewind is under way');
	ok(eventually { @{ $result->(qq{count_over_time((cmq_queue_left_of_rewind_messages{queue="rewound", instance=~".*:$port"} == $left)[1m:1s]) > 10}) // [] } }, 'Prometheus has seen it 10 times');
	is($firing->(), $all, 'no alarm goes off because of a rewind');

	my $alerts = $ask->('alerts')->{alerts};
	foreach my $alert (@$alerts)
	{
		unlike($alert->{annotations}{$_}, qr/error expanding|no value|\{\{/, "$alert->{labels}{alertname} says its $_") foreach qw(summary description action);
	}

	note 'each rule';

	my @rules = map { @{ $_->{rules} } } @{ $ask->('rules')->{groups} };
	my %has_none = map { $_ => 1 } 'cmq_queue:expires_soon_seconds';
	foreach my $rule (@rules)
	{
		is($rule->{health}, 'ok', "$rule->{name} can be evaluated") or diag $rule->{lastError};
		next if $rule->{type} eq 'alerting';
		my $series = $result->($rule->{name});
		ok(@$series > 5, "$rule->{name} has series") unless $has_none{ $rule->{name} };
		is(scalar(grep { $_->{metric}{instance} =~ /:$standby_port$/ } @$series), 0, '... of primaries alone');
	}
	foreach my $rule (grep { $_->{type} eq 'alerting' } @rules)
	{
		my %annotation = %{ $rule->{annotations} };
		like($rule->{labels}{severity}, qr/^(critical|warning)$/, "$rule->{name} has a severity");
		like($readme, qr/^\| $rule->{name} \|/m, "README.md says what to do for $rule->{name}");
		my @statements = $annotation{action} =~ s/\{\{ \$labels\.queue \}\}/Odd-Letters/gr =~ /((?:SELECT|SHOW) .*?;)/g;
		ok(@statements > 0, "$rule->{name} comes with SQL");
		is($node->complaint(join "\n", 'BEGIN;', @statements, 'ROLLBACK') =~ s/NOTICE:.*//gr, '', '... that runs');
	}
	is(scalar(@{[ $readme =~ /^\| Cmq\w+ \|/mg ]}), scalar(grep { $_->{type} eq 'alerting' } @rules), 'README.md has no other alarms');

	note 'each query of the dashboard';

	my $dashboard = decode_json(slurp_file("$monitoring/dashboard.json"));
	my $fill_in = sub { return $_[0] =~ s/\$__rate_interval/1m/gr =~ s/\$(instance|database|queue)\b/.+/gr };
	my $nqueries = 0;
	foreach my $panel (@{ $dashboard->{panels} })
	{
		foreach my $target (@{ $panel->{targets} // [] })
		{
			my $query = $fill_in->($target->{expr});
			unlike($query, qr/\$/, "$panel->{title}: no variable is left");
			ok(eventually { @{ $result->($query) // [] } > 0 || !$server->is_running }, "$panel->{title} $target->{refId} shows something") or diag "$query: $err";
			$nqueries++;
		}
	}
	cmp_ok($nqueries, '>', 40, 'the dashboard has queries');
	foreach my $variable (grep { $_->{type} eq 'query' } @{ $dashboard->{templating}{list} })
	{
		my ($metric, $label) = $fill_in->($variable->{query}{query}) =~ /^label_values\((.*), (\w+)\)$/;
		cmp_ok(scalar(@{ $ask->("label/$label/values", 'match[]' => $metric) // [] }), '>', 0, "the variable $variable->{name} has values");
	}
	my %asked = map { $_ => 1 } join(' ', map { map { $_->{expr} } @{ $_->{targets} // [] } } @{ $dashboard->{panels} }) =~ /\bcmq_queue_(\w+)/g;
	is(join(' ', grep { !$asked{$_} } sort keys %$shown), 'retention_seconds', 'it shows all metrics, but for a setting');

	$server->signal('TERM');
	$server->finish;
	$standby_run->kill;
	$standby->stop;
}

note 'the dashboard, and the schema of Grafana';

SKIP:
{
	skip 'npm is not installed', 1 unless defined find_command('npm');

	my $work = "$dir/schema";
	mkdir $work or die;
	run_log([ 'cp', map({ "$top/test/monitoring/$_" } qw(package.json package-lock.json tsconfig.json schema.ts)), $work ]) or die;
	local $ENV{HOME} = $dir;
	my ($node_command) = npm($work);
	skip 'npm does not get the packages', 1 unless defined $node_command;

	my $write = sub {
		my ($name, $text) = @_;
		PostgreSQL::Test::Utils::append_to_file("$work/$name.ts", "import type { CmqDashboardJson } from './schema.js';\nexport const dashboard: CmqDashboardJson = $text;\n");
	};
	my $json = slurp_file("$monitoring/dashboard.json");
	$write->('dashboard', $json);
	# the check must be able to fail
	my %wrong = (
		a_name => [ '"graphTooltip"', '"graphTooltipp"' ],
		an_enum => [ '"displayMode": "table"', '"displayMode": "tabel"' ],
		an_option => [ '"cellHeight"', '"rowHeight"' ],
		a_custom_field => [ '"fillOpacity"', '"opacity"' ],
		a_panel => [ '"type": "stat"', '"type": "singlestat"' ],
		a_query => [ '"legendFormat"', '"legend"' ],
		a_variable => [ '"type": "query"', '"type": "sql"' ],
		a_number => [ '"schemaVersion": ', '"schemaVersion": "v" + ' ]);
	foreach my $name (sort keys %wrong)
	{
		my ($right, $changed) = @{ $wrong{$name} };
		$write->($name, $json =~ s/\Q$right\E/$changed/r);
	}
	my $out = '';
	run_log([ "$work/node_modules/.bin/tsc", '-p', $work, '--pretty', 'false' ], '>', \$out);
	my %errors;
	push @{ $errors{ (m{([a-z_]+)\.ts\(})[0] // 'nothing' } }, $_ foreach grep { /error TS/ } split /\n/, $out;
	is_deeply($errors{dashboard} // [], [], 'the dashboard is one');
	ok($errors{$_}, "... and would not be with $_ changed") foreach sort keys %wrong;
	is_deeply([ grep { !$wrong{$_} && $_ ne 'dashboard' } sort keys %errors ], [], 'no other errors');
}

my $dashboard = decode_json(slurp_file("$monitoring/dashboard.json"));
my (%id, %place);
foreach my $panel (@{ $dashboard->{panels} })
{
	my ($x, $y, $w, $h) = @{ $panel->{gridPos} }{qw(x y w h)};
	ok(!$id{ $panel->{id} }++ && $x + $w <= 24, "$panel->{title} has an id and a place of its own");
	foreach my $at (map { my $column = $_; map { "$column $_" } $y .. $y + $h - 1 } $x .. $x + $w - 1)
	{
		fail("$panel->{title} is above another panel") if $place{$at}++;
	}
}

note 'a role without pg_monitor';

$node->sql('REVOKE pg_monitor FROM cmq_exporter');
unlike(scrape($port), qr/^cmq_queue_/m, 'it sees nothing');
$node->sql('GRANT USAGE ON SCHEMA cmq TO cmq_exporter; GRANT SELECT ON cmq.q_shown TO cmq_exporter');
$metrics = scrape($port);
like($metrics, qr/^cmq_queue_sent_messages_total\{[^}]*queue="shown"/m, 'with SELECT on a queue it sees that one');
unlike($metrics, qr/queue="idle"/, '... and no other');
$run->kill;

note 'maintenance after a start';

# nothing has been done, or used, since then
$node->poll(q{SELECT max(unmaintained_seconds) < 3 FROM cmq.metrics}, 'before it, all is maintained');
$node->append_conf('postgresql.conf', 'cmq.maintenance_interval = 1d');
$node->restart;
$node->poll(q{SELECT min(unmaintained_seconds) > 2 FROM cmq.metrics}, 'without maintenance the time counts from there');
is($node->sql(q{SELECT max(unmaintained_seconds) <= extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) FROM cmq.metrics}), 't', '... and from no earlier time');

$node->stop;
done_testing();
