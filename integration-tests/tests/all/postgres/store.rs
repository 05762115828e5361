//! Where runs are kept, held against the sentences of the contract.

use std::sync::Arc;

use async_trait::async_trait;
use replank_core::driver::{Request, Session, Settings};
use replank_core::ident::TableId;
use replank_core::testkit::conformance::{Fixture, Hold, Write, cases};

use super::Table;

struct Server(Table);

#[async_trait]
impl Fixture for Server {
    async fn session(&self) -> Arc<dyn Session> {
        let driver = replank_driver_postgres::driver();
        driver.connect(&self.0.url(), &Settings::default()).await.expect("the driver connects")
    }

    fn table(&self) -> TableId {
        TableId { schema: Some("public".to_owned()), name: "orders".to_owned() }
    }

    fn change(&self) -> Request {
        panic!("there is no rebuild yet")
    }

    async fn write(&self, _table: &TableId, _writes: &[Write]) {
        panic!("there is no rebuild yet")
    }

    async fn rows(&self, _table: &TableId) -> Vec<(String, String)> {
        panic!("there is no rebuild yet")
    }

    async fn hold(&self) -> Box<dyn Hold> {
        panic!("there is no rebuild yet")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_leases_and_commands_are_kept_as_the_contract_says() {
    let mut held = 0;
    for case in cases() {
        // The others need a rebuild.
        if case.name.starts_with("lease::") || case.name.starts_with("control::") {
            let server = Server(Table::with_rows(1).await);
            println!("{}", case.name);
            (case.run)(&server).await;
            held += 1;
        }
    }
    assert_eq!(held, 5);
}
