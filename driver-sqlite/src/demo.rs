//! A database to show a change on, with an application that keeps writing to it and knows exactly what it
//! wrote.
//!
//! Three writers, each with a connection of its own and a busy timeout as an application has, insert,
//! update, delete and move rows. Each owns the rows whose id has its remainder, so no two of them ever write
//! one row, and each notes a write once the database has acknowledged it. What the table must hold is
//! therefore known to the row, whatever was done to the table meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use replank_core::{Error, ErrorKind, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row as _};
use tokio::task::JoinSet;

use crate::error::from_sqlx;
use crate::sql::{query, run};

/// The table.
pub const TABLE: &str = "orders";

const WRITERS: i64 = 3;
/// What a web framework gives a connection by default.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Some hundred writes a second, as a busy shop on one file has.
const PAUSE: Duration = Duration::from_millis(4);

/// Makes the file, with `rows` orders in it.
///
/// # Errors
/// [`ErrorKind::Usage`] when the file is there already.
pub async fn make(path: &Path, rows: u64) -> Result<()> {
    if path.exists() {
        return Err(Error::new(ErrorKind::Usage, format!("`{}` is there already", path.display()))
            .hint("give an empty folder"));
    }
    let mut connection = options(path).create_if_missing(true).connect().await.map_err(from_sqlx)?;
    run(
        &mut connection,
        "CREATE TABLE orders (
           id INTEGER PRIMARY KEY,
           customer_id TEXT NOT NULL,
           amount INTEGER NOT NULL,
           note TEXT,
           version INTEGER NOT NULL DEFAULT 1
         )",
    )
    .await?;
    // The same rows as `Order::first`.
    run(
        &mut connection,
        format!(
            "INSERT INTO orders
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
             SELECT i, CAST(1000 + i * 7919 % 90000 AS TEXT), i * 31 % 100000,
                    CASE WHEN i % 97 = 0 THEN NULL ELSE 'order ' || i END, 1
             FROM n"
        ),
    )
    .await?;
    // What was written counts as there before anybody writes on.
    run(&mut connection, "PRAGMA wal_checkpoint(TRUNCATE)").await?;
    Ok(())
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

/// One order, without its id.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    customer: i64,
    amount: i64,
    note: Option<String>,
    version: i64,
}

impl Order {
    /// The order that [`make`] gives an id.
    fn first(id: i64) -> Self {
        Self {
            customer: 1000 + id * 7919 % 90000,
            amount: id * 31 % 100_000,
            note: (id % 97 != 0).then(|| format!("order {id}")),
            version: 1,
        }
    }
}

/// What the table must hold: the rows of the beginning, and every acknowledged write since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    rows: i64,
    /// Rows that were written: what they are now, or that they are gone.
    written: BTreeMap<i64, Option<Order>>,
}

impl Journal {
    /// Of a table that [`make`] has just made.
    #[must_use]
    pub fn new(rows: u64) -> Self {
        Self { rows: i64::try_from(rows).unwrap_or(i64::MAX), written: BTreeMap::new() }
    }

    fn expected(&self, id: i64) -> Option<Order> {
        match self.written.get(&id) {
            Some(order) => order.clone(),
            None => (1..=self.rows).contains(&id).then(|| Order::first(id)),
        }
    }

    fn expected_count(&self) -> i64 {
        let is_first = |id: &i64| (1..=self.rows).contains(id);
        let gone = self.written.iter().filter(|(id, order)| is_first(id) && order.is_none()).count();
        let new = self.written.iter().filter(|(id, order)| !is_first(id) && order.is_some()).count();
        self.rows + count(new) - count(gone)
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How the writers fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Writes that the database acknowledged.
    pub done: u64,
    /// Writes that it refused.
    pub failed: u64,
    /// Acknowledged writes that did not find the row that they were about: it was lost.
    pub lost: u64,
    /// The longest time that one write took.
    pub longest: Duration,
}

#[derive(Default)]
struct Counters {
    is_over: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    longest_us: AtomicU64,
}

/// The application.
pub struct Writers {
    counters: Arc<Counters>,
    tasks: JoinSet<Result<BTreeMap<i64, Option<Order>>>>,
    rows: i64,
}

impl Writers {
    /// Starts writing to the table of `path`, which holds what `journal` says.
    pub async fn start(path: &Path, journal: Journal, seed: u64) -> Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();
        for remainder in 0..WRITERS {
            let connection = options(path).connect().await.map_err(from_sqlx)?;
            let written = journal.written.iter().filter(|(id, _)| *id % WRITERS == remainder);
            let writer = Writer {
                connection,
                chance: Chance(seed.wrapping_add(remainder.unsigned_abs()).wrapping_mul(0x9E37_79B9)),
                counters: Arc::clone(&counters),
                remainder,
                rows: journal.rows,
                written: written.map(|(id, order)| (*id, order.clone())).collect(),
                new: Vec::new(),
                gone: Vec::new(),
                next: 0,
            };
            tasks.spawn(writer.write());
        }
        Ok(Self { counters, tasks, rows: journal.rows })
    }

    /// How they have fared so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            done: read(&self.counters.done),
            failed: read(&self.counters.failed),
            lost: read(&self.counters.lost),
            longest: Duration::from_micros(read(&self.counters.longest_us)),
        }
    }

    /// Waits for the writes under way, and answers what the table must hold now.
    pub async fn stop(mut self) -> Result<(Journal, Tally)> {
        self.counters.is_over.store(true, Ordering::Relaxed);
        let mut written = BTreeMap::new();
        while let Some(share) = self.tasks.join_next().await {
            let share = share.map_err(|error| {
                Error::new(ErrorKind::Internal, "a writer ended in a panic").caused_by(error)
            })?;
            written.extend(share?);
        }
        Ok((Journal { rows: self.rows, written }, self.tally()))
    }
}

/// One connection of the application.
struct Writer {
    connection: SqliteConnection,
    chance: Chance,
    counters: Arc<Counters>,
    remainder: i64,
    rows: i64,
    written: BTreeMap<i64, Option<Order>>,
    /// Ids beyond the first rows that are there.
    new: Vec<i64>,
    /// Ids of deleted rows, some of which come back.
    gone: Vec<i64>,
    next: i64,
}

enum Write {
    Insert(i64, Order),
    Update(i64, Order),
    Move(i64, i64, Order),
    Delete(i64),
}

impl Writer {
    async fn write(mut self) -> Result<BTreeMap<i64, Option<Order>>> {
        let last = self.written.keys().next_back().copied().unwrap_or(0).max(self.rows);
        self.next = (last + 1..).find(|id| id % WRITERS == self.remainder).unwrap_or(last);
        for (id, order) in &self.written {
            match order {
                Some(_) if *id > self.rows => self.new.push(*id),
                Some(_) => {}
                None => self.gone.push(*id),
            }
        }
        while !self.counters.is_over.load(Ordering::Relaxed) {
            if let Some(write) = self.choose() {
                self.carry_out(write).await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(self.written)
    }

    fn choose(&mut self) -> Option<Write> {
        match self.chance.below(100) {
            0..30 => {
                let id = if self.chance.below(4) == 0 { self.take_gone() } else { None };
                let id = id.unwrap_or_else(|| self.take_next());
                Some(Write::Insert(id, self.order(id, 1)))
            }
            30..75 => {
                let id = self.pick()?;
                let version = self.current(id)?.version + 1;
                Some(Write::Update(id, self.order(id, version)))
            }
            75..85 => {
                let id = self.pick()?;
                let order = self.current(id)?;
                Some(Write::Move(id, self.take_next(), order))
            }
            _ => Some(Write::Delete(self.pick()?)),
        }
    }

    async fn carry_out(&mut self, write: Write) -> Result<()> {
        let started = Instant::now();
        let result = match &write {
            Write::Insert(id, order) => {
                query("INSERT INTO orders (customer_id, amount, note, version, id) VALUES (?, ?, ?, ?, ?)")
                    .bind(order.customer.to_string())
                    .bind(order.amount)
                    .bind(order.note.clone())
                    .bind(order.version)
                    .bind(*id)
                    .execute(&mut self.connection)
                    .await
            }
            Write::Update(id, order) => {
                query("UPDATE orders SET customer_id = ?, amount = ?, note = ?, version = ? WHERE id = ?")
                    .bind(order.customer.to_string())
                    .bind(order.amount)
                    .bind(order.note.clone())
                    .bind(order.version)
                    .bind(*id)
                    .execute(&mut self.connection)
                    .await
            }
            Write::Move(from, to, _) => {
                query("UPDATE orders SET id = ? WHERE id = ?")
                    .bind(*to)
                    .bind(*from)
                    .execute(&mut self.connection)
                    .await
            }
            Write::Delete(id) => {
                query("DELETE FROM orders WHERE id = ?").bind(*id).execute(&mut self.connection).await
            }
        };
        let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.longest_us.fetch_max(took, Ordering::Relaxed);
        match result {
            Ok(done) => {
                let counter =
                    if done.rows_affected() == 1 { &self.counters.done } else { &self.counters.lost };
                counter.fetch_add(1, Ordering::Relaxed);
                self.note(write);
            }
            // Each write is one statement: refused means rolled back, and nothing is to be noted.
            Err(sqlx::Error::Database(_)) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                self.give_back(write);
            }
            Err(error) => return Err(from_sqlx(error)),
        }
        Ok(())
    }

    fn note(&mut self, write: Write) {
        match write {
            Write::Insert(id, order) => self.has(id, order),
            Write::Update(id, order) => {
                self.written.insert(id, Some(order));
            }
            Write::Move(from, to, order) => {
                self.lacks(from);
                self.has(to, order);
            }
            Write::Delete(id) => self.lacks(id),
        }
    }

    fn has(&mut self, id: i64, order: Order) {
        if id > self.rows {
            self.new.push(id);
        }
        self.written.insert(id, Some(order));
    }

    fn lacks(&mut self, id: i64) {
        self.new.retain(|new| *new != id);
        self.gone.push(id);
        self.written.insert(id, None);
    }

    /// A reused id that was not used after all is still gone.
    fn give_back(&mut self, write: Write) {
        if let Write::Insert(id, _) = write
            && self.written.contains_key(&id)
        {
            self.gone.push(id);
        }
    }

    /// A row that is there: as often a new one as one of the beginning.
    fn pick(&mut self) -> Option<i64> {
        if !self.new.is_empty() && self.chance.below(2) == 0 {
            let at = self.chance.below(self.new.len() as u64);
            return self.new.get(usize::try_from(at).ok()?).copied();
        }
        let any = 1 + i64::try_from(self.chance.below(self.rows.unsigned_abs())).ok()?;
        let id = any - any % WRITERS + self.remainder;
        let is_first = (1..=self.rows).contains(&id);
        (is_first && self.current(id).is_some()).then_some(id)
    }

    fn current(&self, id: i64) -> Option<Order> {
        self.written.get(&id).cloned().unwrap_or_else(|| Some(Order::first(id)))
    }

    fn take_gone(&mut self) -> Option<i64> {
        if self.gone.is_empty() {
            return None;
        }
        let at = self.chance.below(self.gone.len() as u64);
        Some(self.gone.swap_remove(usize::try_from(at).ok()?))
    }

    fn take_next(&mut self) -> i64 {
        let id = self.next;
        self.next += WRITERS;
        id
    }

    fn order(&mut self, id: i64, version: i64) -> Order {
        const NOTES: [Option<&str>; 4] = [None, Some("gift"), Some("it's \"urgent\""), Some("übergroß ✓")];
        let note = usize::try_from(self.chance.below(NOTES.len() as u64)).unwrap_or(0);
        Order {
            customer: 1000 + i64::try_from(self.chance.below(90_000)).unwrap_or(0),
            amount: i64::try_from(self.chance.below(100_000)).unwrap_or(0),
            note: NOTES.get(note).copied().flatten().map(|note| format!("{note} {id}")),
            version,
        }
    }
}

/// SplitMix64: enough to spread writes, and the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }
}

/// What a comparison of the table with a journal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows of the table.
    pub rows: u64,
    /// Rows that differ, are missing, or should not be there.
    pub wrong: u64,
    /// The first few of them.
    pub first: Vec<i64>,
    /// Rows whose customer has another type than was asked for.
    pub mistyped: u64,
    /// Helper objects that are still there.
    pub leftovers: Vec<String>,
}

/// Compares every row of the table of `path` with the journal; nobody may write meanwhile. `customer_type`
/// is what `typeof(customer_id)` must give.
pub async fn check(path: &Path, journal: &Journal, customer_type: &str) -> Result<Checked> {
    // Large enough that the reading costs little, small enough for memory.
    const AT_ONCE: i64 = 20_000;
    let path: PathBuf = path.to_owned();
    let mut connection = options(&path).connect().await.map_err(from_sqlx)?;
    let mut checked = Checked::default();
    let mut after = i64::MIN;
    let mut known = 0;
    loop {
        let rows = query(
            "SELECT id, CAST(customer_id AS INTEGER), amount, note, version, typeof(customer_id)
             FROM orders WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(AT_ONCE)
        .fetch_all(&mut connection)
        .await
        .map_err(from_sqlx)?;
        for row in &rows {
            let id: i64 = row.try_get(0).map_err(from_sqlx)?;
            let order = Order {
                customer: row.try_get(1).map_err(from_sqlx)?,
                amount: row.try_get(2).map_err(from_sqlx)?,
                note: row.try_get(3).map_err(from_sqlx)?,
                version: row.try_get(4).map_err(from_sqlx)?,
            };
            let found_type: String = row.try_get(5).map_err(from_sqlx)?;
            checked.rows += 1;
            checked.mistyped += u64::from(found_type != customer_type);
            let expected = journal.expected(id);
            known += i64::from(expected.is_some());
            if expected != Some(order) {
                checked.wrong += 1;
                if checked.first.len() < 5 {
                    checked.first.push(id);
                }
            }
            after = id;
        }
        if count(rows.len()) < AT_ONCE {
            break;
        }
    }
    // Rows that should be there and are not.
    checked.wrong += (journal.expected_count() - known).unsigned_abs();
    let left = query("SELECT type || ' ' || name FROM sqlite_schema WHERE name LIKE '\\_rp\\_%' ESCAPE '\\'")
        .fetch_all(&mut connection)
        .await
        .map_err(from_sqlx)?;
    for row in left {
        checked.leftovers.push(row.try_get(0).map_err(from_sqlx)?);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: u64 = 2_000;

    #[tokio::test]
    async fn the_journal_knows_what_the_table_holds() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("demo.db");
        make(&path, ROWS).await.expect("made");
        let mut journal = Journal::new(ROWS);
        for seed in 0..2 {
            let writers = Writers::start(&path, journal, seed).await.expect("started");
            tokio::time::sleep(Duration::from_millis(600)).await;
            let (after, tally) = writers.stop().await.expect("stopped");
            journal = after;
            assert!(tally.done > 50, "{tally:?}");
            assert_eq!((tally.failed, tally.lost), (0, 0), "{tally:?}");
            let checked = check(&path, &journal, "text").await.expect("checked");
            assert_eq!((checked.wrong, checked.mistyped), (0, 0), "{checked:?}");
        }
    }

    #[tokio::test]
    async fn a_changed_a_lost_and_an_invented_row_are_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("demo.db");
        make(&path, ROWS).await.expect("made");
        let mut connection = options(&path).connect().await.expect("connected");
        for (sql, wrong) in [
            ("UPDATE orders SET amount = amount + 1 WHERE id = 7", 1),
            ("DELETE FROM orders WHERE id = 8", 2),
            ("INSERT INTO orders (id, customer_id, amount) VALUES (999999, '1', 1)", 3),
        ] {
            run(&mut connection, sql).await.expect(sql);
            let checked = check(&path, &Journal::new(ROWS), "text").await.expect("checked");
            assert_eq!(checked.wrong, wrong, "{sql}: {checked:?}");
        }
        assert!(make(&path, ROWS).await.is_err(), "the file is there already");
    }
}
