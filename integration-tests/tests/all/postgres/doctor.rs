//! `replank doctor`: what it says of a server that stands badly, and of services.

use std::time::{Duration, Instant};

use super::Table;
use super::table::run;
use crate::binary::{Ended, run_beside};
use crate::server::{postgres_own_server, postgres_standby_of};

async fn doctor(table: &Table) -> Ended {
    let ended = run_beside(&["doctor", "-t", &table.url()], &[]).await;
    println!("{}{}", ended.out, ended.err);
    for line in ended.out.lines().skip(1) {
        assert!(line.chars().count() <= 80, "too wide: {line}");
    }
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_doctor_tells_of_a_server_that_stands_badly_with_what_to_type() {
    // The least that the server takes: a few thousand transactions are near enough.
    let settings = [
        "-c",
        "autovacuum_freeze_max_age=100000",
        "-c",
        "autovacuum=off",
        "-c",
        "max_connections=30",
        "-c",
        "max_replication_slots=2",
    ];
    let server = postgres_own_server(&settings).await;
    let table = Table::within(server.database().await, 100).await;
    let (mut old, begun) = (table.connect().await, Instant::now());
    run(&mut old, "BEGIN; SELECT count(*) FROM customers").await.expect("read");
    doctor(&table)
        .await
        .exits(0)
        .says("a slot that nobody reads would fill the disk: ALTER SYSTEM SET max_slot_wal_keep_size = '16GB', and SELECT pg_reload_conf()")
        .says("none follows")
        .says("none are set here");
    table.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '2GB'").await;
    table.execute("SELECT pg_reload_conf()").await;
    let ended = doctor(&table)
        .await
        .exits(0)
        .says("2 of 2 are free for -D capture=slot, and 2GB of the log are kept for one");
    // Only a release has a point in its number.
    let released = table.text("SELECT (current_setting('server_version') ~ '^[0-9]+\\.')::text").await;
    let of_version = usize::from(released != "true");
    assert_eq!(ended.out.matches("warn  version").count(), of_version);
    assert_eq!(ended.out.matches("warn").count(), of_version, "nothing is wrong yet");

    let name = table.text("SELECT current_database()::text").await;
    table.execute(&format!("ALTER ROLE postgres IN DATABASE {name} SET lock_timeout = '50ms'")).await;
    table.execute(&format!("ALTER DATABASE {name} SET idle_session_timeout = '200ms'")).await;
    let table_url = table.url();
    let timeouts = doctor(&table).await.exits(0);
    timeouts.says("idle_session_timeout = 200 ms, lock_timeout = 50 ms are set here; sessions of replank have their own");
    let retype = ["apply", "-t", &table_url, "-e", "ALTER TABLE orders ALTER customer TYPE bigint", "--yes"];
    run_beside(&retype, &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &table_url, "--yes"], &[]).await.exits(0);
    table.execute(&format!("ALTER DATABASE {name} RESET idle_session_timeout")).await;

    for slot in ["left", "behind"] {
        table.execute(&format!("SELECT pg_create_physical_replication_slot('{slot}', true)")).await;
    }
    let slots =
        doctor(&table).await.exits(0).says("warn unread slots").says("SELECT pg_drop_replication_slot('");
    slots
        .says("(1 more)")
        .says("no slot is free: ALTER SYSTEM SET max_replication_slots = '20', and restart the server");
    table.execute("SELECT pg_drop_replication_slot('left'), pg_drop_replication_slot('behind')").await;

    let mut prepared = table.connect().await;
    run(&mut prepared, "BEGIN; UPDATE orders SET amount = 1 WHERE id = 1; PREPARE TRANSACTION 'it''s'")
        .await
        .expect("prepared");
    doctor(&table).await.exits(0).says("ROLLBACK PREPARED 'it''s'");
    run(&mut prepared, "ROLLBACK PREPARED 'it''s'").await.expect("ended");

    table.execute("CREATE TABLE burnt (a int)").await;
    let burn = "DO $$ BEGIN FOR i IN 1..95000 LOOP BEGIN INSERT INTO burnt VALUES (1); EXCEPTION WHEN others THEN NULL; END; END LOOP; END $$";
    table.execute(burn).await;
    doctor(&table).await.exits(0).says("from 100000 on each table is vacuumed").says("VACUUM (FREEZE)");

    let mut others = Vec::new();
    for _ in 0..18 {
        others.push(table.connect().await);
    }
    doctor(&table)
        .await
        .exits(0)
        .says("and a rebuild opens up to 12")
        .says("ALTER SYSTEM SET max_connections = '50'");
    drop(others);

    let left = Duration::from_secs(61).saturating_sub(begun.elapsed());
    tokio::time::sleep(left).await;
    doctor(&table).await.exits(0).says("(postgres, idle in transaction) has been in one for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_doctor_knows_services_and_where_their_settings_are_made() {
    for (role, setting, says, replication) in [
        (
            "rds_superuser",
            "rds.logical_replication=off",
            "set rds.logical_replication = 1 in its parameter group, and reboot it",
            "GRANT rds_replication TO app",
        ),
        (
            "cloudsqlsuperuser",
            "cloudsql.logical_decoding=off",
            "set the database flag cloudsql.logical_decoding = on, which restarts it",
            "ALTER ROLE app REPLICATION, by a member of cloudsqlsuperuser",
        ),
        (
            "azure_pg_admin",
            "azure.extensions=",
            "set the server parameter wal_level = logical, and restart it",
            "ALTER ROLE app REPLICATION, by a member of azure_pg_admin",
        ),
    ] {
        let server = postgres_own_server(&["-c", "wal_level=replica", "-c", setting]).await;
        let table = Table::within(server.database().await, 10).await;
        let logins = format!(
            "CREATE ROLE {role}; CREATE ROLE app LOGIN PASSWORD 'app'; ALTER TABLE orders OWNER TO app"
        );
        table.execute(&logins).await;
        let url = table.url().replacen("postgres:replank@", "app:app@", 1);
        let ended = run_beside(&["doctor", "-t", &url], &[]).await;
        println!("{}{}", ended.out, ended.err);
        let ended = ended.says(says).says(replication).says(&format!("by a member of {role}"));
        if let Some((name, value)) = setting.split_once('=').filter(|(_, value)| !value.is_empty()) {
            ended.says(&format!("{name} = {value}"));
        }
        let slot = [
            "plan",
            "-t",
            &table.url(),
            "-e",
            "ALTER TABLE orders ALTER customer TYPE bigint",
            "-D",
            "capture=slot",
        ];
        run_beside(&slot, &[]).await.exits(3).says("refused P152").says(says);
    }
}

/// A query on a standby with feedback keeps dead rows on the primary, and a rebuild makes many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_doctor_tells_what_standbys_hold_back() {
    let server = postgres_own_server(&[]).await;
    let table = Table::within(server.database().await, 100).await;
    let standby = postgres_standby_of(&server).await;
    let there = Table::at(&table, &standby);
    doctor(&table).await.exits(0).says("1 without hot_standby_feedback");
    there.execute("ALTER SYSTEM SET hot_standby_feedback = on").await;
    there.execute("ALTER SYSTEM SET wal_receiver_status_interval = '1s'").await;
    there.execute("SELECT pg_reload_conf()").await;
    let mut reader = there.connect().await;
    run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orders")
        .await
        .expect("read");
    let mut told = String::new();
    for _ in 0..40 {
        told = doctor(&table).await.exits(0).out;
        if told.contains("has hot_standby_feedback") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(told.contains("has hot_standby_feedback"), "{told}");
    // A standby itself is told of as well as it can be.
    there.execute("SELECT pg_create_physical_replication_slot('left', true)").await;
    doctor(&there).await.exits(3).says("it is a standby").says("nobody reads \"left\"");
}
