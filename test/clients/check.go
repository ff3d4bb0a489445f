// What arrives in pgx: native types; arrays go in; a waiting receive can be cancelled.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

var ctx = context.Background()

func check(ok bool, what string) {
	if ok {
		fmt.Println("ok - " + what)
	} else {
		fmt.Println("not ok - " + what)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func column[T any](conn *pgx.Conn, sql string, args ...interface{}) (values []T) {
	rows, err := conn.Query(ctx, sql, args...)
	must(err)
	defer rows.Close()
	for rows.Next() {
		var value T
		must(rows.Scan(&value))
		values = append(values, value)
	}
	must(rows.Err())
	return values
}

func main() {
	queue := os.Args[1]
	conn, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	must(err)
	exec := func(sql string, args ...interface{}) {
		_, err := conn.Exec(ctx, sql, args...)
		must(err)
	}

	one, list := `{"n": 1}`, `{"list": [true]}`
	ids := column[int64](conn, "SELECT cmq_send_batch($1, $2, 0, $3::text[]::jsonb[])",
		queue, []string{"a", `quoted "b"`, "ü"}, []*string{&one, nil, &list})
	check(len(ids) == 3 && ids[0] < ids[1], "ids are int64")

	var bodies, handles []string
	var headers []map[string]interface{}
	var times []time.Time
	var counts []int
	rows, err := conn.Query(ctx, "SELECT body, receipt_handle, headers, enqueued_at, receive_count FROM cmq_receive($1, 10)", queue)
	must(err)
	for rows.Next() {
		var body, handle string
		var header map[string]interface{}
		var at time.Time
		var count int
		must(rows.Scan(&body, &handle, &header, &at, &count))
		bodies, handles, headers = append(bodies, body), append(handles, handle), append(headers, header)
		times, counts = append(times, at), append(counts, count)
	}
	must(rows.Err())
	check(reflect.DeepEqual(bodies, []string{"a", `quoted "b"`, "ü"}), "bodies")
	check(len(headers) == 3 && headers[0]["n"] == 1.0 && headers[1] == nil && headers[2]["list"] != nil, "headers are map, or nil")
	check(times[0].UnixMicro() == ids[0], "times are time.Time of the right instant")
	check(counts[0] == 1, "counts are int")
	check(reflect.DeepEqual(column[string](conn, "SELECT cmq_delete_batch($1, $2)", queue, handles), handles), "an array of handles goes in")
	check(reflect.DeepEqual(column[int64](conn, "SELECT cmq_restore_messages($1, $2)", queue, ids[:2]), ids[:2]), "an array of ids goes in")
	exec("SELECT cmq_clear_queue($1)", queue)

	later := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	exec("SELECT cmq_send($1, $2, deliver_at => $3)", queue, "later", later)
	live := column[time.Time](conn, "SELECT visible_at FROM cmq."+pgx.Identifier{"q_" + queue + "_live"}.Sanitize()+" WHERE state = 'delayed'")
	check(len(live) == 1 && live[0].Equal(later), "a time.Time goes in")
	exec("SELECT cmq_clear_queue($1)", queue)

	body, err := json.Marshal(map[string]string{"item": "apples"})
	must(err)
	exec("SELECT cmq_send($1, $2)", queue, string(body))
	items := column[map[string]string](conn, "SELECT body::jsonb FROM cmq_receive($1)", queue)
	check(len(items) == 1 && items[0]["item"] == "apples", "a JSON body comes back")
	exec("SELECT cmq_clear_queue($1)", queue)

	begun := time.Now()
	time.AfterFunc(time.Second, func() { conn.PgConn().CancelRequest(ctx) })
	_, err = conn.Exec(ctx, "SELECT * FROM cmq_receive($1, polling_wait_seconds => 30)", queue)
	var failure *pgconn.PgError
	check(errors.As(err, &failure) && failure.Code == "57014" && time.Since(begun) < 25*time.Second, "a waiting receive is cancelled")
	check(column[int](conn, "SELECT 1")[0] == 1, "and the connection goes on")

	limited, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	begun = time.Now()
	_, err = conn.Exec(limited, "SELECT * FROM cmq_receive($1, polling_wait_seconds => 30)", queue)
	check(err != nil && time.Since(begun) < 25*time.Second && conn.IsClosed(), "a context that ends closes the connection")
}
