//! Comparing: both tables in one snapshot, both ways.

use std::collections::BTreeSet;

use super::super::catalogue::{Identity, State};
use super::super::row::{Place, Rows, Shape, change, convert};
use super::super::server::Server;
use super::copy::is_within;
use crate::Result;
use crate::driver::{Compared, RebuildJob};
use crate::value::{Bounds, Key};

pub(in crate::testkit::memory) async fn compare(
    server: Server,
    job: RebuildJob,
    bounds: Bounds,
) -> Result<Compared> {
    let compared = read(&server, &job, |place| is_within(place, &bounds)).await?;
    server.pause().await;
    Ok(compared)
}

pub(in crate::testkit::memory) async fn compare_keys(
    server: Server,
    job: RebuildJob,
    keys: Vec<Key>,
) -> Result<Compared> {
    let places: BTreeSet<Place> = keys.iter().map(Place::of).collect();
    let compared = read(&server, &job, |place| places.contains(place)).await?;
    server.pause().await;
    Ok(compared)
}

async fn read(
    server: &Server,
    job: &RebuildJob,
    is_meant: impl Fn(&Place) -> bool + Send,
) -> Result<Compared> {
    let (source, _reading) = server.share(|state| state.source(job)).await?;
    let (written, _also_reading) = server.share(|state| state.written(job)).await?;
    Ok(server.look(|state| tables(state, source, written, is_meant)))
}

fn tables(state: &State, source: Identity, written: Identity, is_meant: impl Fn(&Place) -> bool) -> Compared {
    let (source, written) = (state.table(source), state.table(written));
    let lanes = state.config.pace.lanes;
    differing((&source.rows, source.shape), (&written.rows, written.shape), lanes, is_meant)
}

/// The same for rows that a swap's session holds.
pub(in crate::testkit::memory) fn compared_keys(
    source: (&Rows, Shape),
    written: (&Rows, Shape),
    lanes: u16,
    keys: &[Key],
) -> Compared {
    let places: BTreeSet<Place> = keys.iter().map(Place::of).collect();
    differing(source, written, lanes, |place| places.contains(place))
}

fn differing(
    (source, from): (&Rows, Shape),
    (written, to): (&Rows, Shape),
    lanes: u16,
    is_meant: impl Fn(&Place) -> bool,
) -> Compared {
    let mut compared = Compared::default();
    let places: BTreeSet<&Place> =
        source.keys().chain(written.keys()).filter(|place| is_meant(place)).collect();
    for place in places {
        let (there, here) = (source.get(place), written.get(place));
        compared.rows += 1;
        if there.map(|row| convert(row, from, to)).as_ref() != here.map(|row| &**row) {
            let key = there.or(here).map(|row| &row.key);
            compared.differing.extend(key.map(|key| change(key, lanes, there.is_none())));
        }
    }
    compared
}
