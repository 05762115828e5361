//! Both tables, their logs and names, the lock, the saved state, and who believes what.

use super::CutOver;

/// A table by its identity, whatever it is called at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    Old,
    New,
}

impl Table {
    pub fn other(self) -> Table {
        match self {
            Table::Old => Table::New,
            Table::New => Table::Old,
        }
    }
}

pub const KEYS: usize = 2;
/// The version of each row: the number of the write that made it.
pub type Rows = [u8; KEYS];

const LOG_MAX: usize = 5;

/// Keys that clients changed in one table while its feed existed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Log {
    pub keys: [u8; LOG_MAX],
    pub len: u8,
    /// Positions below are gone.
    pub trimmed: u8,
    pub is_fed: bool,
}

/// Fencing tokens grow with each takeover and each fence.
pub type Token = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub rows: [Rows; 2],
    pub exists: [bool; 2],
    pub log: [Log; 2],
    /// Whom the live name belongs to.
    pub live: Option<Table>,
    /// The token in the name of the other table.
    pub name_token: Token,
    /// The last acknowledged write of each key.
    pub acknowledged: Rows,
    /// Whose session keeps writers out.
    pub lock: Option<Token>,
    /// The swap that the server is working on.
    pub swap: Option<Swap>,
    pub saved: Saved,
    pub runner: Option<Runner>,
    /// A statement that nobody waits for.
    pub late: Option<Late>,
    /// A runner that was taken for dead.
    pub sleeper: Option<Belief>,
    pub met_gap: bool,
    pub writes_left: u8,
    pub swaps_left: u8,
    pub crashes_left: u8,
    pub losses_left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Swap {
    pub token: Token,
    pub to: Table,
    /// The runner's connection is gone: the server gives the session up once the swap is over.
    pub is_orphan: bool,
}

/// Durable, next to the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Saved {
    pub token: Token,
    pub phase: Phase,
    /// How far each table's log has been applied to the other table.
    pub position: [u8; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Live(Table),
    /// A swap was or will be sent: only the catalogue knows.
    CuttingOver,
    /// Finalized or aborted.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Runner {
    pub token: Token,
    /// The table that it takes for the live one.
    pub source: Table,
    pub step: Step,
    pub applied: u8,
    /// Where draining ends.
    pub head: u8,
    /// Where the opposite feed starts.
    pub reverse_from: u8,
    /// A key and the version that was read for it.
    pub batch: Option<(u8, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    CatchUp,
    Locked,
    /// Drained, the opposite feed installed, the intent saved.
    Prepared,
    SwapSent,
    /// The swap was acknowledged, or found to be done.
    Swapped,
    /// The outcome of the swap is not known.
    Unknown,
    /// The other table was renamed since: the swap is over, and the catalogue can be asked.
    Fenced,
    /// A statement's outcome is not known, and the other table has to be renamed before anything else.
    MustFence,
}

/// What a sleeper remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Belief {
    pub token: Token,
    pub source: Table,
    pub applied: u8,
    /// The position that was saved when it fell asleep.
    pub saved: u8,
}

/// An apply statement; it finds its table by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Late {
    pub table: Table,
    pub token: Token,
    pub key: u8,
    pub version: u8,
}

impl State {
    pub fn start(model: &CutOver) -> State {
        let fed = Log { is_fed: true, ..Log::default() };
        State {
            rows: [[0; KEYS]; 2],
            exists: [true; 2],
            log: [fed, Log::default()],
            live: Some(Table::Old),
            name_token: 1,
            acknowledged: [0; KEYS],
            lock: None,
            swap: None,
            saved: Saved { token: 1, phase: Phase::Live(Table::Old), position: [0; 2] },
            runner: Some(Runner::new(1, Table::Old, 0)),
            late: None,
            sleeper: None,
            met_gap: false,
            writes_left: model.writes,
            swaps_left: model.swaps,
            crashes_left: model.crashes,
            losses_left: model.losses,
        }
    }

    /// Whether a statement that names the table that is not live still finds it.
    pub fn finds(&self, table: Table, token: Token) -> bool {
        self.exists[table as usize] && self.live != Some(table) && self.name_token == token
    }
}

impl Runner {
    pub fn new(token: Token, source: Table, position: u8) -> Runner {
        Runner {
            token,
            source,
            step: Step::CatchUp,
            applied: position,
            head: 0,
            reverse_from: 0,
            batch: None,
        }
    }

    pub fn target(&self) -> Table {
        self.source.other()
    }

    /// What it would save: who is live, and how far that table's log is applied.
    pub fn save(&self, saved: Saved) -> Saved {
        self.belief(saved).save(saved)
    }

    pub fn belief(&self, saved: Saved) -> Belief {
        let Runner { token, source, applied, .. } = *self;
        Belief { token, source, applied, saved: saved.position[source as usize] }
    }
}

impl Belief {
    pub fn save(&self, mut saved: Saved) -> Saved {
        saved.phase = Phase::Live(self.source);
        saved.position[self.source as usize] = self.applied;
        saved
    }
}
