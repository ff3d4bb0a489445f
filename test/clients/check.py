"""What arrives in psycopg: native types; arrays go in; a waiting receive can be cancelled."""
import datetime
import json
import sys
import threading
import time

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

queue = sys.argv[1]


def check(ok, what):
    print(("ok - " if ok else "not ok - ") + what)


with psycopg.connect(autocommit=True) as conn:
    ids = [row[0] for row in conn.execute(
        "SELECT cmq_send_batch(%s, %s::text[], 0, %s::jsonb[])",
        (queue, ["a", 'quoted "b"', "ü"], [Jsonb({"n": 1}), None, Jsonb({"list": [True]})]))]
    check(all(type(i) is int for i in ids) and ids == sorted(ids), "ids are int")
    rows = conn.execute("SELECT * FROM cmq_receive(%s, 10)", (queue,))
    names = [c.name for c in rows.description]
    rows = [dict(zip(names, row)) for row in rows.fetchall()]
    check([r["body"] for r in rows] == ["a", 'quoted "b"', "ü"], "bodies")
    check([r["headers"] for r in rows] == [{"n": 1}, None, {"list": [True]}], "headers are dict, or None")
    check([r["msg_id"] for r in rows] == ids, "ids")
    check(all(isinstance(r["enqueued_at"], datetime.datetime) and r["enqueued_at"].tzinfo for r in rows), "times are aware datetimes")
    check(rows[0]["enqueued_at"].timestamp() * 1e6 // 1 in (ids[0], ids[0] - 1, ids[0] + 1), "of the right instant")
    check(rows[0]["receive_count"] == 1, "counts are int")
    gone = [row[0] for row in conn.execute("SELECT cmq_delete_batch(%s, %s)", (queue, [r["receipt_handle"] for r in rows]))]
    check(gone == [r["receipt_handle"] for r in rows], "an array of handles goes in")
    back = [row[0] for row in conn.execute("SELECT cmq_restore_messages(%s, %s::bigint[])", (queue, ids[:2]))]
    check(back == ids[:2], "an array of ids goes in")
    conn.execute("SELECT cmq_clear_queue(%s)", (queue,))

    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    conn.execute("SELECT cmq_send(%s, %s, deliver_at => %s)", (queue, "later", later))
    live = sql.SQL("SELECT state, visible_at FROM cmq.{}").format(sql.Identifier(f"q_{queue}_live"))
    check(conn.execute(live).fetchall() == [("delayed", later)], "a datetime goes in")
    conn.execute("SELECT cmq_clear_queue(%s)", (queue,))

    try:
        conn.execute("SELECT cmq_send(%s, %s)", (queue, Jsonb({"item": "apples"})))
        check(False, "a jsonb body needs a cast")
    except psycopg.errors.UndefinedFunction:
        check(True, "a jsonb body needs a cast")
    conn.execute("SELECT cmq_send(%s, %s::text)", (queue, Jsonb({"item": "apples"})))
    conn.execute("SELECT cmq_send(%s, %s)", (queue, json.dumps({"item": "pears"})))
    check([row[0] for row in conn.execute("SELECT body::jsonb FROM cmq_receive(%s, 10)", (queue,))] == [{"item": "apples"}, {"item": "pears"}],
          "JSON bodies come back as dict")
    conn.execute("SELECT cmq_clear_queue(%s)", (queue,))

    begun = time.monotonic()
    threading.Timer(1, conn.cancel).start()
    try:
        conn.execute("SELECT * FROM cmq_receive(%s, polling_wait_seconds => 30)", (queue,))
        check(False, "a waiting receive is cancelled")
    except psycopg.errors.QueryCanceled:
        check(time.monotonic() - begun < 25, "a waiting receive is cancelled")
    check(conn.execute("SELECT 1").fetchone() == (1,), "and the connection goes on")
