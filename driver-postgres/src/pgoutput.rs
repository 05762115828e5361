//! What `pgoutput` says of one table, as far as keys go. Protocol 1, values as text:
//! <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>.

use std::fmt;

use replank_core::value::Key;
use replank_core::{Error, ErrorKind, Result};

/// A place in the server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Reads it as the server writes it: `16/B374D848`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for anything else.
    pub fn read(text: &str) -> Result<Self> {
        let parsed = || {
            let (high, low) = text.split_once('/')?;
            let half = |text| u32::from_str_radix(text, 16).ok().map(u64::from);
            Some(Self(half(high)? << 32 | half(low)?))
        };
        parsed().ok_or_else(|| Error::new(ErrorKind::Internal, format!("`{text}` is no place in the log")))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// What a message comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A transaction with the lower half of its number, and when it was committed in microseconds since 2000.
    Begin(u32, i64),
    /// Its end, and where the log goes on.
    Commit(Lsn),
    /// A row has this key now.
    Written(Key),
    /// A row had this key, and was deleted or has another one now.
    Removed(Key),
    /// Both: the old key, and the new one.
    Moved(Key, Key),
    /// No row is left.
    Emptied,
    /// Nothing about rows.
    Nothing,
}

/// Reads the messages of one look.
pub struct Decoder<'a> {
    table: u32,
    key: Vec<&'a str>,
    /// Where the columns of the key are in a row, once that was said.
    places: Vec<usize>,
}

/// A row's values: `None` for NULL, and for what was left out.
type Row = Vec<Option<String>>;

impl<'a> Decoder<'a> {
    /// For the table with this number, and the columns of its key.
    pub fn new(table: u32, key: Vec<&'a str>) -> Self {
        Self { table, key, places: Vec::new() }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`ErrorKind::FeedGap`] for anything that is not known in full.
    pub fn read(&mut self, message: &[u8]) -> Result<Message> {
        self.parsed(&mut Bytes(message)).ok_or_else(|| {
            let kind = message.first().map_or(' ', |byte| char::from(*byte));
            Error::new(ErrorKind::FeedGap, format!("a message `{kind}` of the slot is not understood"))
        })
    }

    fn parsed(&mut self, bytes: &mut Bytes<'_>) -> Option<Message> {
        Some(match bytes.byte()? {
            b'B' => {
                bytes.take(8)?;
                let at = i64::from_be_bytes(bytes.array()?);
                Message::Begin(bytes.number()?, at)
            }
            b'C' => {
                bytes.take(9)?;
                Message::Commit(Lsn(u64::from_be_bytes(bytes.array()?)))
            }
            b'R' => {
                self.relation(bytes)?;
                Message::Nothing
            }
            b'I' => {
                self.own(bytes)?;
                let row = bytes.row(b'N')?;
                Message::Written(self.key_of(&row, None)?)
            }
            b'U' => {
                self.own(bytes)?;
                let old = match bytes.0.first()? {
                    b'N' => None,
                    _ => Some(bytes.old_row()?),
                };
                let new = self.key_of(&bytes.row(b'N')?, old.as_ref())?;
                match old.map(|old| self.key_of(&old, None)) {
                    Some(old) => match old? {
                        old if old == new => Message::Written(new),
                        old => Message::Moved(old, new),
                    },
                    None => Message::Written(new),
                }
            }
            b'D' => {
                self.own(bytes)?;
                let row = bytes.old_row()?;
                Message::Removed(self.key_of(&row, None)?)
            }
            b'T' => {
                let tables: u32 = bytes.number()?;
                bytes.byte()?;
                let tables: Vec<u32> = (0..tables).map(|_| bytes.number()).collect::<Option<_>>()?;
                match tables.contains(&self.table) {
                    true => Message::Emptied,
                    false => Message::Nothing,
                }
            }
            // A type, and where a change was made first: neither says anything of rows.
            b'Y' | b'O' => Message::Nothing,
            _ => return None,
        })
    }

    fn relation(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        let table: u32 = bytes.number()?;
        let (_schema, _name, _identity) = (bytes.text()?, bytes.text()?, bytes.byte()?);
        let columns = u16::from_be_bytes(bytes.array()?);
        let mut names = Vec::new();
        for _ in 0..columns {
            bytes.byte()?;
            names.push(bytes.text()?);
            bytes.take(8)?;
        }
        if table == self.table {
            let place = |column: &&str| names.iter().position(|name| name == column);
            self.places = self.key.iter().map(place).collect::<Option<_>>()?;
        }
        Some(())
    }

    /// The message is of our table, whose columns are known.
    fn own(&self, bytes: &mut Bytes<'_>) -> Option<()> {
        (bytes.number()? == self.table && !self.places.is_empty()).then_some(())
    }

    /// A long value that did not change is not said again, but with the old key.
    fn key_of(&self, row: &Row, old: Option<&Row>) -> Option<Key> {
        let value = |at: &usize| row.get(*at)?.as_ref().or_else(|| old?.get(*at)?.as_ref());
        let values: Vec<&String> = self.places.iter().map(value).collect::<Option<_>>()?;
        serde_json::to_string(&values).ok().map(Key)
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Up to a zero byte.
    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = String::from_utf8(self.take(end)?.to_vec()).ok()?;
        self.byte()?;
        Some(text)
    }

    /// The old values: of the replica identity, or all of them.
    fn old_row(&mut self) -> Option<Row> {
        match self.0.first()? {
            kind @ (b'K' | b'O') => self.row(*kind),
            _ => None,
        }
    }

    fn row(&mut self, kind: u8) -> Option<Row> {
        if self.byte()? != kind {
            return None;
        }
        let columns = u16::from_be_bytes(self.array()?);
        (0..columns)
            .map(|_| match self.byte()? {
                b'n' | b'u' => Some(None),
                b't' => {
                    let length = usize::try_from(self.number()?).ok()?;
                    String::from_utf8(self.take(length)?.to_vec()).ok().map(Some)
                }
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: u32 = 77;

    fn relation() -> Vec<u8> {
        let mut bytes = vec![b'R'];
        bytes.extend(TABLE.to_be_bytes());
        bytes.extend(b"public\0t\0d\0\x03");
        for name in ["v", "b", "a"] {
            bytes.push(1);
            bytes.extend(name.as_bytes());
            bytes.push(0);
            bytes.extend([0; 8]);
        }
        bytes
    }

    fn row(kind: u8, values: [&str; 3]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 3];
        for value in values {
            match value {
                "n" | "u" => bytes.extend(value.as_bytes()),
                value => {
                    bytes.push(b't');
                    bytes.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
                    bytes.extend(value.as_bytes());
                }
            }
        }
        bytes
    }

    fn message(kind: u8, rows: &[Vec<u8>]) -> Vec<u8> {
        [&[kind][..], &TABLE.to_be_bytes(), &rows.concat()].concat()
    }

    fn key(text: &str) -> Key {
        Key(text.to_owned())
    }

    #[test]
    fn keys_are_read_by_the_names_of_their_columns() {
        let mut decoder = Decoder::new(TABLE, vec!["a", "b"]);
        assert!(decoder.read(&message(b'I', &[row(b'N', ["x", "2", "1"])])).is_err(), "no relation yet");
        assert_eq!(decoder.read(&relation()).expect("a relation"), Message::Nothing);
        let cases = [
            (message(b'I', &[row(b'N', ["x", "it's", "1"])]), Message::Written(key(r#"["1","it's"]"#))),
            (message(b'U', &[row(b'N', ["u", "2", "1"])]), Message::Written(key(r#"["1","2"]"#))),
            (
                message(b'U', &[row(b'K', ["n", "2", "1"]), row(b'N', ["x", "3", "1"])]),
                Message::Moved(key(r#"["1","2"]"#), key(r#"["1","3"]"#)),
            ),
            (
                message(b'U', &[row(b'O', ["y", "2", "1"]), row(b'N', ["x", "u", "1"])]),
                Message::Written(key(r#"["1","2"]"#)),
            ),
            (message(b'D', &[row(b'K', ["n", "2", "1"])]), Message::Removed(key(r#"["1","2"]"#))),
        ];
        for (bytes, expected) in cases {
            assert_eq!(decoder.read(&bytes).expect("understood"), expected);
        }
        let truncated = [&b"T\0\0\0\x02\0"[..], &1_u32.to_be_bytes(), &TABLE.to_be_bytes()].concat();
        assert_eq!(decoder.read(&truncated).expect("understood"), Message::Emptied);
        let begin = [&b"B"[..], &[0; 8], &5_i64.to_be_bytes(), &9_u32.to_be_bytes()].concat();
        assert_eq!(decoder.read(&begin).expect("understood"), Message::Begin(9, 5));
        let commit = [&b"C\0"[..], &[0; 8], &258_u64.to_be_bytes(), &[0; 8]].concat();
        assert_eq!(decoder.read(&commit).expect("understood"), Message::Commit(Lsn(258)));
    }

    #[test]
    fn what_is_not_known_in_full_is_a_gap() {
        let mut decoder = Decoder::new(TABLE, vec!["a", "b"]);
        decoder.read(&relation()).expect("a relation");
        let whole = message(b'I', &[row(b'N', ["x", "2", "1"])]);
        let unknown = [
            vec![],
            b"S".to_vec(),
            whole[..whole.len() - 1].to_vec(),
            message(b'I', &[row(b'N', ["x", "u", "1"])]),
            message(b'D', &[row(b'N', ["x", "2", "1"])]),
            [&b"I"[..], &78_u32.to_be_bytes(), &row(b'N', ["x", "2", "1"])].concat(),
        ];
        for bytes in unknown {
            assert_eq!(decoder.read(&bytes).expect_err("a gap").kind(), ErrorKind::FeedGap, "{bytes:?}");
        }
        let lacking = Decoder::new(TABLE, vec!["c"]).read(&relation());
        assert_eq!(lacking.expect_err("no such column").kind(), ErrorKind::FeedGap);
    }

    #[test]
    fn places_in_the_log_are_numbers() {
        let place = Lsn::read("16/B374D848").expect("a place");
        assert_eq!(place.to_string(), "16/B374D848");
        assert!(
            place > Lsn::read("16/B374D847").expect("a place") && place > Lsn::read("F/0").expect("a place")
        );
        assert!(Lsn::read("16").is_err() && Lsn::read("x/1").is_err());
    }
}
