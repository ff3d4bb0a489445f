// A consumer of a cmq queue with pgx: books each order once.
//
//	go run consumer.go <queue> [--drain]
//
// Needs pgx 4: "go mod tidy" gets it, or on Debian the package
// golang-github-jackc-pgx-v4-dev has it, with GO111MODULE=off GOPATH=/usr/share/gocode
// before the call.
// Bodies are JSON, {"item": "apples", "amount": 2}, and are booked in
//
//	CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);
//
// Connects as DATABASE_URL says, and as libpq does (PGHOST, PGDATABASE, ...).  Runs
// until it gets SIGINT or SIGTERM, or with --drain until the queue has nothing ready.
//
// The work is in the same database, so a message and its work are one transaction: it
// is consumed if and only if it is booked, exactly once, and what this consumer was
// handling when it died is ready at once.  A message that it cannot handle is rolled
// back, and then received by its id and released: that is counted, so that it comes
// again later, and goes to the dead-letter queue in the end if there is one.
//
// Work that takes long, or is done elsewhere, does not go into a transaction: then
// receive, commit, work, and delete (docs/applications.md, Receive and delete).
//
// When the server restarts it connects again, with growing pauses.  If the connection
// was lost during a commit nobody knows whether the message was booked: it is ready
// again if it was not.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v4"
)

const (
	wait     = 20               // seconds a call waits for a message
	retry    = 10               // seconds until a message that failed is ready again
	maxPause = 30 * time.Second // between two tries to connect, at most
)

// What is not to be broken off when we are told to stop.
var background = context.Background()

type message struct {
	id   int64
	body string
}

func connect() (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	return pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
}

// Connect again; nil if we are to stop.  Not all consumers at the same moment.
func reconnect(stop context.Context) *pgx.Conn {
	for pause := time.Second; ; {
		select {
		case <-stop.Done():
			return nil
		case <-time.After(time.Duration(float64(pause) * (0.5 + rand.Float64()/2))):
		}
		conn, err := connect()
		if err == nil {
			return conn
		}
		if pause *= 2; pause > maxPause {
			pause = maxPause
		}
		log.Printf("no connection, again in %.0f s at most: %v", pause.Seconds(), err)
	}
}

// The message that is consumed by the transaction, or nil if there is none.  When we
// are told to stop, pgx cancels the call and closes the connection.
func take(stop context.Context, tx pgx.Tx, queue string, seconds int) (*message, error) {
	m := new(message)
	err := tx.QueryRow(stop,
		"SELECT msg_id, body FROM cmq_consume($1, polling_wait_seconds => $2)", queue, seconds).Scan(&m.id, &m.body)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return m, nil
}

// Book one order.  A message that is brought back changes nothing.
func handle(tx pgx.Tx, m *message) error {
	var order struct {
		Item   *string
		Amount json.Number
	}
	if err := json.Unmarshal([]byte(m.body), &order); err != nil {
		return err
	}
	_, err := tx.Exec(background,
		"INSERT INTO ledger (msg_id, item, amount) VALUES ($1, $2, $3::text::numeric) ON CONFLICT (msg_id) DO NOTHING",
		m.id, order.Item, order.Amount.String())
	return err
}

// Have a message come again later.  Nothing happens if somebody else has it by now.
func countFailure(conn *pgx.Conn, queue string, m *message) error {
	_, err := conn.Exec(background,
		`SELECT cmq_release($1, ARRAY(SELECT receipt_handle
		   FROM cmq_receive_messages($1, ARRAY[$2::bigint])), $3)`,
		queue, m.id, retry)
	return err
}

// Consume one message, if there is any: true.  Waits for so many seconds.
func consume(stop context.Context, conn *pgx.Conn, queue string, seconds int) (bool, error) {
	tx, err := conn.Begin(background)
	if err != nil {
		return false, err
	}
	m, err := take(stop, tx, queue, seconds)
	if err == nil && m != nil {
		err = handle(tx, m)
	}
	if err == nil {
		err = tx.Commit(background)
	}
	if err == nil {
		return m != nil, nil
	}
	tx.Rollback(background)
	if m == nil || isLost(conn) {
		return false, err
	}
	log.Printf("message %d failed: %v", m.id, err)
	return true, countFailure(conn, queue, m)
}

func isLost(conn *pgx.Conn) bool {
	_, err := conn.Exec(background, "SELECT 1")
	return err != nil
}

// Returns nil when the queue is drained, or we are told to stop.
func work(stop context.Context, conn *pgx.Conn, queue string, drain bool) error {
	seconds := wait
	if drain {
		seconds = 0
	}
	for {
		got, err := consume(stop, conn, queue, seconds)
		switch {
		case stop.Err() != nil:
			return nil
		case err != nil:
			return err
		case drain && !got:
			return nil
		}
	}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal(fmt.Sprintf("%s <queue> [--drain]", os.Args[0]))
	}
	drain := len(os.Args) > 2 && os.Args[2] == "--drain"
	stop, cancel := signal.NotifyContext(background, os.Interrupt, syscall.SIGTERM)
	defer cancel()
	rand.Seed(time.Now().UnixNano())

	conn, err := connect() // what is wrong from the start is an error
	if err != nil {
		log.Fatal(err)
	}
	for conn != nil {
		err := work(stop, conn, os.Args[1], drain)
		lost := err != nil && isLost(conn)
		conn.Close(background)
		if err == nil {
			return
		} else if !lost {
			log.Fatal(err)
		}
		log.Printf("connection lost: %v", err)
		conn = reconnect(stop)
	}
}
