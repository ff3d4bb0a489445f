//! What arrives in tokio-postgres: native types; arrays go in; a waiting receive can be cancelled.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, NoTls};

fn check(ok: bool, what: &str) {
    println!("{}ok - {what}", if ok { "" } else { "not " });
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let (client, connection) = tokio_postgres::connect(&args[1], NoTls).await?;
    tokio::spawn(connection);
    let queue = &args[2];

    let bodies = ["a", "quoted \"b\"", "ü"];
    let headers = [Some("{\"n\": 1}"), None, Some("{\"list\": [true]}")];
    let rows = client
        .query("SELECT cmq_send_batch($1, $2, 0, $3::text[]::jsonb[])", &[queue, &&bodies[..], &&headers[..]])
        .await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    check(ids.len() == 3 && ids[0] < ids[1], "ids are i64");

    let rows = client.query("SELECT *, headers::text AS header FROM cmq_receive($1, 10)", &[queue]).await?;
    check(rows.iter().map(|row| row.get::<_, &str>("body")).eq(bodies), "bodies");
    check(rows.iter().map(|row| row.get::<_, Option<&str>>("header")).eq(headers), "headers are text of JSON, or None");
    let at: SystemTime = rows[0].get("enqueued_at");
    check(at.duration_since(UNIX_EPOCH).unwrap().as_micros() == ids[0] as u128, "times are SystemTime of the right instant");
    check(rows[0].get::<_, i32>("receive_count") == 1, "counts are i32");
    let handles: Vec<String> = rows.iter().map(|row| row.get("receipt_handle")).collect();
    let gone = client.query("SELECT cmq_delete_batch($1, $2)", &[queue, &handles]).await?;
    check(gone.iter().map(|row| row.get::<_, String>(0)).eq(handles), "an array of handles goes in");
    let back = client.query("SELECT cmq_restore_messages($1, $2)", &[queue, &&ids[..2]]).await?;
    check(back.iter().map(|row| row.get::<_, i64>(0)).eq(ids[..2].iter().copied()), "an array of ids goes in");
    client.execute("SELECT cmq_clear_queue($1)", &[queue]).await?;

    let later = UNIX_EPOCH + Duration::from_secs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600);
    client.execute("SELECT cmq_send($1, 'later', deliver_at => $2)", &[queue, &later]).await?;
    let live = client.query(&format!("SELECT state, visible_at FROM cmq.\"q_{queue}_live\""), &[]).await?;
    check(live.len() == 1 && live[0].get::<_, &str>(0) == "delayed" && live[0].get::<_, SystemTime>(1) == later, "a SystemTime goes in");
    client.execute("SELECT cmq_clear_queue($1)", &[queue]).await?;

    client.execute("SELECT cmq_send($1, $2)", &[queue, &"{\"item\": \"apples\"}"]).await?;
    let item = client.query_one("SELECT body::jsonb ->> 'item' FROM cmq_receive($1)", &[queue]).await?;
    check(item.get::<_, &str>(0) == "apples", "a JSON body comes back");
    client.execute("SELECT cmq_clear_queue($1)", &[queue]).await?;

    let begun = Instant::now();
    let token = client.cancel_token();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        token.cancel_query(NoTls).await
    });
    let wait = client.query("SELECT * FROM cmq_receive($1, polling_wait_seconds => 30)", &[queue]).await;
    check(
        matches!(wait, Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED)) && begun.elapsed() < Duration::from_secs(25),
        "a waiting receive is cancelled",
    );
    check(client.query_one("SELECT 1", &[]).await?.get::<_, i32>(0) == 1, "and the connection goes on");
    Ok(())
}
