//! What MySQL's own rules judge, beside the evidence of all drivers.

use replank_core::driver::Check;
use replank_core::lint::{Subject, Verdict};
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::peers::Leftover;

/// Read by the plan, each for the rule in front.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// M205: ENUMs and SETs that are stored anew, as sentences.
    pub members: Vec<String>,
    /// M206: VARCHARs whose length takes another byte, as sentences.
    pub lengths: Vec<String>,
    /// M207: texts of another character set or collation, as sentences.
    pub recoded: Vec<String>,
    /// M208: foreign keys of the table and to it.
    pub keys: Vec<Following>,
    /// M208: a swap that is interrupted can leave a key off.
    pub has_gap_of_keys: bool,
    /// M209.
    pub triggers: Vec<Following>,
    /// M214: columns that become NOT NULL on a server that is not strict.
    pub not_strict: Vec<String>,
    /// M215.
    pub zero_dates: Vec<ZeroDefault>,
    /// M221: columns that are dropped and added.
    pub replaced: Vec<String>,
    /// M222.
    pub primary_key: Option<PrimaryKey>,
    /// M229: tables whose name differs by case only.
    pub twins: Vec<String>,
    /// M230: why the only unique key does not tell rows apart.
    pub nullable_key: Option<String>,
    /// M231: the same for a computed one.
    pub computed_key: Option<String>,
    /// M250: what must be mended.
    pub log: Vec<Check>,
    /// M251: what must be granted.
    pub grants: Vec<Check>,
    /// M252: what must be otherwise.
    pub topology: Vec<Check>,
    /// M253: sessions that have held the table for long, as sentences.
    pub holders: Vec<String>,
    /// M253: the server does not tell who holds it.
    pub has_unseen_holders: bool,
    /// M254: what other tools left beside the table.
    pub peers: Vec<Leftover>,
    /// M255: what gathers anew what a rebuild leaves behind, as statements.
    pub histograms: Vec<String>,
    /// M256: indexes of which the server would keep less, as sentences.
    pub shortened: Vec<String>,
}

/// What follows the table's name in a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Following {
    /// As words.
    pub what: String,
    /// Why it cannot; `None` where it can.
    pub why_not: Option<String>,
}

/// A column with a date of zeros as its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroDefault {
    /// Its name.
    pub column: String,
    /// It had none before.
    pub is_new: bool,
}

/// A primary key of other columns than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryKey {
    /// From what to what.
    pub what: String,
    /// Why rows could not be told apart meanwhile; `None` where they can.
    pub why_not: Option<String>,
}

impl Facts {
    /// Those of a draft of this driver; none of another's.
    pub fn of(subject: &Subject<'_>) -> Self {
        Self::deserialize(&subject.draft.driver_facts).unwrap_or_default()
    }

    /// As they travel in a draft.
    pub fn write(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| {
            Error::new(ErrorKind::Internal, "facts cannot be written as JSON").caused_by(error)
        })
    }
}

/// One verdict for all that follow, with the `gap` that a kill can leave; and one for each that does not, with `advice`.
pub fn followed(all: &[Following], gap: &str, advice: &str) -> Vec<Verdict> {
    let refused = all.iter().filter_map(|it| {
        let why = it.why_not.as_ref()?;
        Some(Verdict::error(format!("{} cannot follow the name: {why}", it.what), advice))
    });
    let good: Vec<&str> = all.iter().filter(|it| it.why_not.is_none()).map(|it| it.what.as_str()).collect();
    let handled = (!good.is_empty()).then(|| {
        let follow = format!("these follow the name in the swap: {}; {gap}", good.join(", "));
        Verdict::error(follow, "`replank status` says when it came to that").handled()
    });
    refused.chain(handled).collect()
}
