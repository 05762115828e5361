//! Applying a batch: all rows read with one snapshot, written later, together.

use std::sync::Arc;

use super::super::catalogue::State;
use super::super::config::Mutant;
use super::super::row::{Place, Row, RowMap, Rows, Shape, change, convert};
use super::super::server::Server;
use crate::driver::{Applied, RebuildJob};
use crate::value::Change;
use crate::{Error, ErrorKind, Result};

pub(in crate::testkit::memory) async fn apply(
    server: Server,
    job: RebuildJob,
    changes: Vec<Change>,
) -> Result<Applied> {
    let (source, reading) = server.share(|state| state.source(&job)).await?;
    let (written, writing) = server.share(|state| state.written(&job)).await?;
    if !server.look(|state| state.table(written).has_key) {
        let said = "changes are applied to a table without the index by which rows are found";
        return Err(Error::new(ErrorKind::Internal, said));
    }
    let (snapshot, from) = server.look(|state| (state.table(source).rows.clone(), state.table(source).shape));
    if server.look(|state| state.config.mutant) == Some(Mutant::ApplyAnswersEarly) {
        let late = server.clone();
        server.spawn(async move {
            late.pause().await;
            late.step(|state| {
                if state.tables.contains_key(&written) {
                    write(state, written, &snapshot, from, &changes);
                }
            });
            drop((reading, writing));
        });
        return Ok(Applied::default());
    }
    server.pause().await;
    let applied = server.step(|state| write(state, written, &snapshot, from, &changes));
    drop((reading, writing));
    Ok(applied)
}

fn write(
    state: &mut State,
    written: super::super::catalogue::Identity,
    snapshot: &Rows,
    from: Shape,
    changes: &[Change],
) -> Applied {
    // Taken out, so that nothing is copied.
    let mut rows = std::mem::take(&mut state.table_mut(written).rows);
    let (to, is_unique) = (state.table(written).shape, state.table(written).is_unique);
    let applied = write_rows(state, &mut rows, to, is_unique, snapshot, from, changes);
    state.table_mut(written).rows = rows;
    applied
}

/// All keys leave before any is written. A row whose unique value another holds is left out.
pub(in crate::testkit::memory) fn write_rows(
    state: &mut State,
    rows: &mut Rows,
    to: Shape,
    is_unique: bool,
    snapshot: &Rows,
    from: Shape,
    changes: &[Change],
) -> Applied {
    let keeps_deleted = state.config.mutant == Some(Mutant::ApplyKeepsDeleted);
    let forgets = state.config.mutant == Some(Mutant::ForgetsDisplaced);
    let lanes = state.config.pace.lanes;
    let rows = Arc::make_mut(rows);
    let places: Vec<Place> = changes.iter().map(|change| Place::of(&change.key)).collect();
    for place in places.iter().filter(|place| !keeps_deleted || snapshot.contains_key(place)) {
        rows.remove(place);
    }
    let mut displaced = Vec::new();
    for (place, row) in places.iter().filter_map(|place| snapshot.get(place).map(|row| (place, row))) {
        let row = convert(row, from, to);
        if is_unique && holder(rows, place, &row).is_some() {
            displaced.push(change(&row.key, lanes, false));
            continue;
        }
        rows.insert(place.clone(), Arc::new(row));
    }
    if forgets {
        displaced.clear();
    }
    Applied { displaced }
}

/// The other row that has this row's unique value.
fn holder(rows: &RowMap, place: &Place, row: &Row) -> Option<Place> {
    row.unique.as_ref()?;
    rows.iter()
        .find(|(other, there)| *other != place && there.unique == row.unique)
        .map(|(other, _)| other.clone())
}
