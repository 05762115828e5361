//! A place in the oplog.

use bson::{Document, Timestamp};
use replank_core::value::Position;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::spec::Stored;

/// Where a feed is, or is to get to.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The cluster time of the last event.
    pub time: Timestamp,
    /// The last mark of ours that was seen.
    pub mark: u64,
    /// What the server goes on from; `None` for a place that was not reached by reading.
    pub token: Option<Document>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    time: (u32, u32),
    mark: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<Stored>,
}

impl Place {
    /// Reads what [`Place::write`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for a position of another driver.
    pub fn read(position: &Position) -> Result<Self> {
        let written: Written = serde_json::from_str(&position.0).map_err(|error| {
            Error::new(ErrorKind::Internal, "a position of another driver")
                .with("position", position)
                .caused_by(error)
        })?;
        let (time, increment) = written.time;
        Ok(Self {
            time: Timestamp { time, increment },
            mark: written.mark,
            token: written.token.map(|token| token.0),
        })
    }

    /// As the engine keeps it.
    pub fn write(&self) -> Position {
        let written = Written {
            time: (self.time.time, self.time.increment),
            mark: self.mark,
            token: self.token.clone().map(Stored),
        };
        // Numbers and text: it cannot fail.
        Position(serde_json::to_string(&written).unwrap_or_default())
    }

    /// Whether everything up to `goal` was handed out. The mark tells it where the time of an answer is later than that of the
    /// write that it is about.
    pub fn has_passed(&self, goal: &Self) -> bool {
        self.mark >= goal.mark || self.time > goal.time
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn place(time: u32, mark: u64) -> Place {
        Place { time: Timestamp { time, increment: 1 }, mark, token: Some(doc! { "_data": "82" }) }
    }

    #[test]
    fn a_place_is_read_as_it_was_written() {
        let place = place(7, 3);
        assert_eq!(Place::read(&place.write()).expect("read"), place);
        assert!(Place::read(&Position("12".into())).is_err());
    }

    #[test]
    fn a_goal_is_passed_with_its_mark_or_with_a_later_time() {
        assert!(place(7, 3).has_passed(&place(8, 3)));
        assert!(place(9, 2).has_passed(&place(8, 3)));
        assert!(!place(8, 2).has_passed(&place(8, 3)), "the event itself may still come");
    }
}
