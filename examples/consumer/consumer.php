#!/usr/bin/env php
<?php
/*
 * A consumer of a cmq queue with PHP's pgsql: books each order once.
 *
 *     php consumer.php <queue> [--drain]
 *
 * Needs PHP 8.1 or newer with pgsql and pcntl, on Debian the packages php-cli and
 * php-pgsql.
 * Bodies are JSON, {"item": "apples", "amount": 2}, and are booked in
 *
 *     CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);
 *
 * Connects as libpq does (PGHOST, PGDATABASE, ...).  Runs until it gets SIGINT or
 * SIGTERM, or with --drain until the queue has nothing ready.
 *
 * The work is in the same database, so a message and its work are one transaction: it
 * is consumed if and only if it is booked, exactly once, and what this consumer was
 * handling when it died is ready at once.  A message that it cannot handle is rolled
 * back, and then received by its id and released: that is counted, so that it comes
 * again later, and goes to the dead-letter queue in the end if there is one.
 *
 * Work that takes long, or is done elsewhere, does not go into a transaction: then
 * receive, commit, work, and delete (docs/applications.md, Receive and delete).
 *
 * When the server restarts it connects again, with growing pauses.  If the connection
 * was lost during a commit nobody knows whether the message was booked: it is ready
 * again if it was not.
 *
 * PDO waits inside a statement, where no signal reaches the program.  The functions
 * pg_send_ send a statement and leave the waiting to us.
 */
declare(strict_types=1);

const WAIT = 20; // seconds a call waits for a message
const RETRY = 10; // seconds until a message that failed is ready again
const MAX_PAUSE = 30; // seconds between two tries to connect, at most

$stopping = false;

class Stopped extends Exception {}

function connect(): PgSql\Connection
{
    $conn = @pg_connect('connect_timeout=10', PGSQL_CONNECT_FORCE_NEW);
    if ($conn === false) {
        throw new RuntimeException(error_get_last()['message']);
    }
    return $conn;
}

/* Connect again; null if we are to stop.  Not all consumers at the same moment. */
function reconnect(): ?PgSql\Connection
{
    global $stopping;

    for ($pause = 1;;) {
        $until = microtime(true) + $pause * mt_rand(500, 1000) / 1000;
        while (!$stopping && microtime(true) < $until) {
            usleep(100000);
        }
        if ($stopping) {
            return null;
        }
        try {
            return connect();
        } catch (RuntimeException $error) {
            $pause = min(2 * $pause, MAX_PAUSE);
            fwrite(STDERR, "no connection, again in $pause s at most: {$error->getMessage()}\n");
        }
    }
}

/* The rows of a statement.  One that may be broken off ends when we are told to stop. */
function query(PgSql\Connection $conn, string $sql, array $values = [], bool $may_stop = false): array
{
    global $stopping;

    if (!@pg_send_query_params($conn, $sql, $values)) {
        throw new RuntimeException(pg_last_error($conn));
    }
    while (pg_connection_busy($conn)) {
        if ($may_stop && $stopping) {
            pg_cancel_query($conn);
            throw new Stopped();
        }
        $read = [pg_socket($conn)];
        $write = $except = null;
        @stream_select($read, $write, $except, 1); // also ends with a signal
    }
    $rows = null;
    $message = '';
    while ($result = pg_get_result($conn)) {
        $message .= pg_result_error($result);
        $rows = pg_fetch_all($result);
    }
    if ($rows === null || $message !== '') {
        throw new RuntimeException(trim($message . pg_last_error($conn)));
    }
    return $rows;
}

function is_lost(PgSql\Connection $conn): bool
{
    try {
        query($conn, 'SELECT 1');
        return false;
    } catch (RuntimeException) {
        return true;
    }
}

/* Book one order.  A message that is brought back changes nothing. */
function handle(PgSql\Connection $conn, array $message): void
{
    $order = json_decode($message['body'], true, 512, JSON_THROW_ON_ERROR);
    query($conn,
        'INSERT INTO ledger (msg_id, item, amount) VALUES ($1, $2, $3) ON CONFLICT (msg_id) DO NOTHING',
        [$message['msg_id'], $order['item'], $order['amount']]);
}

/* Have a message come again later.  Nothing happens if somebody else has it by now. */
function count_failure(PgSql\Connection $conn, string $queue, array $message): void
{
    query($conn,
        'SELECT cmq_release($1, ARRAY(SELECT receipt_handle
           FROM cmq_receive_messages($1, ARRAY[$2::bigint])), $3)',
        [$queue, $message['msg_id'], RETRY]);
}

/* Consume one message, if there is any: true.  Waits for so many seconds. */
function consume(PgSql\Connection $conn, string $queue, int $wait): bool
{
    $message = null;
    try {
        query($conn, 'BEGIN');
        $message = query($conn,
            'SELECT * FROM cmq_consume($1, polling_wait_seconds => $2)', [$queue, $wait], true)[0] ?? null;
        if ($message) {
            handle($conn, $message);
        }
        query($conn, 'COMMIT');
    } catch (Throwable $error) { // a TypeError, too: a body can be any JSON
        query($conn, 'ROLLBACK'); // fails if the connection is lost
        if (!$message) {
            throw $error;
        }
        fwrite(STDERR, "message {$message['msg_id']} failed: {$error->getMessage()}\n");
        count_failure($conn, $queue, $message);
    }
    return $message !== null;
}

function work(PgSql\Connection $conn, string $queue, bool $drain): void
{
    global $stopping;

    while (!$stopping) {
        try {
            if (!consume($conn, $queue, $drain ? 0 : WAIT) && $drain) {
                return;
            }
        } catch (Stopped) {
            return;
        }
    }
}

function main(string $queue, bool $drain): void
{
    $conn = connect(); // what is wrong from the start is an error
    $stop = function () {
        global $stopping;
        $stopping = true;
    };
    pcntl_async_signals(true);
    pcntl_signal(SIGINT, $stop, false);
    pcntl_signal(SIGTERM, $stop, false);
    while ($conn) {
        try {
            work($conn, $queue, $drain);
            return;
        } catch (RuntimeException $error) {
            if (!is_lost($conn)) {
                throw $error;
            }
            fwrite(STDERR, "connection lost: {$error->getMessage()}\n");
        }
        $conn = reconnect();
    }
}

if ($argc < 2) {
    fwrite(STDERR, "consumer.php <queue> [--drain]\n");
    exit(1);
}
main($argv[1], in_array('--drain', $argv, true));
