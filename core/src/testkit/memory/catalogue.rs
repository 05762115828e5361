//! All that the server holds. Every method is one atomic step: no waiting, no time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::RwLock;
use tokio::time::Instant;

use super::client::ClientState;
use super::config::{Config, Mutant, Unique};
use super::log::{Capture, Committed};
use super::records::Records;
use super::row::{RowMap, Rows, Shape};
use super::transaction::RowLock;
use crate::driver::RebuildJob;
use crate::ident::{Fence, Role, RunId, helper_name};
use crate::run::Direction;
use crate::testkit::chance::Chance;
use crate::{Error, ErrorKind, Result};

/// A table's identity, which a rename does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity(pub u64);

#[derive(Debug)]
pub(super) struct Table {
    pub shape: Shape,
    /// What a new statement sees.
    pub rows: Rows,
    /// A unique index over the rows' unique values exists.
    pub is_unique: bool,
    /// The index by which its rows are found exists.
    pub has_key: bool,
    /// Changes with every DDL by others.
    pub definition: u64,
    /// The metadata lock: statements share it, a rename has it alone. Fair.
    pub lock: Arc<RwLock<()>>,
}

/// The helper objects of a run: what the table `objects` would hold.
#[derive(Debug, Clone)]
pub(super) struct Build {
    pub run: RunId,
    pub shadow: Identity,
    pub original: Identity,
    /// The unique index is to be built after the copy.
    pub is_deferred: bool,
}

impl Build {
    /// The table that is written in this direction.
    pub fn written(&self, direction: Direction) -> Identity {
        match direction {
            Direction::Forward => self.shadow,
            Direction::Reverse => self.original,
        }
    }

    /// The table that applications write in this direction.
    pub fn source(&self, direction: Direction) -> Identity {
        match direction {
            Direction::Forward => self.original,
            Direction::Reverse => self.shadow,
        }
    }
}

/// What the helper table is called that is written in this direction.
pub(super) fn written_name(run: &RunId, direction: Direction, fence: Fence) -> String {
    let role = match direction {
        Direction::Forward => Role::Shadow,
        Direction::Reverse => Role::Retired,
    };
    helper_name(run, fence, role)
}

pub(super) struct State {
    pub config: Config,
    pub chance: Chance,
    pub started: Instant,
    pub names: BTreeMap<String, Identity>,
    pub tables: BTreeMap<Identity, Table>,
    pub builds: Vec<Build>,
    pub captures: Vec<Capture>,
    pub log: Vec<Committed>,
    pub row_locks: BTreeSet<RowLock>,
    /// Transactions that are open on a table, since when, by their number.
    pub open: BTreeMap<u64, (Identity, Instant)>,
    pub records: Records,
    pub clients: Vec<ClientState>,
    pub steps_done: BTreeSet<String>,
    /// Those that are half done.
    pub steps_torn: BTreeSet<String>,
    /// Those that were asked to end.
    pub steps_canceled: BTreeSet<String>,
    /// Ranges that were written, in the order in which that was: the numbers above the first up to the second.
    pub ranges_written: Vec<(u32, u32)>,
    pub faults_left: u32,
    /// Every call and what became of it.
    pub trace: Vec<String>,
    /// Promises that were broken, as they were noticed.
    pub violations: Vec<String>,
    /// What applications have committed, as far as it is visible: every transaction on the live table played
    /// again on a map of its own.
    pub truth: RowMap,
    /// Every save of a run is judged.
    pub is_watched: bool,
    /// The person has said that the change is final: the way back may be gone at any time.
    pub is_final_wanted: bool,
    /// When a runner last did something to the tables.
    pub last_call: Instant,
    pub longest_stall: std::time::Duration,
    identities: u64,
}

impl State {
    pub fn new(config: Config) -> Self {
        Self {
            chance: Chance::new(config.seed),
            started: Instant::now(),
            names: BTreeMap::new(),
            tables: BTreeMap::new(),
            builds: Vec::new(),
            captures: Vec::new(),
            log: Vec::new(),
            row_locks: BTreeSet::new(),
            open: BTreeMap::new(),
            records: Records::default(),
            clients: Vec::new(),
            steps_done: BTreeSet::new(),
            steps_torn: BTreeSet::new(),
            steps_canceled: BTreeSet::new(),
            ranges_written: Vec::new(),
            faults_left: config.faults.budget,
            trace: Vec::new(),
            violations: Vec::new(),
            truth: RowMap::new(),
            is_watched: false,
            is_final_wanted: false,
            last_call: Instant::now(),
            longest_stall: std::time::Duration::ZERO,
            identities: 0,
            config,
        }
    }

    pub fn create_table(&mut self, name: &str, shape: Shape, is_unique: bool) -> Identity {
        self.identities += 1;
        let identity = Identity(self.identities);
        let table = Table {
            shape,
            rows: Rows::default(),
            is_unique,
            has_key: true,
            definition: 1,
            lock: Arc::new(RwLock::new(())),
        };
        self.tables.insert(identity, table);
        self.names.insert(name.to_owned(), identity);
        identity
    }

    pub fn identity(&self, name: &str) -> Result<Identity> {
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no table `{name}`"));
        self.names.get(name).copied().ok_or_else(missing)
    }

    /// A table whose identity is known to exist.
    pub fn table(&self, identity: Identity) -> &Table {
        self.tables.get(&identity).expect("an identity in the catalogue has its table")
    }

    pub fn table_mut(&mut self, identity: Identity) -> &mut Table {
        self.tables.get_mut(&identity).expect("an identity in the catalogue has its table")
    }

    pub fn name_of(&self, identity: Identity) -> Option<&str> {
        self.names.iter().find(|(_, known)| **known == identity).map(|(name, _)| name.as_str())
    }

    /// Gives a table another name. The old name is gone at once.
    pub fn rename(&mut self, identity: Identity, name: String) {
        self.names.retain(|_, known| *known != identity);
        let replaced = self.names.insert(name, identity);
        debug_assert!(replaced.is_none(), "a rename never hides another table");
    }

    pub fn drop_table(&mut self, identity: Identity) {
        self.names.retain(|_, known| *known != identity);
        self.tables.remove(&identity);
    }

    pub fn build(&self, run: &RunId) -> Option<&Build> {
        self.builds.iter().find(|build| build.run == *run)
    }

    /// The table that a job writes under its token. By name: this is what a late statement misses (R5).
    pub fn written(&self, job: &RebuildJob) -> Result<Identity> {
        let name = written_name(&job.run, job.direction, job.fence);
        if let Some(identity) = self.names.get(&name) {
            return Ok(*identity);
        }
        if self.config.mutant == Some(Mutant::FenceKeepsName)
            && let Some(build) = self.build(&job.run)
            && self.name_of(build.written(job.direction)).is_some_and(|name| name != job.table.name)
        {
            return Ok(build.written(job.direction));
        }
        self.records.check_token(&job.table, job.fence)?;
        Err(Error::new(ErrorKind::NotFound, "the written table is not there under the job's token"))
    }

    /// The table that a job reads: the live one, if it is still the one that the job knows.
    pub fn source(&self, job: &RebuildJob) -> Result<Identity> {
        let live = self.identity(&job.table.name)?;
        match self.build(&job.run) {
            Some(build) if build.source(job.direction) != live => {
                Err(Error::new(ErrorKind::NotFound, format!("`{}` is another table by now", job.table)))
            }
            _ => Ok(live),
        }
    }

    pub fn capture(&self, job: &RebuildJob) -> Result<&Capture> {
        self.captures
            .iter()
            .find(|capture| capture.run == job.run && capture.direction == job.direction)
            .ok_or_else(|| Error::new(ErrorKind::FeedGap, "nothing captures the changes of the source"))
    }

    /// R7: the source is as the run found it, and captured.
    pub fn check_source(&self, job: &RebuildJob) -> Result<()> {
        let source = self.source(job)?;
        let capture = self.capture(job)?;
        if capture.definition != self.table(source).definition {
            return Err(Error::new(ErrorKind::ForeignDdl, format!("`{}` was changed by others", job.table)));
        }
        Ok(())
    }

    /// Whether the table of this shape is to have the unique index, once everything is built.
    pub fn wants_unique(&self, shape: Shape) -> bool {
        match self.config.unique {
            Unique::None => false,
            Unique::Both => true,
            Unique::New => shape == Shape::New,
        }
    }

    /// Everything that runs left behind: helper tables, captures, records of objects.
    pub fn leftovers(&self) -> Vec<String> {
        let names = self.names.keys().filter(|name| name.starts_with("_rp_")).cloned();
        let captures = self.captures.iter().map(|capture| format!("capture {:?}", capture.direction));
        names.chain(captures).chain(self.builds.iter().map(|_| "records of objects".to_owned())).collect()
    }
}
