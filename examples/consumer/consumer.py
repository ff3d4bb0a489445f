#!/usr/bin/env python3
"""A consumer of a cmq queue with psycopg 3: books each order once.

    python3 consumer.py <queue> [--drain]

Needs psycopg 3, on Debian the package python3-psycopg.
Bodies are JSON, {"item": "apples", "amount": 2}, and are booked in

    CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);

Connects as libpq does (PGHOST, PGDATABASE, ...).  Runs until it gets SIGINT or
SIGTERM, or with --drain until the queue has nothing ready.

The work is in the same database, so a message and its work are one transaction: it
is consumed if and only if it is booked, exactly once, and what this consumer was
handling when it died is ready at once.  A message that it cannot handle is rolled
back, and then received by its id and released: that is counted, so that it comes
again later, and goes to the dead-letter queue in the end if there is one.

Work that takes long, or is done elsewhere, does not go into a transaction: then
receive, commit, work, and delete (docs/applications.md, Receive and delete).

When the server restarts it connects again, with growing pauses.  If the connection
was lost during a commit nobody knows whether the message was booked: it is ready
again if it was not.
"""

import json
import random
import signal
import sys
import time

import psycopg
from psycopg.rows import namedtuple_row

WAIT = 20  # seconds a call waits for a message
RETRY = 10  # seconds until a message that failed is ready again
MAX_PAUSE = 30  # seconds between two tries to connect, at most


def connect():
    return psycopg.connect(autocommit=True, row_factory=namedtuple_row, connect_timeout=10)


def reconnect(stopping):
    """Connect again; None if we are to stop.  Not all consumers at the same moment."""
    pause = 1
    while not stopping:
        until = time.monotonic() + pause * random.uniform(0.5, 1.0)
        while not stopping and time.monotonic() < until:
            time.sleep(0.1)
        try:
            return connect()
        except psycopg.OperationalError as error:
            pause = min(2 * pause, MAX_PAUSE)
            print(f"no connection, again in {pause} s at most: {error}", file=sys.stderr)
    return None


def is_lost(conn):
    try:
        conn.execute("SELECT 1")
    except psycopg.Error:
        return True
    return False


def handle(conn, message):
    """Book one order.  A message that is brought back changes nothing."""
    order = json.loads(message.body)
    conn.execute(
        "INSERT INTO ledger (msg_id, item, amount) VALUES (%s, %s, %s)"
        " ON CONFLICT (msg_id) DO NOTHING",
        (message.msg_id, order["item"], order["amount"]),
    )


def count_failure(conn, queue, message):
    """Have a message come again later.  Nothing happens if somebody else has it by now."""
    conn.execute(
        "SELECT cmq_release(%s, ARRAY(SELECT receipt_handle"
        " FROM cmq_receive_messages(%s, ARRAY[%s::bigint])), %s)",
        (queue, queue, message.msg_id, RETRY),
    )


def consume(conn, queue, wait):
    """Consume one message, if there is any: true.  Waits for so many seconds."""
    message = None
    try:
        with conn.transaction():
            message = conn.execute(
                "SELECT * FROM cmq_consume(%s, polling_wait_seconds => %s)", (queue, wait)
            ).fetchone()
            if message:
                handle(conn, message)
    except Exception as error:
        if message is None or is_lost(conn):
            raise
        print(f"message {message.msg_id} failed: {error}", file=sys.stderr)
        count_failure(conn, queue, message)
    return message is not None


def work(conn, queue, drain, stopping):
    while not stopping:
        try:
            if not consume(conn, queue, 0 if drain else WAIT) and drain:
                return
        except psycopg.errors.QueryCanceled:
            continue


def main(queue, drain=False):
    stopping = []
    conn = connect()  # what is wrong from the start is an error

    def stop(*_):
        stopping.append(True)
        try:
            conn.cancel()  # ends a call that waits
        except psycopg.Error:
            pass  # the connection is lost

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    while conn:
        with conn:
            try:
                return work(conn, queue, drain, stopping)
            except psycopg.Error as error:
                if not is_lost(conn):
                    raise
                print(f"connection lost: {error}", file=sys.stderr)
        conn = reconnect(stopping)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], "--drain" in sys.argv[2:])
