//! A consumer of a cmq queue with tokio-postgres: books each order once.
//!
//!     cargo run -- <connection string> <queue> [--drain]
//!
//! Needs the crates of Cargo.toml: cargo gets them, or on Debian the package
//! librust-tokio-postgres-dev has them, see docs/applications.md, Clients.
//! Bodies are JSON, {"item": "apples", "amount": 2}, and are booked in
//!
//!     CREATE TABLE ledger (msg_id bigint PRIMARY KEY, item text, amount numeric);
//!
//! Runs until it gets SIGINT or SIGTERM, or with --drain until the queue has nothing
//! ready.  The connection string is libpq's, "host=/run/postgresql dbname=shop user=app".
//!
//! The work is in the same database, so a message and its work are one transaction: it
//! is consumed if and only if it is booked, exactly once, and what this consumer was
//! handling when it died is ready at once.  A message that it cannot handle is rolled
//! back, and then received by its id and released: that is counted, so that it comes
//! again later, and goes to the dead-letter queue in the end if there is one.
//!
//! Work that takes long, or is done elsewhere, does not go into a transaction: then
//! receive, commit, work, and delete (docs/applications.md, Receive and delete).
//!
//! When the server restarts it connects again, with growing pauses.  If the connection
//! was lost during a commit nobody knows whether the message was booked: it is ready
//! again if it was not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, NoTls, Transaction};

/// Seconds a call waits for a message.
const WAIT: i32 = 20;
/// Seconds until a message that failed is ready again.
const RETRY: i32 = 10;
/// Seconds between two tries to connect, at most.
const MAX_PAUSE: u64 = 30;

/// True when we are to stop.
type Stop = watch::Receiver<bool>;

struct Message {
    id: i64,
    body: String,
}

async fn connect(dsn: &str) -> Result<Client, Error> {
    let mut config: tokio_postgres::Config = dsn.parse()?;
    config.connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(NoTls).await?;
    // an error of the connection is one of the call that is under way, too
    tokio::spawn(connection);
    Ok(client)
}

/// Connect again; None if we are to stop.  Not all consumers at the same moment.
async fn reconnect(dsn: &str, stop: &mut Stop) -> Option<Client> {
    let mut pause = 1;
    loop {
        let chance = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_micros() % 500);
        tokio::select! {
            biased;
            _ = stop.changed() => return None,
            _ = tokio::time::sleep(Duration::from_millis(pause * (500 + u64::from(chance)))) => (),
        }
        match connect(dsn).await {
            Ok(client) => return Some(client),
            Err(error) => {
                pause = MAX_PAUSE.min(2 * pause);
                eprintln!("no connection, again in {pause} s at most: {error}");
            }
        }
    }
}

async fn is_lost(client: &Client) -> bool {
    client.simple_query("SELECT 1").await.is_err()
}

/// The message that is consumed by the transaction, if there is any.
async fn take(tx: &Transaction<'_>, queue: &str, wait: i32, stop: &mut Stop) -> Result<Option<Message>, Error> {
    let sql = "SELECT msg_id, body FROM cmq_consume($1, polling_wait_seconds => $2)";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&queue, &wait];
    let call = tx.query_opt(sql, &values);
    tokio::pin!(call);
    let row = tokio::select! {
        row = &mut call => row?,
        _ = stop.changed() => {
            // ends a call that waits
            let _ = tx.cancel_token().cancel_query(NoTls).await;
            call.await?
        }
    };
    Ok(row.map(|row| Message { id: row.get("msg_id"), body: row.get("body") }))
}

/// Book one order.  A message that is brought back changes nothing.
async fn handle(tx: &Transaction<'_>, message: &Message) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO ledger (msg_id, item, amount)
         SELECT $1, o ->> 'item', (o ->> 'amount')::numeric FROM CAST($2::text AS jsonb) o
         ON CONFLICT (msg_id) DO NOTHING",
        &[&message.id, &message.body],
    )
    .await?;
    Ok(())
}

/// Have a message come again later.  Nothing happens if somebody else has it by now.
async fn count_failure(client: &mut Client, queue: &str, message: &Message) -> Result<(), Error> {
    let tx = client.transaction().await?;
    tx.execute(
        "SELECT cmq_release($1, ARRAY(SELECT receipt_handle
           FROM cmq_receive_messages($1, ARRAY[$2::bigint])), $3)",
        &[&queue, &message.id, &RETRY],
    )
    .await?;
    tx.commit().await
}

/// Consume one message, if there is any: true.  Waits for so many seconds.
async fn consume(client: &mut Client, queue: &str, wait: i32, stop: &mut Stop) -> Result<bool, Error> {
    let tx = client.transaction().await?;
    let message = match take(&tx, queue, wait, stop).await? {
        Some(message) => message,
        None => {
            tx.commit().await?;
            return Ok(false);
        }
    };
    let done = match handle(&tx, &message).await {
        Ok(()) => tx.commit().await,
        Err(error) => tx.rollback().await.and(Err(error)),
    };
    if let Err(error) = done {
        if is_lost(client).await {
            return Err(error);
        }
        eprintln!("message {} failed: {error}", message.id);
        count_failure(client, queue, &message).await?;
    }
    Ok(true)
}

async fn work(client: &mut Client, queue: &str, drain: bool, stop: &mut Stop) -> Result<(), Error> {
    while !*stop.borrow_and_update() {
        match consume(client, queue, if drain { 0 } else { WAIT }, stop).await {
            Ok(got) if drain && !got => break,
            Err(error) if error.code() != Some(&SqlState::QUERY_CANCELED) => return Err(error),
            _ => (),
        }
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.len() < 2 {
        return Err("consumer <connection string> <queue> [--drain]".into());
    }
    let drain = args.iter().any(|arg| arg == "--drain");
    let (tell, mut stop) = watch::channel(false);
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
        let _ = tell.send(true);
        std::future::pending::<()>().await // keep the channel
    });

    let mut client = connect(&args[0]).await?; // what is wrong from the start is an error
    loop {
        match work(&mut client, &args[1], drain, &mut stop).await {
            Ok(()) => return Ok(()),
            Err(error) if is_lost(&client).await => eprintln!("connection lost: {error}"),
            Err(error) => return Err(error.into()),
        }
        client = match reconnect(&args[0], &mut stop).await {
            Some(client) => client,
            None => return Ok(()),
        };
    }
}
