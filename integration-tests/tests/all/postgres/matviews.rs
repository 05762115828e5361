//! Materialized views over a table that is rebuilt: what they say after the swap and after the way back, who refreshes them
//! meanwhile, and what is left when the tool is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Table;
use super::application::assert_same;
use super::catalogue::described;
use super::partitioned::File;
use super::table::run;
use crate::binary::run_beside;
use crate::kills::states;
use crate::stopped::Stopped;

const RETYPE: &str = "ALTER TABLE orders ALTER note TYPE text USING note || ''";
const TOTALS: &str = "CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(amount) AS total, count(*) AS n FROM orders GROUP BY customer;
     CREATE UNIQUE INDEX totals_customer ON totals (customer); CREATE VIEW large AS SELECT customer FROM totals WHERE total > 5";
/// When it was refreshed last.
const MOMENT: &str = "CREATE MATERIALIZED VIEW moment AS SELECT count(note) AS n, now() AS at FROM orders";
/// Two lock budgets, and the noise of a small machine; whoever holds something here does so for longer.
const LONGEST: Duration = Duration::from_millis(1_500);
const HELD: Duration = Duration::from_millis(1_800);

/// What is missing in `totals`, or too much.
const UNTRUE: &str = "SELECT string_agg(to_jsonb(x)::text, ' ') FROM (
     (TABLE totals EXCEPT SELECT customer, sum(amount), count(*) FROM orders GROUP BY customer)
     UNION ALL (SELECT customer, sum(amount), count(*) FROM orders GROUP BY customer EXCEPT TABLE totals)) AS x";

async fn catalogue(table: &Table) -> Vec<String> {
    let mut all = described(&mut table.connect().await, "public", "orders").await;
    all.extend(table.schema().await);
    all.retain(|line| !line.contains("_rp_"));
    all
}

async fn assert_no_helpers(table: &Table) {
    let left = "SELECT string_agg(name, ', ') FROM (SELECT relname FROM pg_class UNION ALL SELECT nspname FROM pg_namespace
         UNION ALL SELECT stxname FROM pg_statistic_ext) AS a(name) WHERE starts_with(name, '_rp_')";
    assert_eq!(table.text(left).await, "");
    assert_eq!(table.text("SELECT string_agg(role || ' ' || name, ', ') FROM _replank.objects").await, "");
}

/// What REFRESH would meet is told, both ways, and the run goes on once it is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_materialized_view_that_cannot_be_filled_stops_the_run_with_the_reason_until_it_is_mended()
 {
    let table = Table::with_rows(100).await;
    let url = table.url();
    table.execute("CREATE MATERIALIZED VIEW parts AS SELECT id, 100 / amount AS part FROM orders").await;
    for (command, state) in [("apply", "failed"), ("revert", "reversible")] {
        table.execute("UPDATE orders SET amount = 0 WHERE id = 7").await;
        let ended = match command {
            "apply" => run_beside(&["apply", "-t", &url, "-e", RETYPE, "--yes"], &[]).await,
            _ => run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await,
        };
        ended.exits(1).says("cannot be filled over the new table").says("division by zero");
        run_beside(&["status", "-t", &url], &[]).await.exits(0).says(state);
        table.execute("UPDATE orders SET amount = 7 WHERE id = 7").await;
        let again = if command == "apply" { "resume" } else { "revert" };
        run_beside(&[again, "last", "-t", &url, "--yes"], &[]).await.exits(0);
        let part = table.text("SELECT round(part)::text FROM parts WHERE id = 7").await;
        assert_eq!(part, "14", "{command}");
    }
    assert_no_helpers(&table).await;
}

/// The moment is no earlier than the last REFRESH, of whichever kind; also where it changed no row, or came under the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_no_refresh_of_a_materialized_view_is_undone_by_a_swap() {
    let table = Table::with_rows(300).await;
    let url = table.url();
    table.execute(TOTALS).await;
    table.execute(MOMENT).await;
    table.execute("INSERT INTO orders VALUES (1000, 555, 1, 'soon gone')").await;
    let has_it = "SELECT count(*)::text FROM totals WHERE customer = 555";
    assert_eq!(table.text(has_it).await, "0");
    // The new one is filled by then, with that row.
    let stopped = Stopped::at("swap_intended:2", &["apply", "-t", &url, "-e", RETYPE, "--yes"]).await;
    let filled = "SELECT count(*)::text FROM pg_class WHERE relname LIKE '\\_rp\\_%m0' AND relkind = 'm' AND relispopulated";
    assert_eq!(table.text(filled).await, "1", "the test stops where it should");
    table.execute("DELETE FROM orders WHERE id = 1000").await;
    // No row of it changes, and its file stays.
    table.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY totals").await;
    stopped.go_on().await.exits(0);
    assert_eq!(table.text(has_it).await, "0", "the REFRESH was undone");
    assert_eq!(table.text(UNTRUE).await, "");

    let stopped = Stopped::at("lock_held:2", &["revert", "last", "-t", &url, "--yes"]).await;
    table.execute("REFRESH MATERIALIZED VIEW moment").await;
    let refreshed = table.text("SELECT at::text FROM moment").await;
    stopped.go_on().await.exits(0);
    let is_later = format!("SELECT (at >= {})::text FROM moment", format_args!("'{refreshed}'"));
    assert_eq!(table.text(&is_later).await, "true", "the REFRESH was undone on the way back");
    assert_eq!(
        table.text("SELECT count(*)::text FROM large").await,
        table.text("SELECT count(*)::text FROM totals WHERE total > 5").await
    );
    assert_no_helpers(&table).await;
}

/// The table that is not live.
const ASIDE: &str =
    "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname ~ '^_rp_.*_(shadow|retired)$'";

/// What a job does that refreshes whatever there is, in a moment in which the table that is not live is as the live one never was.
async fn refresh_those_aside(table: &Table) {
    let aside = table.text(ASIDE).await;
    let refresh = "SELECT string_agg(format('REFRESH MATERIALIZED VIEW %I', relname), '; ') FROM pg_class
         WHERE relkind = 'm' AND starts_with(relname, '_rp_')";
    let refresh = table.text(refresh).await;
    table.execute(&format!("UPDATE {aside} SET amount = amount + 5 WHERE id = 7")).await;
    table.execute(&refresh).await;
    table.execute(&format!("UPDATE {aside} SET amount = amount - 5 WHERE id = 7")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_others_refresh_before_it_is_live_is_filled_again() {
    let has_rows = "SELECT relispopulated::text FROM pg_class WHERE relname = 'unfilled'";
    // Before the lock, under it, and in front of a fence.
    for (at, is_killed) in [("swap_intended:2", false), ("lock_held:2", false), ("swap_intended:2", true)] {
        let table = Table::with_rows(200).await;
        let url = table.url();
        table.execute(TOTALS).await;
        table.execute("CREATE MATERIALIZED VIEW unfilled AS SELECT note FROM orders WITH NO DATA").await;
        for command in [&["rebuild", "orders"], &["revert", "last"]] {
            let args: Vec<&str> = command.iter().copied().chain(["-t", &url, "--yes"]).collect();
            let stopped = Stopped::at(at, &args).await;
            refresh_those_aside(&table).await;
            if is_killed {
                stopped.signal("KILL");
                stopped.end().await.was_killed();
                run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
            } else {
                stopped.go_on().await.exits(0);
            }
            assert_eq!(table.text(UNTRUE).await, "", "{at} {command:?} {is_killed}");
            assert_eq!(table.text(has_rows).await, "false", "{at} {command:?} {is_killed}");
        }
        assert_no_helpers(&table).await;
    }
}

/// Sessions that move amounts from row to row: the sum is always the same, at every moment and at no mixture of moments.
struct Movers {
    is_over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Duration>>,
}

impl Movers {
    async fn start(table: &Table, count: u64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for mover in 0..count {
            let (mut connection, is_over) = (table.connect().await, Arc::clone(&is_over));
            tasks.push(tokio::spawn(async move {
                let (mut longest, mut at) = (Duration::ZERO, mover);
                while !is_over.load(Ordering::Relaxed) {
                    at += 7;
                    let (from, to) = (1 + at % 400, 401 + at * 13 % 400);
                    let sql = format!(
                        "BEGIN; UPDATE orders SET amount = amount + 1 WHERE id = {from};
                         UPDATE orders SET amount = amount - 1 WHERE id = {to}; COMMIT"
                    );
                    let began = Instant::now();
                    run(&mut connection, &sql)
                        .await
                        .unwrap_or_else(|error| panic!("a write failed: {error}"));
                    longest = longest.max(began.elapsed());
                }
                longest
            }));
        }
        Self { is_over, tasks }
    }

    async fn stop(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for task in self.tasks {
            longest = longest.max(task.await.expect("no write fails"));
        }
        longest
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_materialized_view_says_what_was_true_at_one_moment_under_writers_and_after_revert() {
    let table = Table::with_rows(800).await;
    let url = table.url();
    table.execute("ALTER TABLE orders DROP CONSTRAINT positive; CREATE MATERIALIZED VIEW total AS SELECT sum(amount) AS sum, now() AS at FROM orders").await;
    let sum = table.text("SELECT sum(amount)::text FROM orders").await;
    let began = table.text("SELECT at::text FROM total").await;
    let movers = Movers::start(&table, 3).await;
    for step in [&["apply", "-e", RETYPE][..], &["revert", "last"]] {
        let step: Vec<&str> = step.iter().copied().chain(["-t", &url, "--yes"]).collect();
        run_beside(&step, &[]).await.exits(0);
        assert_eq!(table.text("SELECT sum::text FROM total").await, sum, "{step:?}: of several moments");
        let is_new = format!("SELECT (at > '{began}')::text FROM total");
        assert_eq!(table.text(&is_new).await, "true", "{step:?}: it was filled");
    }
    let longest = movers.stop().await;
    assert!(longest < LONGEST, "writers waited for {} ms", longest.as_millis());
    assert_eq!(table.text("SELECT sum(amount)::text FROM orders").await, sum);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_around_materialized_views_both_ways_it_goes_on_and_leaves_nothing() {
    for (at, (forward, backward, removing)) in [
        ("moving", "moving", "drop_begun"),
        ("moving:3", "swap_sent:2", "drop_done:2"),
        ("swap_sent:2", "swap_acknowledged", "drop_begun:3"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = Table::with_rows(200).await;
        let url = table.url();
        table.execute(TOTALS).await;
        table
            .execute("CREATE MATERIALIZED VIEW unfilled AS SELECT note FROM orders WITH NO DATA; DELETE FROM orders WHERE id = 7")
            .await;
        let before = catalogue(&table).await;
        let rebuild = ["rebuild", "orders", "-t", &url, "--yes"];
        run_beside(&rebuild, &[("REPLANK_KILL_AT", forward)]).await.was_killed();
        if at == 1 {
            let abort = ["abort", "last", "-t", &url, "--yes"];
            run_beside(&abort, &[("REPLANK_KILL_AT", removing)]).await.was_killed();
            run_beside(&abort, &[]).await.exits(0);
            assert_same(&catalogue(&table).await, &before, &format!("aborted after {forward}"));
            assert_no_helpers(&table).await;
            run_beside(&rebuild, &[("REPLANK_KILL_AT", forward)]).await.was_killed();
        }
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(UNTRUE).await, "", "after {forward}");
        assert_same(&catalogue(&table).await, &before, forward);
        table.execute("INSERT INTO orders VALUES (7, 7, 7, 'back again')").await;
        if at == 2 {
            let finalize = ["finalize", "last", "-t", &url, "--yes"];
            run_beside(&finalize, &[("REPLANK_KILL_AT", removing)]).await.was_killed();
            run_beside(&finalize, &[]).await.exits(0);
            assert_same(&catalogue(&table).await, &before, removing);
            assert_no_helpers(&table).await;
            run_beside(&rebuild, &[]).await.exits(0);
        }
        run_beside(&["revert", "last", "-t", &url, "--yes"], &[("REPLANK_KILL_AT", backward)])
            .await
            .was_killed();
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(UNTRUE).await, "", "after {backward}");
        assert_same(&catalogue(&table).await, &before, backward);
        assert_no_helpers(&table).await;
    }
}

/// A materialized view that takes as many seconds as `pace` says.
const SLOWLY: &str = "CREATE TABLE pace (s int); CREATE FUNCTION slow() RETURNS text LANGUAGE sql AS 'SELECT pg_sleep(coalesce(max(s), 0))::text FROM public.pace';
     CREATE MATERIALIZED VIEW slowly AS SELECT slow() AS s, now() AS at, count(*) AS n FROM orders";
/// The sessions that fill one.
const FILLING: &str = "FROM pg_stat_activity WHERE state = 'active' AND datname = current_database()
     AND starts_with(query, 'REFRESH MATERIALIZED VIEW \"public\".\"_rp_')";

/// Waits until a query says so.
async fn until(table: &Table, sql: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while table.text(sql).await != "true" {
        assert!(Instant::now() < until, "it never is: {sql}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whoever ends it hears why the run waits, and at the third time what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_materialized_view_whose_filling_is_ended_again_and_again_stops_the_run_with_the_reason()
 {
    let table = Table::with_rows(200).await;
    let url = table.url();
    table.execute(SLOWLY).await;
    table.execute("INSERT INTO pace VALUES (600)").await;
    let ending = async {
        for how in ["cancel", "terminate", "cancel"] {
            until(&table, &format!("SELECT (count(*) > 0)::text {FILLING}")).await;
            table.execute(&format!("SELECT pg_{how}_backend(pid) {FILLING}")).await;
            until(&table, &format!("SELECT (count(*) = 0)::text {FILLING}")).await;
        }
    };
    let rebuild = ["rebuild", "orders", "-t", &url, "--yes"];
    let (ended, ()) = tokio::join!(run_beside(&rebuild, &[]), ending);
    let reason = "the materialized view slowly was not filled over the new table";
    ended
        .exits(5)
        .says(&format!("no swap yet: {reason}"))
        .says("canceling statement due to user request")
        .says("no swap: what is to be done before it failed 3 times")
        .says("replank resume");
    let told = "SELECT count(*)::text FROM _replank.events WHERE kind = 'not_ready'";
    assert_eq!(table.text(told).await, "3");
    run_beside(&["status", "-t", &url], &[]).await.exits(0).says("waiting_cutover");
    table.execute("UPDATE pace SET s = 0; DELETE FROM orders WHERE id = 9").await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text("SELECT n::text FROM slowly").await, "199");
}

/// However long it takes: what others write is applied, commands are answered, and an interrupt ends what the server is at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_while_a_materialized_view_is_filled_the_run_goes_on_and_obeys() {
    let table = Table::with_rows(200).await;
    let url = table.url();
    table.execute(SLOWLY).await;
    table.execute("INSERT INTO pace VALUES (600)").await;
    for command in [&["rebuild", "orders"], &["revert", "last"]] {
        let args: Vec<&str> = command.iter().copied().chain(["-t", &url, "--yes"]).collect();
        let stopped = Stopped::at("swap_sent", &args).await;
        stopped.wake();
        until(&table, &format!("SELECT (count(*) > 0)::text {FILLING}")).await;
        run_beside(&["status", "-t", &url], &[]).await.exits(0).says("waiting_cutover");
        table.execute("UPDATE orders SET amount = amount + 1000 WHERE id = 3").await;
        let aside = table.text(ASIDE).await;
        let is_applied = format!(
            "SELECT (a.amount = o.amount)::text FROM {aside} a JOIN orders o USING (id) WHERE id = 3"
        );
        until(&table, &is_applied).await;
        run_beside(&["pause", "last", "-t", &url], &[]).await.exits(0);
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text(&format!("SELECT (count(*) > 0)::text {FILLING}")).await, "true");
        let asked = Instant::now();
        stopped.signal("INT");
        stopped.end().await.exits(130);
        assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
        until(&table, &format!("SELECT (count(*) = 0)::text {FILLING}")).await;
        table.execute("UPDATE pace SET s = 0").await;
        run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
        assert_eq!(table.text("SELECT n::text FROM slowly").await, "200");
        table.execute("UPDATE pace SET s = 600").await;
    }
    assert_no_helpers(&table).await;
    let stopped = Stopped::at("swap_sent", &["rebuild", "orders", "-t", &url, "--yes"]).await;
    stopped.wake();
    until(&table, &format!("SELECT (count(*) > 0)::text {FILLING}")).await;
    run_beside(&["abort", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    stopped.end().await;
    assert_eq!(states(&url).await, ["reverted", "aborted"]);
    assert_no_helpers(&table).await;
}

/// The server goes on filling it, and the next runner does not wait for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_killed_while_a_materialized_view_is_filled_it_is_filled_again() {
    let table = Table::with_rows(200).await;
    let url = table.url();
    table.execute(SLOWLY).await;
    table.execute("INSERT INTO pace VALUES (600)").await;
    let stopped = Stopped::at("swap_sent", &["rebuild", "orders", "-t", &url, "--yes"]).await;
    stopped.wake();
    until(&table, &format!("SELECT (count(*) > 0)::text {FILLING}")).await;
    // Readers of the live one, and writers, have nothing to do with that.
    table
        .execute(
            "SET lock_timeout = '1s'; SELECT count(*) FROM slowly; UPDATE orders SET amount = 3 WHERE id = 3",
        )
        .await;
    stopped.signal("KILL");
    stopped.end().await.was_killed();
    table.execute("UPDATE pace SET s = 0; DELETE FROM orders WHERE id = 9").await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.text("SELECT n::text FROM slowly").await, "199");
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_no_helpers(&table).await;
}

/// REFRESH has the view for long, and who comes behind a swap that waits for it would wait as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_long_refresh_delays_the_swap_and_no_writer() {
    let table = Table::with_rows(400).await;
    let url = table.url();
    table.execute(TOTALS).await;
    let mut probe = table.connect().await;
    for (args, at) in [(&["rebuild", "orders"], "lock_held:2"), (&["revert", "last"], "swap_intended:2")] {
        let args: Vec<&str> = args.iter().copied().chain(["-t", &url, "--yes"]).collect();
        let stopped = Stopped::at(at, &args).await;
        let mut holder = table.connect().await;
        run(&mut holder, "BEGIN; REFRESH MATERIALIZED VIEW CONCURRENTLY totals").await.expect("refreshed");
        stopped.wake();
        let (mut longest, until) = (Duration::ZERO, Instant::now() + HELD);
        while Instant::now() < until {
            let began = Instant::now();
            run(&mut probe, "UPDATE orders SET amount = 1 WHERE id = 1; SELECT count(*) FROM large")
                .await
                .expect("written");
            longest = longest.max(began.elapsed());
        }
        run(&mut holder, "COMMIT").await.expect("let go");
        stopped.end().await.exits(0);
        assert!(longest < LONGEST, "{at}: a writer waited for {} ms", longest.as_millis());
        assert_eq!(
            table.text("SELECT total::text FROM totals WHERE customer = 1").await,
            table.text("SELECT sum(amount)::text FROM orders WHERE customer = 1").await,
            "{at}"
        );
    }
    assert_no_helpers(&table).await;
}

/// As it is when the swap comes, and again when the way back does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_becomes_of_materialized_views_meanwhile_is_carried_over() {
    let table = Table::with_rows(200).await;
    let url = table.url();
    table.execute(TOTALS).await;
    table.execute(MOMENT).await;
    run_beside(&["rebuild", "orders", "-t", &url, "--yes"], &[("REPLANK_KILL_AT", "lock_held:2")])
        .await
        .was_killed();
    table
        .execute("CREATE MATERIALIZED VIEW late AS SELECT max(id) FROM orders; DROP MATERIALIZED VIEW moment;
                  COMMENT ON MATERIALIZED VIEW totals IS 'newer'; CREATE INDEX newer ON totals (n); GRANT SELECT ON totals TO PUBLIC")
        .await;
    let before = catalogue(&table).await;
    run_beside(&["resume", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&catalogue(&table).await, &before, "after the swap and before");
    table
        .execute("DROP MATERIALIZED VIEW late; CREATE MATERIALIZED VIEW later AS SELECT min(id) FROM orders; DROP INDEX newer;
                  ALTER MATERIALIZED VIEW totals SET (fillfactor = 50); REVOKE SELECT ON totals FROM PUBLIC;
                  DROP VIEW large; ALTER MATERIALIZED VIEW totals RENAME TO sums; CREATE VIEW large AS SELECT customer FROM sums;
                  REFRESH MATERIALIZED VIEW sums WITH NO DATA")
        .await;
    let before = catalogue(&table).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_same(&catalogue(&table).await, &before, "after the revert and before");
    assert_no_helpers(&table).await;
}

/// How the table is, what is done to it, and whether that can be taken back.
const SHAPES: &[(&str, &str, bool)] = &[
    (
        "CREATE ROLE THEM; GRANT CREATE ON SCHEMA public TO THEM; GRANT SELECT ON orders TO THEM;
         CREATE MATERIALIZED VIEW theirs AS SELECT customer FROM orders; ALTER MATERIALIZED VIEW theirs OWNER TO THEM;
         ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC",
        "",
        true,
    ),
    ("CREATE SCHEMA other; CREATE MATERIALIZED VIEW other.orders AS SELECT orders.id FROM orders; CREATE UNIQUE INDEX ON other.orders (id)", "--no-revert", false),
    (
        "",
        "CREATE TABLE orders (id bigint, customer int NOT NULL, amount numeric(12, 2), note varchar(20), PRIMARY KEY (id, customer))
         PARTITION BY HASH (customer); CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        true,
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_materialized_views_follow_into_every_shape_and_back() {
    for (made, how, has_way_back) in SHAPES {
        let table = Table::with_rows(150).await;
        let url = table.url();
        table.execute(TOTALS).await;
        let role = format!("v{}", table.text("SELECT current_database()::text").await);
        table.execute(&made.replace("THEM", &role)).await;
        let of_views = |lines: Vec<String>| -> Vec<String> {
            lines
                .into_iter()
                .filter(|line| ["totals", "theirs", "other"].iter().any(|name| line.contains(name)))
                .collect()
        };
        let before = of_views(catalogue(&table).await);
        let file = File::of(how);
        let path = file.path();
        let mut args = vec!["rebuild", "orders", "-t", &url, "--yes"];
        match how {
            _ if how.starts_with("CREATE") => args.extend(["--as", &path]),
            _ => args.extend(how.split_whitespace()),
        }
        table.execute("DELETE FROM orders WHERE id = 50").await;
        run_beside(&args, &[]).await.exits(0);
        assert_same(&of_views(catalogue(&table).await), &before, &format!("{made} {how}"));
        assert_eq!(table.text(UNTRUE).await, "", "{made} {how}");
        if *has_way_back {
            table.execute("DELETE FROM orders WHERE id = 51").await;
            run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
            assert_same(&of_views(catalogue(&table).await), &before, &format!("{made} {how}, and back"));
            assert_eq!(table.text(UNTRUE).await, "", "{made} {how}, and back");
        }
        assert_no_helpers(&table).await;
        if made.contains("THEM") {
            table.execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
        }
    }
}

/// What cannot follow, the change, and what is said of it.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "CREATE MATERIALIZED VIEW m AS SELECT note FROM orders",
        "ALTER TABLE orders DROP COLUMN note",
        "the materialized view public.m, which shows column note",
    ),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT tableoid::regclass::text AS whose, id FROM orders",
        RETYPE,
        "the materialized view m, which shows the number or name of a table (tableoid)",
    ),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT date_trunc('day', at) AS day FROM orders",
        RETYPE,
        "depend on the time zone of whoever refreshes it: write AT TIME ZONE in it",
    ),
    ("CREATE MATERIALIZED VIEW m AS SELECT at::text || note FROM orders", RETYPE, "depend on the time zone"),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT current_date - id::int FROM orders",
        RETYPE,
        "depend on the time zone",
    ),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT max(at)::text AS last FROM orders",
        RETYPE,
        "may depend on the time zone",
    ),
    ("CREATE MATERIALIZED VIEW m AS SELECT to_jsonb(at) FROM orders", RETYPE, "may depend on the time zone"),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT row_to_json(o) FROM orders AS o",
        RETYPE,
        "may depend on the time zone",
    ),
    (
        "CREATE FUNCTION day_of(timestamptz) RETURNS date STABLE LANGUAGE sql AS 'SELECT $1::date';
         CREATE MATERIALIZED VIEW m AS SELECT day_of(at) FROM orders",
        RETYPE,
        "use functions that are IMMUTABLE",
    ),
    (
        "CREATE VIEW days AS SELECT id, now()::date AS day FROM customers;
         CREATE MATERIALIZED VIEW m AS SELECT o.id, d.day FROM orders o JOIN days d ON d.id = o.customer",
        RETYPE,
        "may depend on the time zone",
    ),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT id FROM orders; ALTER MATERIALIZED VIEW m OWNER TO ROLE",
        RETYPE,
        "the materialized view public.m, whose owner may not read the whole table: GRANT SELECT ON public.orders TO",
    ),
    (
        "GRANT SELECT ON orders TO ROLE; ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
         CREATE MATERIALIZED VIEW m AS SELECT id FROM orders; ALTER MATERIALIZED VIEW m OWNER TO ROLE",
        RETYPE,
        "whose owner sees only what the policies of the table let him see",
    ),
    (
        "CREATE MATERIALIZED VIEW m AS SELECT id FROM orders; CREATE TABLE u (id int); CREATE POLICY p ON u USING (id IN (SELECT id FROM m))",
        RETYPE,
        "which uses the materialized view public.m",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_materialized_view_that_cannot_follow_is_refused_by_name() {
    let table = Table::with_rows(50).await;
    let url = table.url();
    let database = table.text("SELECT current_database()::text").await;
    let role = format!("v{database}");
    table
        .execute(&format!("CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}; ALTER TABLE orders ADD at timestamptz DEFAULT now();
                           ALTER DATABASE {database} SET timezone = 'Europe/Berlin'"))
        .await;
    for (made, change, says) in REFUSED {
        table.execute(&made.replace("ROLE", &role)).await;
        run_beside(&["apply", "-t", &url, "-e", change, "--yes"], &[]).await.exits(3).says(says);
        table.execute("DROP MATERIALIZED VIEW m CASCADE").await;
    }
    let plan = ["plan", "-t", &url, "-e", RETYPE];
    for (zone, style, shows, says) in [
        ("UTC", "ISO", "date_trunc('day', at), to_jsonb(at), (at AT TIME ZONE 'UTC')::text", ""),
        (
            "Europe/Berlin",
            "ISO",
            "at, id::text, amount + 1, at > now() AS is_new, (at AT TIME ZONE 'UTC')::text",
            "",
        ),
        ("UTC", "German", "at, id::text, at > now() AS is_new", ""),
        ("UTC", "German", "(at AT TIME ZONE 'UTC')::text", "may depend on the DateStyle or IntervalStyle"),
    ] {
        table
            .execute(&format!(
                "ALTER DATABASE {database} SET timezone = '{zone}'; ALTER DATABASE {database} SET datestyle = '{style}';
                 ALTER TABLE orders DISABLE ROW LEVEL SECURITY; CREATE MATERIALIZED VIEW m AS SELECT {shows} FROM orders"
            ))
            .await;
        match says {
            "" => run_beside(&plan, &[]).await.exits(0).says("made anew and filled before the swap: m"),
            says => run_beside(&plan, &[]).await.exits(3).says(says),
        };
        table.execute("DROP MATERIALIZED VIEW m").await;
    }
    table.execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
}
