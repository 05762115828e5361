//! What would stop a rebuild at its first chunk, or only at its swap, is told when it is planned.

use super::table::{Table, run};
use crate::binary::run_beside;

/// A table with whatever follows its name, and one that refers to it.
async fn followed() -> Table {
    let table = Table::with_rows(50).await;
    table
        .execute(
            "CREATE TABLE \"People\" (id bigint PRIMARY KEY, mail text NOT NULL, age int, team int REFERENCES customers (id), boss bigint);
             ALTER TABLE \"People\" ADD UNIQUE (age), ADD FOREIGN KEY (boss) REFERENCES \"People\" (id);
             INSERT INTO \"People\" SELECT n, 'm' || n, n, n, 1 FROM generate_series(1, 50) AS n;
             CREATE TABLE cards (age int REFERENCES \"People\" (age), of bigint REFERENCES \"People\" (id));
             CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER watched BEFORE UPDATE ON \"People\" FOR EACH ROW WHEN (NEW.age > 200) EXECUTE FUNCTION touched();
             CREATE POLICY grown ON \"People\" USING (age > 0);
             CREATE SEQUENCE taken; CREATE TABLE other (id int CONSTRAINT free PRIMARY KEY)",
        )
        .await;
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_what_cannot_follow_the_new_shape_is_told_when_it_is_planned() {
    let table = followed().await;
    let url = table.url();
    let before = table.schema().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shape.sql");
    let rebuild = ["rebuild", "\"People\"", "--as", path.to_str().expect("a path"), "-t", &url, "--yes"];
    let shape = |rest: &str| format!("CREATE TABLE \"People\" (id bigint PRIMARY KEY, boss bigint, {rest})");
    for (rest, says) in [
        ("mail text NOT NULL, age text UNIQUE, team int", "the new shape does not take `CREATE"),
        ("mail text NOT NULL, age bigint, team int", "foreign key cards_age_fkey of cards"),
        ("mail text NOT NULL, age int UNIQUE, team text", "foreign key People_team_fkey"),
        ("mail text NOT NULL, age int CONSTRAINT taken UNIQUE, team int", "something else has that name"),
        ("mail text NOT NULL, age int CONSTRAINT free UNIQUE, team int", "something else has that name"),
        ("mail text NOT NULL, age int UNIQUE, team int, code int NOT NULL", "C009"),
        ("mail text NOT NULL, age int UNIQUE, team int, CHECK (age < 50)", "do not meet the CHECK"),
        (
            "mail text NOT NULL, age int UNIQUE, team int, more int DEFAULT 3, twice int GENERATED ALWAYS AS (age * 2) STORED,
             CHECK (twice < 90 + more)",
            "do not meet the CHECK",
        ),
    ] {
        std::fs::write(&path, shape(rest)).expect("written");
        let ended = run_beside(&rebuild, &[]).await.exits(3).says(says);
        println!("{}", ended.err);
        assert_eq!(table.schema().await, before, "{rest}");
    }
    // As nobody who says NOT VALID would want it.
    let not_valid = "ALTER TABLE \"People\" ADD CONSTRAINT young CHECK (age < 10) NOT VALID";
    run_beside(&["plan", "-t", &url, "-e", not_valid], &[])
        .await
        .exits(0)
        .says("hold young for all writes to come");
    for (view, retype, says) in [
        // In the new shape the cast does nothing, and the server forgets it.
        ("SELECT id, age::bigint AS age FROM \"People\"", "bigint", "would not come back as it is"),
        ("SELECT id FROM \"People\" WHERE age::text LIKE '1%'", "text", "would not come back as it is"),
        ("SELECT id FROM \"People\" WHERE age = 3", "text", "does not take the view"),
    ] {
        table
            .execute(&format!(
                "ALTER TABLE cards DROP CONSTRAINT IF EXISTS cards_age_fkey; CREATE VIEW shown AS {view}"
            ))
            .await;
        let statement = format!("ALTER TABLE \"People\" ALTER age TYPE {retype}");
        table
            .execute(
                "DROP POLICY IF EXISTS grown ON \"People\"; DROP TRIGGER IF EXISTS watched ON \"People\"",
            )
            .await;
        run_beside(&["apply", "-t", &url, "-e", &statement, "--yes"], &[]).await.exits(3).says(says);
        table.execute("DROP VIEW shown").await;
    }
    table
        .execute(
            "ALTER TABLE cards ADD FOREIGN KEY (age) REFERENCES \"People\" (age); CREATE POLICY grown ON \"People\" USING (age > 0);
             CREATE TRIGGER watched BEFORE UPDATE ON \"People\" FOR EACH ROW WHEN (NEW.age > 200) EXECUTE FUNCTION touched()",
        )
        .await;
    let fits =
        "mail text NOT NULL, age bigint UNIQUE, team int, more int NOT NULL DEFAULT 3, CHECK (age < 51)";
    std::fs::write(&path, shape(fits)).expect("written");
    run_beside(&rebuild, &[]).await.exits(0);
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    assert_eq!(table.schema().await, before);
}

/// A row that is inserted after the change has no value there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_column_that_is_owed_a_value_on_the_way_back_is_named() {
    let table = followed().await;
    let url = table.url();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shape.sql");
    let without = "CREATE TABLE \"People\" (id bigint PRIMARY KEY, age int UNIQUE, team int, boss bigint)";
    std::fs::write(&path, without).expect("written");
    let rebuild = ["rebuild", "\"People\"", "--as", path.to_str().expect("a path"), "-t", &url, "--yes"];
    run_beside(&rebuild, &[]).await.exits(0).says("takes no row without mail").says("-D reverse=mail=");
    run(&mut table.connect().await, "INSERT INTO \"People\" (id, age) VALUES (99, 99)")
        .await
        .expect("written");
    let revert = ["revert", "last", "-t", &url, "--yes"];
    let ended = run_beside(&revert, &[]).await;
    assert_ne!(ended.code, Some(0));
    assert_eq!(table.text("SELECT count(*)::text FROM \"People\"").await, "51", "{}", ended.err);
    table.execute("DELETE FROM \"People\" WHERE id = 99").await;
    run_beside(&revert, &[]).await.exits(0);
    assert_eq!(table.text("SELECT mail FROM \"People\" WHERE id = 7").await, "m7");
}
