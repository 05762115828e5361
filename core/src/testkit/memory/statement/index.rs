//! Indexes that are built late: the one by which rows are found, and the unique one with what collides under it.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::row::{Place, Row, RowMap, Shape, change};
use super::super::server::Server;
use crate::Result;
use crate::driver::{IndexBuild, RebuildJob};
use crate::testkit::memory::error;
use crate::value::{Change, Key};

const KEY: &str = "items_key";
const NAME: &str = "items_unique";

pub(in crate::testkit::memory) async fn deferred_indexes(
    server: Server,
    job: RebuildJob,
) -> Result<Vec<String>> {
    let (written, _reading) = server.share(|state| state.written(&job)).await?;
    Ok(server.look(|state| {
        let is_deferred = state.build(&job.run).is_some_and(|build| build.is_deferred);
        let table = state.table(written);
        let (wants_key, wants_unique) = (!table.has_key, is_deferred && !table.is_unique);
        let names = [(wants_key, KEY), (wants_unique, NAME)];
        names.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| (*name).to_owned()).collect()
    }))
}

/// Where changes may be applied meanwhile, the build shares the table with them; else it has it alone.
pub(in crate::testkit::memory) async fn build_index(
    server: Server,
    job: RebuildJob,
    name: String,
) -> Result<IndexBuild> {
    let (written, shared) = server.share(|state| state.written(&job)).await?;
    let is_shared = server.look(|state| state.config.pace.apply_during_build);
    let alone = if is_shared {
        None
    } else {
        drop(shared);
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let alone = server.exclude(written, deadline).await.ok_or_else(|| error::locked("shadow"))?;
        if server.look(|state| state.written(&job))? != written {
            return Err(error::rolled_back());
        }
        Some(alone)
    };
    server.pause().await;
    server.pause().await;
    let build = server.step(|state| {
        let lanes = state.config.pace.lanes;
        let table = state.table_mut(written);
        if name == KEY {
            table.has_key = true;
            return IndexBuild::Built;
        }
        let collided = colliding(&table.rows, lanes);
        if collided.is_empty() {
            table.is_unique = true;
            IndexBuild::Built
        } else {
            IndexBuild::Duplicates(collided)
        }
    });
    drop(alone);
    Ok(build)
}

fn colliding(rows: &RowMap, lanes: u16) -> Vec<Change> {
    let mut by_value: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows.values() {
        if let Some(unique) = &row.unique {
            by_value.entry(unique).or_default().push(row);
        }
    }
    let groups = by_value.into_values().filter(|group| group.len() > 1);
    groups.flatten().map(|row| change(&row.key, lanes, false)).collect()
}

/// The rows of one source snapshot that collide in the new shape, and are among `keys`.
pub(in crate::testkit::memory) async fn collisions(
    server: Server,
    job: RebuildJob,
    keys: Vec<Key>,
) -> Result<Vec<String>> {
    let (source, _reading) = server.share(|state| state.source(&job)).await?;
    let found = server.look(|state| {
        let to: Shape = state.table(source).shape.other();
        if !state.wants_unique(to) {
            return Vec::new();
        }
        let collided = colliding(&state.table(source).rows, 1);
        let asked = |change: &Change| keys.iter().any(|key| Place::of(key) == Place::of(&change.key));
        collided
            .iter()
            .filter(|change| asked(change))
            .map(|change| format!("{NAME}: {}", change.key))
            .collect()
    });
    server.pause().await;
    Ok(found)
}
