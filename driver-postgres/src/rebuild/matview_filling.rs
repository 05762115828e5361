//! Filling materialized views over the table that is not live, from one moment at which that table says the same as the live one.
//!
//! Changes are brought over one by one, so the table that is not live is never quite the live one as it was at some moment,
//! but under the first lock of a swap, when all of it was brought over and nobody writes. So one attempt to swap only takes a
//! snapshot there, and lets writers go on at once; REFRESH runs with that snapshot, for as long as it takes. The next attempt
//! swaps, unless the live one was refreshed since, whose stamp is of the same snapshot.
//!
//! So after the swap each says what REFRESH would have said at a moment that is no earlier than the last REFRESH that was
//! committed before.

use std::collections::BTreeMap;

use replank_core::driver::GAVE_WAY;
use replank_core::engine::boundary::{Boundary, reached};
use replank_core::{Error, ErrorKind, Result};

use super::matviews::{Pair, own_stamps};
use super::{Core, readiness};
use crate::attached::STAMP;
use crate::connect::Conn;
use crate::error::is_canceled;
use crate::sql::{get, rows, run, text};
use crate::state::ObjectRole;

/// A session that may take the snapshot, and those that it is for.
pub struct Filling {
    connection: Conn,
    pairs: Vec<Pair>,
    /// By the number of the live one.
    seen: BTreeMap<i64, Seen>,
}

/// A live one, as the snapshot has it.
struct Seen {
    name: String,
    has_rows: bool,
    stamp: String,
}

impl Filling {
    /// For those that are stale, if any is.
    pub async fn of(core: &Core, pairs: &[Pair]) -> Result<Option<Self>> {
        let pairs: Vec<Pair> = pairs.iter().filter(|pair| pair.is_stale()).cloned().collect();
        match pairs.is_empty() {
            true => Ok(None),
            // Connecting takes longer than all else, and nobody waits yet.
            false => {
                Ok(Some(Self { connection: readiness::connect(core).await?, pairs, seen: BTreeMap::new() }))
            }
        }
    }

    /// Takes the snapshot, in one message, under the first lock. Other tables may show the owner a part only, as they do when
    /// the person refreshes, and dates are read and written as in sessions that have set nothing. Answers with why there is no swap now.
    pub async fn begin(&mut self) -> Result<Error> {
        let numbers: Vec<String> = self.pairs.iter().map(|pair| pair.live.oid.to_string()).collect();
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL row_security = on;
             SET LOCAL DateStyle TO DEFAULT; SET LOCAL IntervalStyle TO DEFAULT; SET LOCAL bytea_output TO DEFAULT;
             SELECT v.oid::bigint, v.oid::regclass::text, v.relispopulated, {STAMP} FROM pg_class v WHERE v.oid IN ({})",
            numbers.join(", ")
        );
        for row in rows(&mut self.connection, sql).await? {
            let seen = Seen { name: get(&row, 1)?, has_rows: get(&row, 2)?, stamp: get(&row, 3)? };
            self.seen.insert(get(&row, 0)?, seen);
        }
        let is_by_others = self.pairs.iter().any(Pair::was_filled_by_others);
        let again = is_by_others || self.pairs.iter().any(|pair| pair.aside.stamp.is_some());
        let what = match (is_by_others, again) {
            (true, _) => {
                "somebody has refreshed a materialized view that is not live yet, and it is filled again, as of this moment"
            }
            (false, true) => {
                "a materialized view was refreshed meanwhile, and the new one is filled again, as of this moment"
            }
            (false, false) => "materialized views are filled first, as of this moment",
        };
        let error = Error::new(ErrorKind::Retry, what);
        // One that is refreshed each time before ours is filled must not be waited for without a pause.
        Ok(if again { error } else { error.with(GAVE_WAY, "REFRESH") })
    }

    /// Whether the snapshot was taken.
    pub fn is_begun(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Fills them, when nobody waits any more. What they are filled with counts from the note on that is made last.
    pub async fn fill(mut self, core: &Core) -> Result<()> {
        for pair in &self.pairs {
            let Some(seen) = self.seen.get(&pair.live.oid) else { continue };
            let name = pair.full_name(core);
            let none = if seen.has_rows { "" } else { " WITH NO DATA" };
            tracing::info!(name, "filling a materialized view over the new table");
            run(&mut self.connection, format!("REFRESH MATERIALIZED VIEW {name}{none}"))
                .await
                .map_err(|error| told(core, &seen.name, error))?;
        }
        // Before the commit: after it somebody else's REFRESH would be taken for this one.
        let filled = own_stamps(&mut self.connection, self.pairs.iter().map(|pair| pair.incoming)).await?;
        run(&mut self.connection, "COMMIT").await?;
        reached(Boundary::Moving);
        let mut aside = core.server.take().await?;
        for pair in &self.pairs {
            let (Some(seen), Some(filled)) = (self.seen.get(&pair.live.oid), filled.get(&pair.incoming))
            else {
                continue;
            };
            // The planner must know it from the first moment on.
            run(&mut self.connection, format!("ANALYZE {}", pair.full_name(core)))
                .await
                .map_err(|error| core.missed(error))?;
            let known = format!(
                "(extra::jsonb || jsonb_build_object('stamp', {}, 'filled', {}))::text",
                text(&seen.stamp),
                text(filled)
            );
            let name = core.matview_name(&pair.aside.tail, core.fence());
            run(&mut aside, core.objects.changing_one(ObjectRole::Matview, &name, &known)).await?;
        }
        core.server.keep(aside);
        Ok(())
    }
}

/// What a wait or a lost connection was at; the rest is what the person's own REFRESH would meet, or a table that is another runner's.
fn told(core: &Core, name: &str, error: Error) -> Error {
    // Who waits for a lock loses nothing by it; one that is ended loses what it has done, as with its connection.
    let kind = if is_canceled(&error) { ErrorKind::ConnectionLost } else { error.kind() };
    match kind {
        ErrorKind::LockTimeout | ErrorKind::Retry | ErrorKind::ConnectionLost => {
            Error::new(kind, format!("the materialized view {name} was not filled over the new table"))
                .with("the server says", error.message())
                .caused_by(error)
        }
        ErrorKind::DiskFull | ErrorKind::Fenced => error,
        ErrorKind::NotFound => core.missed(error),
        _ => Error::new(ErrorKind::ForeignDdl, format!("the materialized view {name} cannot be filled over the new table"))
            .with("the server says", error.message())
            .hint("REFRESH MATERIALIZED VIEW the live one shows whether that can be; mend it, DROP it, or REFRESH it WITH NO DATA, then `replank resume`")
            .caused_by(error),
    }
}
