<?php
/* What arrives in PHP's pgsql and PDO: types; arrays go in; a waiting receive can be cancelled. */
declare(strict_types=1);

$queue = $argv[1];

function check(bool $ok, string $what): void
{
    echo ($ok ? 'ok - ' : 'not ok - ') . "$what\n";
}

/* A list as PostgreSQL writes arrays. */
function pg_array(array $list): string
{
    $quoted = fn ($v) => $v === null ? 'NULL' : '"' . addcslashes((string) $v, '"\\') . '"';
    return '{' . implode(',', array_map($quoted, $list)) . '}';
}

$conn = pg_connect('');
$query = fn (string $sql, mixed ...$values) => pg_query_params($conn, $sql, $values);
$column = fn (string $sql, mixed ...$values) => pg_fetch_all_columns($query($sql, ...$values));

$headers = [json_encode(['n' => 1]), null, json_encode(['list' => [true]])];
$ids = $column('SELECT cmq_send_batch($1, $2, 0, $3)', $queue, pg_array(['a', 'quoted "b"', 'ü']), pg_array($headers));
check(count($ids) === 3 && is_string($ids[0]) && (int) $ids[0] > 0 && $ids[0] < $ids[1], 'ids are strings');
$rows = pg_fetch_all($query('SELECT * FROM cmq_receive($1, 10)', $queue));
check(array_column($rows, 'body') === ['a', 'quoted "b"', 'ü'], 'bodies');
check($rows[0]['headers'] === '{"n": 1}' && $rows[1]['headers'] === null && json_decode($rows[2]['headers'], true) === ['list' => [true]],
    'headers are text of JSON, or null');
check(array_column($rows, 'msg_id') === $ids, 'ids');
check((new DateTimeImmutable($rows[0]['enqueued_at']))->format('Uu') === $ids[0], 'times are text for DateTimeImmutable');
check($rows[0]['receive_count'] === '1', 'counts are strings');
$handles = array_column($rows, 'receipt_handle');
check($column('SELECT cmq_delete_batch($1, $2)', $queue, pg_array($handles)) === $handles, 'an array of handles goes in');
check($column('SELECT cmq_restore_messages($1, $2)', $queue, pg_array([$ids[0], $ids[1]])) === [$ids[0], $ids[1]],
    'an array of ids goes in');
$query('SELECT cmq_clear_queue($1)', $queue);

$later = new DateTimeImmutable('+1 hour');
$query('SELECT cmq_send($1, $2, deliver_at => $3)', $queue, 'later', $later->format('Y-m-d H:i:s.uP'));
$live = pg_fetch_row($query('SELECT state, visible_at FROM cmq.' . pg_escape_identifier($conn, "q_{$queue}_live")));
check($live[0] === 'delayed' && new DateTimeImmutable($live[1]) == $later, 'a DateTimeImmutable goes in as text');
$query('SELECT cmq_clear_queue($1)', $queue);

$query('SELECT cmq_send($1, $2)', $queue, json_encode(['item' => 'apples']));
check(json_decode($column('SELECT body FROM cmq_receive($1)', $queue)[0], true) === ['item' => 'apples'], 'a JSON body comes back');
$query('SELECT cmq_clear_queue($1)', $queue);

$begun = hrtime(true);
pg_send_query_params($conn, 'SELECT * FROM cmq_receive($1, polling_wait_seconds => 30)', [$queue]);
$read = [pg_socket($conn)];
$write = $except = null;
check(stream_select($read, $write, $except, 1) === 0 && pg_connection_busy($conn), 'a receive waits');
check(pg_cancel_query($conn) && hrtime(true) - $begun < 25e9, 'a waiting receive is cancelled');
check(pg_fetch_result($query('SELECT 1'), 0, 0) === '1', 'and the connection goes on');

$pdo = new PDO("pgsql:dbname={$_SERVER['PGDATABASE']}");
$run = function (string $sql, mixed ...$values) use ($pdo): array {
    $statement = $pdo->prepare($sql);
    $statement->execute($values);
    return $statement->fetchAll(PDO::FETCH_ASSOC);
};
$ids = array_column($run('SELECT cmq_send_batch(?, ?, 0, ?) AS id', $queue, pg_array(['a', 'ü']), pg_array(['{"n": 1}', null])), 'id');
check(count($ids) === 2 && is_int($ids[0]), 'PDO: arrays go in, ids are int');
$rows = $run('SELECT * FROM cmq_consume(?, ?)', $queue, 10);
check(array_column($rows, 'body') === ['a', 'ü'] && array_column($rows, 'msg_id') === $ids, 'PDO: bodies and ids');
check(array_column($rows, 'headers') === ['{"n": 1}', null], 'PDO: headers are text of JSON, or null');
