//! Names of things: runs, tables, fencing tokens and the helper objects of a run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// A run's name: 16 random hex digits. No timestamp in front, so that a short prefix tells runs apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RunId(String);

impl RunId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        let bytes = uuid::Uuid::new_v4();
        // The last eight bytes of a version 4 UUID: 62 random bits, and the variant's two.
        Self(bytes.as_bytes()[8..].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads a full id.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for anything but 16 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self> {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if text.len() == 16 && text.chars().all(hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(ErrorKind::Usage, format!("`{text}` is not a run id"))
            .hint("a run id has 16 hex digits; `replank history` lists them"))
    }

    /// The 16 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, which name the run's helper objects.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table or collection, as the server spells it. Quoting is the driver's business.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct TableId {
    /// Schema or database; absent where the target has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// The table's own name.
    pub name: String,
}

impl TableId {
    /// A table of the target's only or current schema.
    pub fn new(name: impl Into<String>) -> Self {
        Self { schema: None, name: name.into() }
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A fencing token. Grows with every holder of a table's lease, and with every lost statement (R5):
/// the shadow's name carries it, so that a statement sent under an older token misses the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a helper object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The table being built.
    Shadow,
    /// The table that was live before the swap.
    Retired,
    /// The trigger log of a feed.
    Log,
}

impl Role {
    /// The word in the object's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Retired => "retired",
            Self::Log => "log",
        }
    }
}

/// Names a helper object: `_rp_<first 8 characters of the run id>_<fencing token>_<role>`. Never made
/// from the table's own name, so no limit on name length and no user's table can collide with it.
#[must_use]
pub fn helper_name(run: &RunId, fence: Fence, role: Role) -> String {
    format!("_rp_{}_{fence}_{}", run.short(), role.word())
}

/// The name of a table that was taken out of the way: only this definition gets it, so a plan is the same each
/// time that it is made.
#[must_use]
pub fn aside_name(definition: &str) -> String {
    format!("_rp_{:08x}_0_dropped", stable_hash(definition) >> 32)
}

/// FNV-1a: the same in every build, since plans and checkpoints hold what is made of it, and the standard
/// library's hashes may change.
#[must_use]
pub fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_sixteen_hex_digits_and_differ() {
        let (a, b) = (RunId::random(), RunId::random());
        assert_ne!(a, b);
        assert_eq!(RunId::parse(a.as_str()).expect("own id"), a);
        assert!(RunId::parse("0123").is_err());
        assert!(RunId::parse("0123456789ABCDEF").is_err());
    }

    #[test]
    fn the_hash_is_that_of_every_build() {
        // From the reference, http://www.isthe.com/chongo/src/fnv/test_fnv.c.
        assert_eq!(stable_hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash("foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(aside_name("foobar"), "_rp_85944171_0_dropped");
    }

    #[test]
    fn helper_names_carry_run_and_token() {
        let run = RunId::parse("0123456789abcdef").expect("valid");
        assert_eq!(helper_name(&run, Fence(7), Role::Shadow), "_rp_01234567_7_shadow");
    }
}
