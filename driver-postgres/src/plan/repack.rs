//! The server's own repack, as one way to write every row anew. It is taken when it is asked for by name.

use replank_core::Result;
use replank_core::plan::{LockNote, Strategy};

use super::index::nothing;
use super::step::step;
use super::{Drafting, Kind, NOTHING, Way, gentle_lock};
use crate::inspect::Table;
use crate::repack::SINCE;
use crate::sql::{first, get};

/// Measured beside four writers on two cores: see decision 21. It grows with what they write meanwhile.
const EXCHANGE_MS: u64 = 100;

impl Drafting<'_> {
    /// `None` where the server has none.
    pub(super) async fn own_repack(&mut self, table: &Table, said: String) -> Result<Option<Way>> {
        if self.version < SINCE {
            return Ok(None);
        }
        let sql = format!(
            "SELECT coalesce(pg_relation_filenode(c.oid), 0)::bigint, c.relpersistence = 'p',
                    pg_get_replica_identity_index(c.oid) IS NOT NULL, current_setting('wal_level') <> 'minimal',
                    coalesce(current_setting('max_repack_replication_slots', true)::int > 0, false)
             FROM pg_class c WHERE c.oid = {}",
            table.oid
        );
        let Some(row) = first(self.connection, sql).await? else { return Ok(None) };
        let lacking = [
            (!table.is_partitioned(), "the server repacks no partitioned table while others write"),
            (get(&row, 1)?, "the server repacks no UNLOGGED table while others write"),
            (
                get(&row, 2)?,
                "the table has no replica identity with an index, by which the server would find its rows",
            ),
            (
                get(&row, 3)?,
                "wal_level is minimal, and the server's log does not say what is written meanwhile",
            ),
            (get(&row, 4)?, "max_repack_replication_slots is 0"),
        ];
        let mut way = Way {
            changes: vec![said],
            strategy: Strategy::NativeOnline,
            reason: "the server copies the table while others read and write, and nothing is compared".to_owned(),
            locks: vec![
                gentle_lock("SHARE UPDATE EXCLUSIVE on the table, TRUNCATE and LOCK among them"),
                LockNote {
                    what: "ACCESS EXCLUSIVE on the table for the last changes, ended when it goes over the lock budget"
                        .to_owned(),
                    hold_ms: EXCHANGE_MS,
                },
            ],
            undo: "there is nothing to be taken back: the rows say the same".to_owned(),
            no_way_back: Some("the server keeps nothing of the rows as they were".to_owned()),
            unasked: Some("whoever has an older snapshot would find an empty table".to_owned()),
            impossible: lacking.iter().find(|(is_so, _)| !is_so).map(|(_, why)| (*why).to_owned()),
            ..nothing()
        };
        way.steps.push(step(
            format!("write the rows of {} anew", table.name),
            table.oid,
            format!("REPACK (CONCURRENTLY) {}", table.full_name()),
            NOTHING.to_owned(),
            Kind::Repacked { file: get(&row, 0)?, name: table.full_name() },
            String::new(),
        ));
        way.seen(
            "P136",
            format!("transactions with a snapshot from before its end would find {} empty", table.name),
        );
        Ok(Some(way))
    }
}
