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

use super::Core;
use super::long::holding_the_lease;
use super::matviews::Pair;
use crate::attached::STAMP;
use crate::connect::Conn;
use crate::sql::{get, rows, run, text};
use crate::state::ObjectRole;

/// A session that may take the snapshot, and those that it is for.
pub struct Filling {
    connection: Conn,
    pairs: Vec<Pair>,
    /// Whether each is to have rows, and its stamp, by the number of the live one: of the snapshot.
    seen: BTreeMap<i64, (bool, String)>,
}

impl Filling {
    /// For those that are stale, if any is.
    pub async fn of(core: &Core, pairs: &[Pair]) -> Result<Option<Self>> {
        let pairs: Vec<Pair> = pairs.iter().filter(|pair| pair.is_stale()).cloned().collect();
        match pairs.is_empty() {
            true => Ok(None),
            // Connecting takes longer than all else, and nobody waits yet.
            false => {
                Ok(Some(Self { connection: core.server.connect().await?, pairs, seen: BTreeMap::new() }))
            }
        }
    }

    /// Takes the snapshot, in one message, under the first lock. Other tables may show the owner a part only, as they do when
    /// the person refreshes. Answers with why there is no swap now.
    pub async fn begin(&mut self) -> Result<Error> {
        let numbers: Vec<String> = self.pairs.iter().map(|pair| pair.live.oid.to_string()).collect();
        let sql = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL row_security = on;
             SELECT v.oid::bigint, v.relispopulated, {STAMP} FROM pg_class v WHERE v.oid IN ({})",
            numbers.join(", ")
        );
        for row in rows(&mut self.connection, sql).await? {
            self.seen.insert(get(&row, 0)?, (get(&row, 1)?, get(&row, 2)?));
        }
        let again = self.pairs.iter().any(|pair| pair.aside.stamp.is_some());
        let what = match again {
            true => {
                "a materialized view was refreshed meanwhile, and the new one is filled again, as of this moment"
            }
            false => "materialized views are filled first, as of this moment",
        };
        let error = Error::new(ErrorKind::Retry, what);
        // One that is refreshed each time before ours is filled must not be waited for without a pause.
        Ok(if again { error } else { error.with(GAVE_WAY, "REFRESH") })
    }

    fn is_begun(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Fills them, when nobody waits any more. What comes of waiting for others is not told here: another attempt fills them.
    pub async fn fill(mut self, core: &Core) -> Result<()> {
        if !self.is_begun() {
            return Ok(());
        }
        match self.refresh(core).await {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::LockTimeout | ErrorKind::Retry | ErrorKind::ConnectionLost
                ) =>
            {
                tracing::warn!(%error, "materialized views could not be filled now, and will be");
                Ok(())
            }
            done => done,
        }
    }

    async fn refresh(&mut self, core: &Core) -> Result<()> {
        for pair in &self.pairs {
            let Some((has_rows, _)) = self.seen.get(&pair.live.oid) else { continue };
            let name = pair.full_name(core);
            let none = if *has_rows { "" } else { " WITH NO DATA" };
            tracing::info!(name, "filling a materialized view over the new table");
            let refresh = run(&mut self.connection, format!("REFRESH MATERIALIZED VIEW {name}{none}"));
            holding_the_lease(core, refresh).await.map_err(|error| told(core, &name, error))?;
        }
        run(&mut self.connection, "COMMIT").await?;
        reached(Boundary::Moving);
        let mut aside = core.server.take().await?;
        for pair in &self.pairs {
            let Some((_, stamp)) = self.seen.get(&pair.live.oid) else { continue };
            // The planner must know it from the first moment on.
            let analyze = run(&mut self.connection, format!("ANALYZE {}", pair.full_name(core)));
            holding_the_lease(core, analyze).await.map_err(|error| core.missed(error))?;
            let known = format!("(extra::jsonb || jsonb_build_object('stamp', {}))::text", text(stamp));
            let name = core.matview_name(&pair.aside.tail, core.fence());
            run(&mut aside, core.objects.changing_one(ObjectRole::Matview, &name, &known)).await?;
        }
        core.server.keep(aside);
        Ok(())
    }
}

/// Waiting is no fault of anybody's; the rest is what the person's own REFRESH would meet, or a table that is another runner's.
fn told(core: &Core, name: &str, error: Error) -> Error {
    match error.kind() {
        ErrorKind::LockTimeout | ErrorKind::Retry | ErrorKind::ConnectionLost | ErrorKind::DiskFull | ErrorKind::Fenced => error,
        ErrorKind::NotFound => core.missed(error),
        _ => Error::new(ErrorKind::ForeignDdl, format!("the materialized view {name} cannot be filled over the new table"))
            .with("the server says", error.message())
            .hint("REFRESH MATERIALIZED VIEW the live one shows whether that can be; mend it, DROP it, or REFRESH it WITH NO DATA, then `replank resume`")
            .caused_by(error),
    }
}
