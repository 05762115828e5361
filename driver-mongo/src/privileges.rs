//! What a login may do, beside what a rebuild asks of it.
//!
//! Source: <https://www.mongodb.com/docs/manual/reference/privilege-actions/> and
//! <https://www.mongodb.com/docs/manual/reference/resource-document/>.

use std::collections::BTreeSet;

use bson::{Bson, Document, doc};
use replank_core::Result;
use replank_core::driver::Check;
use replank_core::driver::facts::CheckState;

use crate::connect::Server;
use crate::inspect::is_set;

/// On the database of the collections.
const ON_DATABASE: [&str; 15] = [
    "find",
    "insert",
    "update",
    "remove",
    "createCollection",
    "dropCollection",
    "createIndex",
    "collMod",
    "renameCollectionSameDB",
    "bypassDocumentValidation",
    "changeStream",
    "listCollections",
    "listIndexes",
    "collStats",
    "killCursors",
];
/// On the database of the records, in which capabilities are tried.
const ON_RECORDS: [&str; 10] = [
    "find",
    "insert",
    "update",
    "remove",
    "createCollection",
    "dropCollection",
    "collMod",
    "renameCollectionSameDB",
    "bypassDocumentValidation",
    "listCollections",
];
/// Who has a transaction open: without it no swap is made.
const ON_CLUSTER: &str = "inprog";
/// What helps, and goes without.
const HELPS: &str = "killop";

/// Looks at what the login may do.
pub async fn check(server: &Server) -> Result<Check> {
    let status = server.admin(doc! { "connectionStatus": 1, "showPrivileges": true }).await?;
    let info = status.get_document("authInfo").cloned().unwrap_or_default();
    let (state, found) = judge(&info, server.database_name(), &server.settings().state_name);
    let mend = (state != CheckState::Good).then(|| {
        format!(
            "grant readWrite and dbAdmin on `{}` and on `{}`, and {ON_CLUSTER} and {HELPS} on the cluster (clusterMonitor has the first)",
            server.database_name(),
            server.settings().state_name
        )
    });
    Ok(Check { name: "privileges".to_owned(), state, found, mend })
}

fn judge(info: &Document, database: &str, records: &str) -> (CheckState, String) {
    let list = |field: &str| info.get_array(field).map(Vec::as_slice).unwrap_or_default();
    if list("authenticatedUsers").is_empty() {
        return (CheckState::Good, "nobody is logged in, and the server lets us work".to_owned());
    }
    // A role without privileges is none: SecantusDB names the roles alone.
    if list("authenticatedUserPrivileges").is_empty() && !list("authenticatedUserRoles").is_empty() {
        return (CheckState::Warning, "the server does not say what the login may do".to_owned());
    }
    let privileges: Vec<&Document> =
        list("authenticatedUserPrivileges").iter().filter_map(Bson::as_document).collect();
    let mut missing = Vec::new();
    for (name, wanted) in [(database, &ON_DATABASE[..]), (records, &ON_RECORDS[..])] {
        let has = actions(&privileges, |resource| is_all_of(resource, name));
        let lacks: Vec<&str> = wanted.iter().copied().filter(|action| !has.contains(action)).collect();
        if !lacks.is_empty() {
            missing.push(format!("{} on `{name}`", lacks.join(", ")));
        }
    }
    let on_cluster = actions(&privileges, is_cluster);
    if !on_cluster.contains(ON_CLUSTER) {
        missing.push(format!("{ON_CLUSTER} on the cluster"));
    }
    if !missing.is_empty() {
        return (
            CheckState::Bad,
            format!("a rebuild needs what the login may not do: {}", missing.join("; ")),
        );
    }
    if !on_cluster.contains(HELPS) {
        let says =
            format!("what a dead runner has left running cannot be ended without {HELPS} on the cluster");
        return (CheckState::Warning, says);
    }
    (CheckState::Good, "the login may do all that a rebuild does".to_owned())
}

fn actions<'a>(privileges: &[&'a Document], is_wanted: impl Fn(&Document) -> bool) -> BTreeSet<&'a str> {
    privileges
        .iter()
        .filter(|privilege| privilege.get_document("resource").is_ok_and(&is_wanted))
        .flat_map(|privilege| privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default())
        .filter_map(Bson::as_str)
        .collect()
}

/// Every collection of a database: what is granted on single ones does not reach those that a run makes.
fn is_all_of(resource: &Document, database: &str) -> bool {
    let is_named = resource.get_str("db").is_ok_and(|db| db.is_empty() || db == database);
    is_any(resource) || (is_named && resource.get_str("collection").is_ok_and(str::is_empty))
}

fn is_cluster(resource: &Document) -> bool {
    is_any(resource) || is_set(resource, "cluster")
}

fn is_any(resource: &Document) -> bool {
    is_set(resource, "anyResource")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(resource: Document, actions: &[&str]) -> Document {
        doc! { "resource": resource, "actions": actions }
    }

    fn judged(privileges: &[Document]) -> (CheckState, String) {
        let users = [doc! { "user": "app", "db": "admin" }];
        let roles = [doc! { "role": "some", "db": "admin" }];
        let info = doc! {
            "authenticatedUsers": users,
            "authenticatedUserRoles": roles,
            "authenticatedUserPrivileges": privileges,
        };
        judge(&info, "shop", "_replank")
    }

    #[test]
    fn a_server_that_has_no_logins_or_lists_no_privileges_says_nothing_of_them() {
        assert_eq!(judge(&doc! {}, "shop", "_replank").0, CheckState::Good);
        assert_eq!(judged(&[]).0, CheckState::Warning);
        let nothing = doc! { "authenticatedUsers": [{ "user": "app", "db": "admin" }] };
        assert_eq!(judge(&nothing, "shop", "_replank").0, CheckState::Bad);
    }

    #[test]
    fn a_login_with_the_roles_of_the_page_may_do_all() {
        let shop = on(doc! { "db": "shop", "collection": "" }, &ON_DATABASE);
        let records = on(doc! { "db": "_replank", "collection": "" }, &ON_RECORDS);
        let cluster = on(doc! { "cluster": true }, &["inprog", "killop"]);
        assert_eq!(judged(&[shop.clone(), records.clone(), cluster]).0, CheckState::Good);
        let (state, says) = judged(&[shop, records, on(doc! { "cluster": true }, &["inprog"])]);
        assert_eq!((state, says.contains("killop")), (CheckState::Warning, true));
        let any = on(doc! { "anyResource": true }, &[&ON_DATABASE[..], &["inprog", "killop"]].concat());
        assert_eq!(judged(&[any]).0, CheckState::Good);
    }

    #[test]
    fn what_is_missing_is_named_with_where() {
        let everywhere = on(doc! { "db": "", "collection": "" }, &ON_RECORDS);
        let one = on(doc! { "db": "shop", "collection": "orders" }, &ON_DATABASE);
        let (state, says) = judged(&[everywhere, one]);
        assert_eq!(state, CheckState::Bad);
        let missing =
            "createIndex, changeStream, listIndexes, collStats, killCursors on `shop`; inprog on the cluster";
        assert!(says.ends_with(missing), "{says}");
    }
}
