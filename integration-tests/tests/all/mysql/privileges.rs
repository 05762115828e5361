//! ENV-09: a login that lacks just one of the privileges that are needed.

use super::oracle::RETYPE;
use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::is_mariadb;

/// As `docs/mysql.md` lists them.
const ON_TABLES: [&str; 10] =
    ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "LOCK TABLES", "TRIGGER"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_login_that_lacks_one_privilege_is_told_which_and_nothing_is_begun() {
    let test = "on_mysql_a_login_that_lacks_one_privilege_is_told_which_and_nothing_is_begun";
    let table = Table::with_rows(200).await;
    let (name, before) = (table.name().to_owned(), table.definition().await);
    let login = format!("'p{name}'@'%'");
    let everywhere = if is_mariadb() { "BINLOG MONITOR" } else { "XA_RECOVER_ADMIN" };
    let own = format!("`{}`.*", format!("_replank_{name}%").replace('_', "\\_"));
    let mut needed: Vec<(&str, String)> = Vec::new();
    needed
        .extend(["REPLICATION SLAVE", "PROCESS", everywhere].map(|privilege| (privilege, "*.*".to_owned())));
    needed.extend(ON_TABLES.map(|privilege| (privilege, format!("`{name}`.*"))));
    needed.extend(ON_TABLES.map(|privilege| (privilege, own.clone())));
    needed.push(("SELECT", "performance_schema.*".to_owned()));

    table.execute(&format!("CREATE USER {login} IDENTIFIED BY 'secret-word'")).await;
    for (privilege, on) in &needed {
        table.execute(&format!("GRANT {privilege} ON {on} TO {login}")).await;
    }
    let url = table.url().replacen("root:replank", &format!("p{name}:secret-word"), 1);
    let apply = ["apply", "-t", &url, "-e", RETYPE, "--yes"];
    let begun = format!(
        "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name LIKE '{}'",
        format!("_replank_{name}%").replace('_', "\\_")
    );
    for (privilege, on) in &needed {
        table.execute(&format!("REVOKE {privilege} ON {on} FROM {login}")).await;
        run_beside(&apply, &[])
            .await
            .exits(3)
            .says(&format!("{privilege} on {on} is missing"))
            .says(&format!("GRANT {privilege} ON {on} TO {login}"));
        assert_eq!(table.text(&begun).await, "0", "without {privilege} on {on}");
        table.execute(&format!("GRANT {privilege} ON {on} TO {login}")).await;
    }
    assert_eq!(table.definition().await, before);
    table.assert_no_helpers().await;

    // And nothing more is needed, on the whole way.
    let writers = Application::start(&table, seed(test), 2).await;
    run_beside(&apply, &[]).await.exits(0);
    run_beside(&["verify", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, before);
    run_beside(&apply, &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    let journal = writers.stop().await;
    judge(test, &journal);
    table.check(&journal).await;
    table.check_against_blocking(&before, RETYPE).await;
    table.assert_no_helpers().await;
    table.execute(&format!("DROP USER {login}")).await;
}
