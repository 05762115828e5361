//! A small change and its way back, with one message of it gone wrong.

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::run_within;
use crate::oracle::judge;
use crate::proxy::Proxy;
use crate::round_trips::{LIMIT_SECONDS, Leg, Strike, every_round_trip, told};

const ROWS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_every_round_trip_may_fail_once() {
    every_round_trip("on_mysql_every_round_trip_may_fail_once", broken).await;
}

/// A change and its way back, of which one leg goes through the proxy, and all that must hold. Answers with the leg's
/// commands, and whether one was struck.
async fn broken(strike: Strike, seed: u64) -> (u64, bool) {
    let table = Table::with_rows(ROWS).await;
    let (url, before) = (table.url(), table.definition().await);
    let proxy = Proxy::at_command(&url, strike.number, strike.fault).await;
    let through = proxy.url(&url);
    let writers = Application::at_leisure(&table, seed, 2).await;
    let change = |url| ["apply", "-t", url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=10"];
    let revert = |url| ["revert", "last", "-t", url, "--yes"];
    let journal = match strike.leg {
        Leg::Forward => {
            told(strike, &proxy, &change(&through)).await;
            writers.write_on(10).await;
            let journal = writers.stop().await;
            table.check(&journal).await;
            table.check_against_blocking(&before, RETYPE).await;
            run_within(LIMIT_SECONDS, &revert(&url)).await.exits(0);
            journal
        }
        Leg::Back => {
            run_within(LIMIT_SECONDS, &change(&url)).await.exits(0);
            told(strike, &proxy, &revert(&through)).await;
            writers.write_on(10).await;
            writers.stop().await
        }
    };
    judge(&format!("{strike:?}"), &journal);
    table.check(&journal).await;
    assert_eq!(table.definition().await, before, "the definition is as it was");
    table.assert_no_helpers().await;
    let answer = (proxy.commands(), proxy.has_struck());
    drop(proxy);
    // Thousands of them would be in each other's way.
    for database in [format!("_replank_{}", table.name()), table.name().to_owned()] {
        table.execute_again(&format!("DROP DATABASE IF EXISTS `{database}`")).await;
    }
    answer
}
