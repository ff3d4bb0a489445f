#!/usr/bin/env python3
"""A consumer of a cmq queue with psycopg 3: books each order once.

    consumer.py <queue> [--drain]

Connects as libpq does (PGHOST, PGDATABASE, ...).  Runs until it gets SIGINT or
SIGTERM, or with --drain until the queue has nothing ready.

Receives are committed at once, so a message that this consumer cannot handle,
or was handling when it died, comes back when its visibility timeout is over,
and goes to the dead-letter queue if there is one.  The work and the delete are
one transaction: a message is deleted if and only if it is booked.
"""

import json
import signal
import sys

import psycopg
from psycopg.rows import namedtuple_row

WAIT = 20  # seconds a receive waits for a message
RETRY = 10  # seconds until a message that failed is received again


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
    except psycopg.OperationalError:
        raise
    except Exception as error:
        print(f"message {message.msg_id} failed: {error}", file=sys.stderr)
        conn.execute(
            "SELECT cmq_change_visibility(%s, %s, %s)",
            (queue, message.receipt_handle, RETRY),
        )


def main(queue, drain=False):
    stopping = []
    with psycopg.connect(autocommit=True, row_factory=namedtuple_row) as conn:

        def stop(*_):
            stopping.append(True)
            conn.cancel()  # ends a receive that waits

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        while not stopping:
            try:
                messages = conn.execute(
                    "SELECT * FROM cmq_receive(%s, 10, polling_wait_seconds => %s)",
                    (queue, 0 if drain else WAIT),
                ).fetchall()
            except psycopg.errors.QueryCanceled:
                continue
            if drain and not messages:
                break
            for message in messages:
                consume(conn, queue, message)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], "--drain" in sys.argv[2:])
