//! What slows a run down, stops it, or lets it wait for its hour.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use jiff::{Timestamp, ToSpan as _};

use super::Table;
use super::oracle::RETYPE;
use crate::binary::{Ended, run_beside};

/// Answers every request with the status that stands there just now.
fn answering() -> (String, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let status = Arc::new(AtomicU16::new(503));
    let now = Arc::clone(&status);
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let mut request = [0_u8; 1024];
            // Whoever went away meanwhile needs no answer.
            let answer = format!(
                "HTTP/1.1 {} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                now.load(Ordering::SeqCst)
            );
            drop(client.read(&mut request).and_then(|_| client.write_all(answer.as_bytes())));
        }
    });
    (format!("http://{address}/"), status)
}

fn beside(args: &[&str]) -> tokio::task::JoinHandle<Ended> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    tokio::spawn(async move {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run_beside(&args, &[]).await
    })
}

/// Until a run of this table is there, and has looked at its load once or twice.
async fn has_looked(table: &Table, apply: &tokio::task::JoinHandle<Ended>) {
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!apply.is_finished(), "it goes on although it must wait");
    let copied = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%\\_retired'";
    assert_eq!(table.text(copied).await, "0", "it has swapped although it must wait");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_query_a_variable_a_file_and_an_address_each_hold_the_copy_back() {
    let table = Table::with_rows(2_000).await;
    let url = table.url();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("wait");
    std::fs::write(&file, "").expect("written");
    let (address, status) = answering();
    let (wait_file, wait_url) = (format!("wait_file={}", file.display()), format!("wait_url={address}"));
    let apply = beside(&[
        "apply",
        "-t",
        &url,
        "-e",
        RETYPE,
        "--yes",
        "--throttle",
        "load_query=SELECT 100",
        "load_max=50",
        "status.threads_connected=0",
        &wait_file,
        &wait_url,
    ]);
    has_looked(&table, &apply).await;
    run_beside(&["throttle", "last", "-t", &url, "status.threads_connected=none"], &[]).await.exits(0);
    has_looked(&table, &apply).await;
    run_beside(&["throttle", "last", "-t", &url, "load_max=200"], &[]).await.exits(0);
    has_looked(&table, &apply).await;
    std::fs::remove_file(&file).expect("removed");
    has_looked(&table, &apply).await;
    status.store(200, Ordering::SeqCst);
    let ended = apply.await.expect("it ends").exits(0);
    for reason in
        ["load is 100, limit 50", "status.threads_connected is", "wait_file is 1", "wait_url is 503"]
    {
        assert!(
            ended.err.split_whitespace().collect::<Vec<_>>().join(" ").contains(reason),
            "{reason}:\n{}",
            ended.err
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_critical_load_stops_the_run_which_goes_on_later() {
    let table = Table::with_rows(2_000).await;
    let url = table.url();
    let apply =
        ["apply", "-t", &url, "-e", RETYPE, "--yes", "--throttle", "critical_status.Threads_connected=0"];
    run_beside(&apply, &[]).await.exits(5).says("critical limit 0").says("replank resume");
    run_beside(&["throttle", "last", "-t", &url, "critical_status.Threads_connected=none"], &[])
        .await
        .exits(0);
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    // A variable that this server does not have holds back as well, instead of being passed over.
    let unknown = ["rebuild", "audit", "-t", &url, "--yes", "--throttle", "status.no_such_thing=5"];
    let waiting = beside(&unknown);
    has_looked(&table, &waiting).await;
    run_beside(&["throttle", "last", "-t", &url, "status.no_such_thing=none"], &[]).await.exits(0);
    waiting.await.expect("it ends").exits(0).says("status.no_such_thing cannot be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_swap_waits_for_its_hour_or_for_the_word() {
    let table = Table::with_rows(2_000).await;
    let url = table.url();
    let hour = Timestamp::now().checked_add(15_i32.seconds()).expect("soon");
    let at = hour.to_string();
    run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes", "--cutover", &at], &[])
        .await
        .exits(0)
        .says("waiting until");
    assert!(Timestamp::now() >= hour, "it has swapped too early");
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let hour = Timestamp::now().checked_add(1_i32.hour()).expect("later");
    let directive = format!("cutover={hour}");
    let apply = beside(&["apply", "-t", &url, "-e", RETYPE, "--yes", "-D", &directive]);
    has_looked(&table, &apply).await;
    let began = Instant::now();
    run_beside(&["cutover", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    apply.await.expect("it ends").exits(0);
    assert!(began.elapsed() < Duration::from_secs(30), "it was told to");
}
