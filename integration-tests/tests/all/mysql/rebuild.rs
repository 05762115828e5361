//! `replank rebuild`: as the table is, and in a new shape as a whole.

use super::{Application, Table};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::is_mariadb;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_table_is_rebuilt_as_it_is_and_in_a_new_shape() {
    let table = Table::with_rows(3_000).await;
    let (url, before) = (table.url(), table.definition().await);
    let writers = Application::start(&table, seed("rebuild"), 3).await;
    run_beside(&["rebuild", "orders", "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, before);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("shape.sql");
    let shape = before.replace("`customer_id` int NOT NULL", "`customer_id` bigint NOT NULL").replace(
        "KEY `orders_amount` (`amount`)",
        "KEY `orders_amount` (`amount`),\n  KEY `ix_c` (`customer_id`)",
    );
    std::fs::write(&file, format!("{shape};\n")).expect("written");
    let file = file.to_str().expect("a path").to_owned();
    run_beside(&["rebuild", "orders", "--as", &file, "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(30).await;
    let journal = writers.stop().await;
    judge("rebuild", &journal);
    table.check(&journal).await;
    assert_eq!(table.definition().await, shape);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.definition().await, before);
    table.check(&journal).await;
    let unknown = if is_mariadb() { "Unknown data type" } else { "syntax" };
    for (shape, says) in [
        ("CREATE TABLE other (id INT PRIMARY KEY)", "other"),
        ("CREATE TABLE orders LIKE audit", "columns"),
        ("DROP TABLE orders", "CREATE TABLE"),
        ("CREATE TABLE orders (id INT PRIMARY KEY, nonsense WHATEVER)", unknown),
    ] {
        std::fs::write(&file, shape).expect("written");
        run_beside(&["rebuild", "orders", "--as", &file, "-t", &url, "--yes"], &[]).await.exits(2).says(says);
    }
    // Columns that the shape leaves out are dropped, and kept until it is final.
    std::fs::write(&file, shape_without_note(&before)).expect("written");
    run_beside(&["rebuild", "orders", "--as", &file, "-t", &url, "--yes"], &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    table.check(&journal).await;
    table.assert_no_helpers().await;
}

fn shape_without_note(definition: &str) -> String {
    let lines: Vec<&str> = definition.lines().filter(|line| !line.contains("note")).collect();
    lines.join("\n").replace(",\n)", "\n)")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_a_rebuild_takes_keys_and_triggers_along_and_refuses_what_would_not_follow() {
    let table = Table::with_rows(5).await;
    let url = table.url();
    for statement in [
        "CREATE TABLE parent (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE child (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))",
        "CREATE TABLE watched (id INT PRIMARY KEY, v INT)",
        "CREATE TRIGGER watcher AFTER INSERT ON watched FOR EACH ROW SET @seen = 1",
    ] {
        table.execute(statement).await;
    }
    let before = [table.definition_of("parent").await, table.definition_of("child").await];
    for name in ["parent", "child", "watched"] {
        run_beside(&["rebuild", name, "-t", &url, "--yes"], &[]).await.exits(0);
        run_beside(&["finalize", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    }
    assert_eq!([table.definition_of("parent").await, table.definition_of("child").await], before);
    assert_eq!(
        table
            .text("SELECT event_object_table FROM information_schema.triggers WHERE trigger_name = 'watcher'")
            .await,
        "watched"
    );
    let shape = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(shape.path(), "CREATE TABLE child (id INT PRIMARY KEY, p INT)").expect("written");
    let path = shape.path().to_str().expect("a path");
    run_beside(&["rebuild", "child", "--as", path, "-t", &url, "--yes"], &[]).await.exits(3).says("M208");
    table.assert_no_helpers().await;
}
