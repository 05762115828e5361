//! A small change and its way back, with one message of it gone wrong.

use super::application::{Application, Orders, assert_same};
use super::oracle::RETYPE;
use crate::binary::run_within;
use crate::oracle::judge;
use crate::proxy::Proxy;
use crate::round_trips::{LIMIT_SECONDS, Leg, Strike, every_round_trip, told};

const ROWS: u64 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_every_round_trip_may_fail_once() {
    every_round_trip("on_postgres_every_round_trip_may_fail_once", broken).await;
}

/// A change and its way back, of which one leg goes through the proxy, and all that must hold. Answers with the leg's
/// commands, and whether one was struck.
async fn broken(strike: Strike, seed: u64) -> (u64, bool) {
    let orders = Orders::with_rows(ROWS).await;
    let (url, before) = (orders.url(), orders.definition().await);
    let proxy = Proxy::at_command(&url, strike.number, strike.fault).await;
    let through = proxy.url(&url);
    let writers = Application::at_leisure(&orders, seed, 2).await;
    let change = |url| ["apply", "-t", url, "-e", RETYPE, "--yes", "--throttle", "chunk_rows_max=10"];
    let revert = |url| ["revert", "last", "-t", url, "--yes"];
    let journal = match strike.leg {
        Leg::Forward => {
            told(strike, &proxy, &change(&through)).await;
            writers.write_on(10).await;
            let journal = writers.stop().await;
            orders.check(&journal).await;
            orders.check_against_blocking(RETYPE, &[]).await;
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
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
    let answer = (proxy.commands(), proxy.has_struck());
    drop(proxy);
    // Thousands of them would be in each other's way.
    orders.drop_database().await;
    answer
}
