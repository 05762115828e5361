//! What a server may answer at the worst moments, told by a proxy: a set that elects a primary, a write that the majority does
//! not have yet, a transaction that another one was in the way of, an oplog that is gone, a privilege that is missing. Each is a
//! whole run beside writers, after which every document is what they were told.

use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc};

use super::change::{Change, adorn, assert_no_helpers, definition, settings};
use super::orders::{COLLECTION, Orders, retyped};
use super::wire::{Rule, Wire};
use super::{Load, Settings};
use crate::binary::{Ended, run_beside, run_within};
use crate::random::seed;

/// One chunk, as SecantusDB is.
const DOCUMENTS: u64 = 40;
/// A run that takes longer has come to a stand.
const LIMIT_SECONDS: u64 = 60;

/// A collection, and a proxy that keeps to a script between the tool and the server.
struct Scene {
    test: &'static str,
    orders: Orders,
    wire: Wire,
    before: (Document, Vec<Document>),
}

impl Scene {
    async fn new(test: &'static str, script: Vec<Rule>) -> Self {
        let orders = Orders::with_documents(DOCUMENTS).await;
        adorn(&orders).await;
        let before = definition(&orders).await;
        let wire = Wire::before(&orders.url(), script).await;
        Self { test, orders, wire, before }
    }

    async fn writers(&self) -> Load {
        // There are some tens of documents, so that even a server that looks at each of them keeps up; and a run is over in a second.
        let settings =
            Settings { writers: 2, pause: Duration::from_millis(80), ..settings(&self.orders).await };
        Load::start(&self.orders, seed(self.test), settings).await
    }

    async fn change(&self) -> Ended {
        let (change, through) = (Change::new(), self.wire.url(&self.orders.url()));
        let args = change.args(&through, &self.orders, &[]).await;
        run_within(LIMIT_SECONDS, &args.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    fn assert_struck(&self, ended: &Ended) {
        let struck = self.wire.struck();
        assert!(struck.iter().all(|times| *times > 0), "{struck:?}\n{}", ended.err);
    }

    /// Beside writers the run came to its end by itself, and every rule was kept to.
    async fn goes_on(self) -> Ended {
        let load = self.writers().await;
        let ended = self.change().await.exits(0);
        self.has_gone_on(ended, load).await
    }

    /// The same, and nobody writes before the last rule was kept to.
    async fn goes_on_and_is_written_later(self) -> Ended {
        let written_later = async {
            let is_time = || self.wire.struck().last().is_some_and(|times| *times > 0);
            let until = Instant::now() + Duration::from_secs(LIMIT_SECONDS);
            while !is_time() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.writers().await
        };
        let (ended, load) = tokio::join!(self.change(), written_later);
        self.has_gone_on(ended.exits(0), load).await
    }

    async fn has_gone_on(self, ended: Ended, load: Load) -> Ended {
        self.assert_struck(&ended);
        load.write_on(5).await;
        let journal = load.stop().await;
        journal.check_swapped(&self.orders, retyped).await;
        assert_eq!(definition(&self.orders).await, self.before, "indexes and options are kept");
        run_beside(&["finalize", "last", "-t", &self.orders.url(), "--yes"], &[]).await.exits(0);
        journal.check_swapped(&self.orders, retyped).await;
        assert_no_helpers(&self.orders).await;
        ended
    }

    /// The run ended with an error, the collection is as it was and is written to, and what was made for it can be removed.
    async fn stops(self, code: i32, says: &[&str]) -> Vec<u64> {
        let load = self.writers().await;
        let mut ended = self.change().await.exits(code);
        for text in says {
            ended = ended.says(text);
        }
        self.assert_struck(&ended);
        assert_eq!(definition(&self.orders).await, self.before, "writes are let in again");
        load.write_on(5).await;
        let journal = load.stop().await;
        journal.check(&self.orders, Document::clone).await;
        run_beside(&["abort", "last", "-t", &self.orders.url(), "--yes"], &[]).await.exits(0);
        journal.check(&self.orders, Document::clone).await;
        assert_eq!(definition(&self.orders).await, self.before, "nothing of it is left");
        assert_no_helpers(&self.orders).await;
        self.wire.struck()
    }
}

/// The copy of a chunk.
fn copy() -> Rule {
    Rule::on("aggregate").with(|asked| stage(asked, |stages| stages.last()).contains_key("$merge"))
}

/// The change stream, from a place on.
fn stream() -> Rule {
    Rule::on("aggregate").with(|asked| {
        let first = stage(asked, |stages| stages.first());
        first.get_document("$changeStream").is_ok_and(|from| !from.is_empty())
    })
}

/// A change stream without a place to begin at, which is left as it is.
fn from_now() -> Rule {
    let is_it = |asked: &Document| {
        let first = stage(asked, |stages| stages.first());
        first.get_document("$changeStream").is_ok_and(Document::is_empty)
    };
    Rule::on("aggregate").with(is_it).always()
}

/// Its next events.
fn events() -> Rule {
    Rule::on("getMore").of("$cmd.aggregate")
}

fn stage(asked: &Document, choose: fn(&[Bson]) -> Option<&Bson>) -> Document {
    let stages = asked.get_array("pipeline").map(Vec::as_slice).unwrap_or_default();
    choose(stages).and_then(Bson::as_document).cloned().unwrap_or_default()
}

/// The documents of a batch.
fn applied() -> Rule {
    Rule::on("insert").of("_rp_").in_transaction()
}

fn fence() -> Rule {
    Rule::on("collMod").of(COLLECTION).with(is_closed)
}

fn lift() -> Rule {
    Rule::on("collMod").of(COLLECTION).with(|asked| !is_closed(asked))
}

fn is_closed(asked: &Document) -> bool {
    let equal = asked.get_document("validator").and_then(|validator| validator.get_document("$expr"));
    let equal = equal.and_then(|expression| expression.get_array("$eq")).ok();
    let first = equal.and_then(|sides| sides.first()).and_then(|side| side.as_str());
    first.is_some_and(|whose| whose.starts_with("replank fence"))
}

/// The first index of a copy that is complete, which is left as it is.
fn copied() -> Rule {
    Rule::on("createIndexes").of("_rp_")
}

fn swap() -> Rule {
    Rule::on("renameCollection").with(|asked| asked.contains_key("dropTarget"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_fence_that_is_not_raised_in_time_is_asked_for_again() {
    let test = "on_mongo_a_fence_that_is_not_raised_in_time_is_asked_for_again";
    let script = vec![fence().times(2).fails(50), fence().done_and_fails(50)];
    let ended = Scene::new(test, script).await.goes_on().await;
    assert_eq!(ended.err.matches("could not be stopped in time").count(), 3, "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_stream_whose_history_is_lost_ends_the_run_and_never_begins_from_now() {
    let test = "on_mongo_a_stream_whose_history_is_lost_ends_the_run_and_never_begins_from_now";
    let scripts = [
        vec![events().after(2).fails(286)],
        vec![stream().fails(286)],
        vec![events().after(2).cut(), stream().after(1).always().fails(286)],
    ];
    for mut script in scripts {
        script.push(from_now());
        let scene = Scene::new(test, script).await;
        let struck = scene.stops(1, &["may no longer be in the oplog", "abort it and begin again"]).await;
        assert_eq!(struck.last(), Some(&1), "only the look at what the server can do");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_transaction_that_the_server_undid_is_begun_again() {
    let test = "on_mongo_a_transaction_that_the_server_undid_is_begun_again";
    let script = vec![
        applied().fails(112),
        Rule::on("delete").of("_rp_").in_transaction().fails(112),
        applied().fails(251),
        Rule::on("commitTransaction").fails(251),
        Rule::on("commitTransaction").fails(112),
    ];
    Scene::new(test, script).await.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_commit_of_which_nobody_knows_is_made_sure_of() {
    let test = "on_mongo_a_commit_of_which_nobody_knows_is_made_sure_of";
    let commit = || Rule::on("commitTransaction");
    let script = vec![
        commit().done_and_cut(),
        commit().done_and_fails(91),
        commit().times(2).cut(),
        commit().times(2).done_and_cut(),
        commit().times(2).done_and_fails(10107),
    ];
    Scene::new(test, script).await.goes_on().await;
}

/// SecantusDB's `$merge` writes over what is written while it runs (`server_alone`), so nobody writes before the copy is complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_primary_that_steps_down_while_it_copies_is_waited_for() {
    let test = "on_mongo_a_primary_that_steps_down_while_it_copies_is_waited_for";
    let script = vec![copy().fails(10107), copy().done_and_fails(11602), copy().done_and_cut(), copied()];
    Scene::new(test, script).await.goes_on_and_is_written_later().await;
}

/// Twice, where the client itself tries once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_primary_that_steps_down_while_changes_are_followed_is_waited_for() {
    let test = "on_mongo_a_primary_that_steps_down_while_changes_are_followed_is_waited_for";
    let script = vec![
        applied().fails(11602),
        Rule::on("commitTransaction").times(2).fails(91),
        events().after(3).fails(10107),
        stream().after(1).fails(91),
    ];
    Scene::new(test, script).await.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_primary_that_steps_down_under_the_records_is_waited_for() {
    let test = "on_mongo_a_primary_that_steps_down_under_the_records_is_waited_for";
    let records = |command, part| Rule::on(command).of(part);
    let script = vec![
        Rule::on("create").of("_rp_").fails(10107),
        Rule::on("createIndexes").of("_rp_").done_and_fails(91),
        records("update", "runs").after(2).times(2).fails(10107),
        records("update", "runs").after(2).times(2).done_and_fails(91),
        records("insert", "events").after(1).times(2).done_and_fails(11602),
        records("find", "runs").after(1).times(2).fails(11602),
        records("update", "objects").after(3).times(2).fails(10107),
    ];
    Scene::new(test, script).await.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_primary_that_steps_down_at_the_fence_leaves_it_neither_up_nor_forgotten() {
    let test = "on_mongo_a_primary_that_steps_down_at_the_fence_leaves_it_neither_up_nor_forgotten";
    let scripts = [
        vec![fence().fails(10107)],
        vec![fence().done_and_fails(91), lift().fails(11602)],
        vec![fence().fails(50), lift().done_and_fails(10107)],
    ];
    for script in scripts {
        Scene::new(test, script).await.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_rename_of_which_nobody_knows_is_asked_of_the_catalogue() {
    let test = "on_mongo_a_rename_of_which_nobody_knows_is_asked_of_the_catalogue";
    let scripts = [
        vec![swap().fails(10107)],
        vec![swap().done_and_fails(91)],
        vec![swap().cut()],
        vec![swap().done_and_cut()],
        vec![swap().lacks_majority(64)],
    ];
    for script in scripts {
        Scene::new(test, script).await.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_what_the_majority_may_not_have_is_not_taken_for_done() {
    let test = "on_mongo_what_the_majority_may_not_have_is_not_taken_for_done";
    let script = vec![
        copy().lacks_majority(64),
        Rule::on("create").of("_rp_").lacks_majority(64),
        Rule::on("update").of("runs").after(3).lacks_majority(64),
        copied(),
    ];
    Scene::new(test, script).await.goes_on_and_is_written_later().await;
    let script = vec![
        Rule::on("commitTransaction").lacks_majority(64),
        fence().lacks_majority(64),
        lift().lacks_majority(91),
    ];
    Scene::new(test, script).await.goes_on().await;
}

/// As long as a `mongod` lists it; who has it is told, and no fence is raised in front of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_long_transaction_of_somebody_else_is_named_and_waited_for() {
    let test = "on_mongo_a_long_transaction_of_somebody_else_is_named_and_waited_for";
    let open = doc! {
        "type": "idleSession", "appName": "nightly report", "client": "10.0.0.7:51234", "active": false,
        "lsid": { "id": "a session" },
        "transaction": { "parameters": { "txnNumber": 7_i64 }, "timeOpenMicros": 45_000_000_i64 },
    };
    let listed = move |mut answer: Document| {
        let cursor = doc! { "firstBatch": [open.clone()], "id": 0_i64, "ns": "admin.$cmd.aggregate" };
        answer.insert("cursor", cursor);
        answer
    };
    let holders = Rule::on("aggregate").with(|asked| {
        let first = stage(asked, |stages| stages.first());
        first.get_document("$currentOp").is_ok_and(|of| of.get_bool("idleSessions").is_ok_and(|asked| asked))
    });
    let ended = Scene::new(test, vec![holders.times(2).tells(listed)]).await.goes_on().await;
    let said = ended.says("a transaction of nightly report at 10.0.0.7:51234, open for 45000 ms");
    assert_eq!(said.err.matches("no swap yet").count(), 2, "{}", said.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_copy_that_the_validation_refuses_ends_the_run() {
    let test = "on_mongo_a_copy_that_the_validation_refuses_ends_the_run";
    Scene::new(test, vec![copy().fails(121)]).await.stops(1, &["Document failed validation"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mongo_a_login_that_lacks_a_privilege_is_told_which() {
    let test = "on_mongo_a_login_that_lacks_a_privilege_is_told_which";
    let operations =
        Rule::on("aggregate").with(|asked| stage(asked, |stages| stages.first()).contains_key("$currentOp"));
    let cases = [
        (operations.always(), "`inprog` on the cluster"),
        (fence().always(), "`dbAdmin` on the database"),
        (swap().always(), "`readWrite` and `dbAdmin` on the database"),
    ];
    for (rule, says) in cases {
        Scene::new(test, vec![rule.fails(13)]).await.stops(3, &["not authorized", says]).await;
    }
}
