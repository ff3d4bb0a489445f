#!/usr/bin/env python3
"""A consumer of a cmq queue with psycopg 3: books each order once.

    consumer.py <queue> [--drain]

Connects as libpq does (PGHOST, PGDATABASE, ...).  Runs until it gets SIGINT or
SIGTERM, or with --drain until the queue has nothing ready.

Receives are committed at once, so a message that this consumer cannot handle,
or was handling when it died, comes back when its visibility timeout is over,
and goes to the dead-letter queue if there is one.  The work and the delete are
one transaction: a message is deleted if and only if it is booked.

When the server restarts it connects again, with growing pauses.  What it had
received by then, and not yet deleted, comes back when the visibility timeout is
over.  If the connection was lost during a commit nobody knows whether the message
was booked: it comes back if it was not.
"""

import json
import random
import signal
import sys
import time

import psycopg
from psycopg.rows import namedtuple_row

WAIT = 20  # seconds a receive waits for a message
RETRY = 10  # seconds until a message that failed is received again
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
    """Book one order.  A message can come twice: the second time changes nothing."""
    order = json.loads(message.body)
    conn.execute(
        "INSERT INTO ledger (msg_id, item, amount) VALUES (%s, %s, %s)"
        " ON CONFLICT (msg_id) DO NOTHING",
        (message.msg_id, order["item"], order["amount"]),
    )


def consume(conn, queue, message):
    try:
        with conn.transaction():
            handle(conn, message)
            deleted = conn.execute(
                "SELECT cmq_delete(%s, %s)", (queue, message.receipt_handle)
            ).fetchone()[0]
            if not deleted:
                # it took too long and somebody else has it: undo the work
                raise psycopg.Rollback()
    except Exception as error:
        if is_lost(conn):
            raise
        print(f"message {message.msg_id} failed: {error}", file=sys.stderr)
        conn.execute(
            "SELECT cmq_release(%s, %s, %s)",
            (queue, [message.receipt_handle], RETRY),
        )


def work(conn, queue, drain, stopping):
    while not stopping:
        try:
            messages = conn.execute(
                "SELECT * FROM cmq_receive(%s, 10, polling_wait_seconds => %s)",
                (queue, 0 if drain else WAIT),
            ).fetchall()
        except psycopg.errors.QueryCanceled:
            continue
        if drain and not messages:
            return
        for message in messages:
            consume(conn, queue, message)


def main(queue, drain=False):
    stopping = []
    conn = connect()  # what is wrong from the start is an error

    def stop(*_):
        stopping.append(True)
        try:
            conn.cancel()  # ends a receive that waits
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
