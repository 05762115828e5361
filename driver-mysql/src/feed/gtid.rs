//! Sets of transaction identifiers, as MySQL writes them: `uuid:1-5:7,uuid:tag:3`.
//! See <https://dev.mysql.com/doc/refman/9.7/en/replication-gtids-concepts.html>.

use std::collections::BTreeMap;
use std::fmt;

use mysql_async::Sid;
use replank_core::{Error, ErrorKind, Result};

/// Who numbered the transactions: a server's UUID, and a tag or none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    uuid: String,
    tag: String,
}

/// A set of transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidSet {
    /// First and last number of each run of numbers; sorted, apart from each other.
    sources: BTreeMap<Source, Vec<(u64, u64)>>,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gtid {
    source: Source,
    number: u64,
}

impl Gtid {
    /// As an event has it.
    pub fn new(uuid: [u8; 16], tag: Option<&str>, number: u64) -> Self {
        let digits: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let uuid = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-");
        Self { source: Source { uuid, tag: tag.unwrap_or_default().to_owned() }, number }
    }

    /// Whether it was numbered by the server of this UUID.
    pub fn is_of(&self, uuid: &str) -> bool {
        self.source.uuid.eq_ignore_ascii_case(uuid)
    }
}

impl GtidSet {
    /// Reads the server's text.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong =
            || Error::new(ErrorKind::Internal, "a position that is no set of GTIDs").with("text", text);
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut words = part.split(':');
            let uuid = words.next().filter(|uuid| uuid.len() == 36).ok_or_else(wrong)?.to_ascii_lowercase();
            let mut source = Source { uuid, tag: String::new() };
            for word in words {
                if !word.starts_with(|first: char| first.is_ascii_digit()) {
                    source.tag = word.to_owned();
                    continue;
                }
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                let (first, last) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
                if first == 0 || last < first {
                    return Err(wrong());
                }
                set.add_run(&source, first, last);
            }
        }
        Ok(set)
    }

    /// All transactions of both.
    ///
    /// # Errors
    /// As [`GtidSet::parse`].
    pub fn with(&self, other: &Self) -> Result<Self> {
        Self::parse(&format!("{self},{other}"))
    }

    /// Adds a transaction.
    pub fn add(&mut self, gtid: &Gtid) {
        self.add_run(&gtid.source, gtid.number, gtid.number);
    }

    fn add_run(&mut self, source: &Source, first: u64, last: u64) {
        let runs = self.sources.entry(source.clone()).or_default();
        // Nearly always just after the last run.
        if let Some(end) = runs.last_mut()
            && first == end.1 + 1
        {
            end.1 = last;
            return;
        }
        runs.push((first, last));
        runs.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(runs.len());
        for (first, last) in runs.drain(..) {
            match merged.last_mut() {
                Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        *runs = merged;
    }

    /// Whether every transaction of the other is in this one.
    pub fn contains(&self, other: &Self) -> bool {
        other.sources.iter().all(|(source, wanted)| {
            let empty = Vec::new();
            let held = self.sources.get(source).unwrap_or(&empty);
            wanted.iter().all(|(first, last)| held.iter().any(|(from, to)| from <= first && last <= to))
        })
    }

    /// There is no transaction in it.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// As the client library wants them.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the library cannot read what the server wrote.
    pub fn sids(&self) -> Result<Vec<Sid<'static>>> {
        self.sources
            .iter()
            .map(|(source, runs)| {
                let text = one(source, runs);
                text.parse().map_err(|error: std::io::Error| {
                    Error::new(ErrorKind::Internal, format!("the set `{text}` cannot be sent"))
                        .caused_by(error)
                })
            })
            .collect()
    }
}

fn one(source: &Source, runs: &[(u64, u64)]) -> String {
    let mut text = source.uuid.clone();
    if !source.tag.is_empty() {
        text.push(':');
        text.push_str(&source.tag);
    }
    for (first, last) in runs {
        match first == last {
            true => text.push_str(&format!(":{first}")),
            false => text.push_str(&format!(":{first}-{last}")),
        }
    }
    text
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.sources.iter().map(|(source, runs)| one(source, runs)).collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: &str = "8f6e2d1a-0000-11f0-8000-0242ac110002";
    const B: &str = "9f6e2d1a-0000-11f0-8000-0242ac110002";

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(text).expect(text)
    }

    #[test]
    fn sets_are_read_and_written_as_the_server_does() {
        let text = format!("{A}:1-5:7:backup:3-4,\n{B}:9");
        assert_eq!(set(&text).to_string(), format!("{A}:1-5:7,{A}:backup:3-4,{B}:9"));
        assert_eq!(set(&set(&text).to_string()), set(&text));
        assert!(set("").is_empty());
        for wrong in ["x", &format!("{A}:5-1"), &format!("{A}:0"), "short:1", &format!("{A}:1-x")] {
            assert!(GtidSet::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(set(&text).sids().expect("the library reads them").len(), 3);
    }

    #[test]
    fn a_tag_numbers_for_itself() {
        let mut held = set(&format!("{A}:1-5"));
        assert!(!held.contains(&set(&format!("{A}:t:1"))));
        let mut uuid = [0; 16];
        for (index, byte) in uuid.iter_mut().enumerate() {
            let digits: String = A.chars().filter(|c| *c != '-').collect();
            *byte = u8::from_str_radix(&digits[index * 2..index * 2 + 2], 16).expect("hex");
        }
        held.add(&Gtid::new(uuid, Some("t"), 1));
        held.add(&Gtid::new(uuid, None, 6));
        assert_eq!(held.to_string(), format!("{A}:1-6,{A}:t:1"));
        assert!(held.contains(&set(&format!("{A}:2-6:t:1"))));
    }

    proptest! {
        #[test]
        fn it_is_a_set(numbers in prop::collection::vec(1_u64..60, 0..60), probe in 1_u64..60) {
            let mut held = GtidSet::default();
            for number in &numbers {
                held.add(&Gtid::new([7; 16], None, *number));
            }
            let mut one = GtidSet::default();
            one.add(&Gtid::new([7; 16], None, probe));
            prop_assert_eq!(held.contains(&one), numbers.contains(&probe));
            prop_assert_eq!(&set(&held.to_string()), &held);
        }
    }
}
