//! Copying a range: read with one snapshot, written later.

use std::sync::Arc;

use super::super::catalogue::{Identity, State};
use super::super::config::Mutant;
use super::super::row::{Place, Rows, change, convert};
use super::super::server::Server;
use crate::Result;
use crate::driver::{Copied, RebuildJob};
use crate::value::Bounds;

pub(in crate::testkit::memory) async fn copy(
    server: Server,
    job: RebuildJob,
    bounds: Bounds,
) -> Result<Copied> {
    let (source, _reading) = server.share(|state| state.source(&job)).await?;
    let (written, _writing) = server.share(|state| state.written(&job)).await?;
    let snapshot = server.look(|state| state.table(source).rows.clone());
    server.pause().await;
    Ok(server.step(|state| write(state, source, written, &snapshot, &bounds)))
}

fn write(state: &mut State, source: Identity, written: Identity, snapshot: &Rows, bounds: &Bounds) -> Copied {
    let overwrites = state.config.mutant == Some(Mutant::CopyOverwrites);
    let forgets = state.config.mutant == Some(Mutant::ForgetsDisplaced);
    let lanes = state.config.pace.lanes;
    let from = state.table(source).shape;
    let table = state.table_mut(written);
    let rows = Arc::make_mut(&mut table.rows);
    let mut copied = Copied { read: 0, written: 0, bytes: 0, displaced: Vec::new() };
    for (place, row) in snapshot.iter().filter(|(place, _)| is_within(place, bounds)) {
        copied.read += 1;
        if rows.contains_key(place) && !overwrites {
            continue;
        }
        let is_taken = table.is_unique
            && row.unique.is_some()
            && rows.iter().any(|(other, there)| other != place && there.unique == row.unique);
        if is_taken {
            copied.displaced.push(change(&row.key, lanes, false));
            continue;
        }
        rows.insert(place.clone(), Arc::new(convert(row, from, table.shape)));
        copied.written += 1;
        copied.bytes += row.value.len() as u64;
    }
    if forgets {
        copied.displaced.clear();
    }
    copied
}

pub(super) fn is_within(place: &Place, bounds: &Bounds) -> bool {
    bounds.lower.as_ref().is_none_or(|lower| Place::of(lower) < *place)
        && bounds.upper.as_ref().is_none_or(|upper| *place <= Place::of(upper))
}
