//! `replank rebuild --as`: a new shape as a whole.

use super::application::{Application, Orders, assert_same};
use super::catalogue::described;
use super::table::{connect, run};
use crate::binary::run_beside;
use crate::oracle::judge;
use crate::random::seed;
use crate::server::postgres_database;

/// Columns in another order, another type, one more, checks with and without names, an index, an option.
const SHAPE: &str = "CREATE TABLE orders (
    version int NOT NULL DEFAULT 0 CONSTRAINT \"counts (up)\" CHECK (version >= 0),
    customer_id bigint NOT NULL,
    id bigint,
    code varchar(40) UNIQUE,
    note varchar(40) DEFAULT 'none',
    amount numeric(12, 2),
    total int GENERATED ALWAYS AS (version * 10) STORED,
    placed date NOT NULL DEFAULT '2020-01-01' CHECK (placed > '2000-01-01'),
    PRIMARY KEY (id),
    CHECK (amount IS NULL OR version >= 0),
    CHECK (amount IS NULL OR version >= -1)) WITH (fillfactor = 70);
CREATE INDEX orders_placed ON public.orders (placed);
CREATE INDEX ON orders (customer_id, placed)";

/// What stays of the old one.
const STAYS: &str = "CREATE INDEX orders_amount ON orders (amount);
    CREATE INDEX orders_silent ON orders (version) WHERE note IS NULL;
    CREATE INDEX orders_note ON orders (lower(note));
    COMMENT ON COLUMN orders.note IS 'what the clerk said'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_another_shape_is_given_whole_and_taken_back_under_load() {
    let test = "on_postgres_another_shape_is_given_whole_and_taken_back_under_load";
    let orders = Orders::with_rows(6_000).await;
    let (url, before) = (orders.url(), orders.definition().await);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shape.sql");
    let file = path.to_str().expect("a path");
    let rebuild = ["rebuild", "orders", "--as", file, "-t", &url, "--yes"];

    for (shape, exit, says) in [
        ("CREATE TABLE audit (id bigint PRIMARY KEY)", 2, "give the shape the table's own name"),
        ("DROP TABLE orders", 2, "a shape is CREATE TABLE"),
        ("CREATE TEMPORARY TABLE orders (id bigint PRIMARY KEY)", 2, "TEMPORARY"),
        ("CREATE TABLE orders (id bigint REFERENCES turns)", 2, "leave them out of the file"),
        (
            "CREATE TABLE orders (id bigint PRIMARY KEY); CREATE INDEX ON audit (id)",
            2,
            "the shape is one of audit",
        ),
        ("CREATE TABLE orders (id bigint PRIMARY KEY, x nonsense)", 3, "nonsense"),
        ("CREATE UNLOGGED TABLE orders (id bigint PRIMARY KEY)", 3, "UNLOGGED"),
        ("CREATE TABLE orders (LIKE orders) PARTITION BY RANGE (id)", 3, "told apart"),
        ("CREATE TABLE orders (LIKE orders INCLUDING DEFAULTS)", 3, "told apart"),
    ] {
        std::fs::write(&path, shape).expect("written");
        run_beside(&rebuild, &[]).await.exits(exit).says(says);
    }
    assert_same(&orders.definition().await, &before, "the definition, refused and before");

    std::fs::write(&path, SHAPE).expect("written");
    let writers = Application::start(&orders, seed(test), 3).await;
    run_beside(&rebuild, &[]).await.exits(0);
    let twin = postgres_database().await;
    let mut made = connect(&twin.url).await;
    run(&mut made, &format!("{SHAPE}; {STAYS}")).await.expect("a twin");
    let wanted = described(&mut made, "public", "orders").await;
    assert_same(&orders.definition().await, &wanted, "the definition, and what the server makes of the file");
    writers.write_on(100).await;
    run_beside(&["revert", "last", "-t", &url, "--yes"], &[]).await.exits(0);
    writers.write_on(50).await;
    let journal = writers.stop().await;
    judge(test, &journal);
    orders.check(&journal).await;
    assert_same(&orders.definition().await, &before, "the definition, before and after");
    orders.assert_no_helpers().await;
}

/// What the shape says would break those who write, or lose what keeps values apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_shape_that_would_fail_its_writers_is_refused() {
    let database = postgres_database().await;
    let mut connection = connect(&database.url).await;
    let made = "CREATE TABLE counts (id bigserial PRIMARY KEY, email text, n int); CREATE UNIQUE INDEX one ON counts (email);
         INSERT INTO counts (email) SELECT 'e' || n FROM generate_series(1, 20) AS n; CREATE PUBLICATION told FOR TABLE counts";
    run(&mut connection, made).await.expect(made);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shape.sql");
    let rebuild = ["rebuild", "counts", "--as", path.to_str().expect("a path"), "-t", &database.url, "--yes"];
    let columns = "id bigint NOT NULL DEFAULT nextval('counts_id_seq'), email text, n int";
    for (shape, says) in [
        // UPDATE would fail: there is nothing by which a subscriber would know the row.
        (format!("CREATE TABLE counts ({columns}, UNIQUE (id))"), "the publication told"),
        (
            "CREATE TABLE counts (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, email text, n int)"
                .to_owned(),
            "from its beginning",
        ),
        (
            format!("CREATE TABLE counts ({columns}, PRIMARY KEY (id), CONSTRAINT one UNIQUE (n))"),
            "give it a name in the file",
        ),
    ] {
        std::fs::write(&path, shape).expect("written");
        run_beside(&rebuild, &[]).await.exits(3).says(says);
    }
    // An index of the same columns that lets values in twice does not stand for one that does not.
    let shape = format!("CREATE TABLE counts ({columns}, PRIMARY KEY (id)); CREATE INDEX ON counts (email)");
    std::fs::write(&path, shape).expect("written");
    run_beside(&rebuild, &[]).await.exits(0);
    for (statement, is_taken) in [
        ("INSERT INTO counts (email) VALUES ('e5')", false),
        ("INSERT INTO counts (email) VALUES ('new')", true),
        ("UPDATE counts SET n = 1", true),
        ("DELETE FROM counts WHERE email = 'e7'", true),
    ] {
        assert_eq!(run(&mut connection, statement).await.is_ok(), is_taken, "{statement}");
    }
    run_beside(&["revert", "last", "-t", &database.url, "--yes"], &[]).await.exits(0);
    run(&mut connection, "UPDATE counts SET n = 2; INSERT INTO counts (email) VALUES ('newer')")
        .await
        .expect("as before");
}
