//! MariaDB's log, by the last GTID of each domain.
//!
//! A transaction is in the log, and in `gtid_binlog_pos`, before a new read sees it. What tells is the place in
//! the log that `START TRANSACTION WITH CONSISTENT SNAPSHOT` gives with its snapshot:
//! <https://mariadb.com/kb/en/enhancements-for-start-transaction-with-consistent-snapshot/>.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event, RotateEvent};
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStream, BinlogStreamRequest, Row};
use replank_core::value::Position;
use replank_core::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use super::{
    HEARTBEAT, Log, Read, SETTLE_SECONDS, Transaction, gap, global, not_settled, number_of_ours, replica,
    stream, unreadable,
};
use crate::connect::{Conn, Server};
use crate::error::from_mysql;
use crate::sql::{first, get, rows, run, text};

/// Commits take milliseconds. Chosen.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);

/// MariaDB's own events: <https://mariadb.com/kb/en/2-binlog-event-header/>.
mod events {
    pub const ANNOTATE_ROWS: u8 = 160;
    pub const BINLOG_CHECKPOINT: u8 = 161;
    pub const GTID: u8 = 162;
    pub const GTID_LIST: u8 = 163;
    pub const START_ENCRYPTION: u8 = 164;
    /// Statements and rows, packed.
    pub const COMPRESSED: std::ops::RangeInclusive<u8> = 165..=171;
}

/// The last transaction of each domain, with the server that numbered it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains(BTreeMap<u32, (u32, u64)>);

impl Domains {
    /// Reads `0-1-100,5-2-7`.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong =
            || Error::new(ErrorKind::Internal, "a position that is no list of GTIDs").with("text", text);
        let mut domains = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut numbers = part.split('-');
            let mut next = || numbers.next().and_then(|digits| digits.parse::<u64>().ok()).ok_or_else(wrong);
            let (domain, server, number) = (next()?, next()?, next()?);
            let small = |number: u64| u32::try_from(number).map_err(|_| wrong());
            domains.insert(small(domain)?, (small(server)?, number));
        }
        Ok(Self(domains))
    }

    /// Whether everything up to `goal` has been passed.
    pub fn contains(&self, goal: &Self) -> bool {
        goal.0.iter().all(|(domain, (_, number))| self.0.get(domain).is_some_and(|(_, at)| at >= number))
    }
}

impl fmt::Display for Domains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (domain, (server, number))) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{domain}-{server}-{number}")?;
        }
        Ok(())
    }
}

/// A place in the log of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Place {
    /// The number at the end of the file's name.
    file: u64,
    /// From the file's beginning.
    offset: u64,
}

impl Place {
    fn of(file: &str, offset: u64) -> Option<Self> {
        let file = file.rsplit_once('.')?.1.parse().ok()?;
        Some(Self { file, offset })
    }
}

/// What a new snapshot sees: everything before this place.
async fn visible(connection: &mut Conn) -> Result<Place> {
    // The session's isolation is for this transaction only; without REPEATABLE READ there is no such snapshot.
    let sql = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT;
               SHOW STATUS LIKE 'binlog\\_snapshot\\_%'; COMMIT";
    let lookout = connection.lookout();
    let reading = async {
        let mut result = connection.query_iter(sql).await?;
        let mut read = Vec::new();
        while !result.is_empty() {
            read.extend(result.collect::<Row>().await?);
        }
        Ok(read)
    };
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for row in lookout.answer(reading).await.map_err(from_mysql)? {
        found.insert(get::<String>(&row, 0)?.to_ascii_lowercase(), get(&row, 1)?);
    }
    let offset = found.get("binlog_snapshot_position").and_then(|offset| offset.parse().ok());
    found
        .get("binlog_snapshot_file")
        .zip(offset)
        .and_then(|(file, offset)| Place::of(file, offset))
        .ok_or_else(|| Error::new(ErrorKind::Server, "the server does not say what of its log is visible"))
}

async fn wait_until_visible(connection: &mut Conn, place: Place) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(SETTLE_SECONDS);
    while visible(connection).await? < place {
        if Instant::now() > until {
            return Err(not_settled());
        }
        sleep(SETTLE_PAUSE).await;
    }
    Ok(())
}

/// Everything that is in the log, seen by a new read or not.
pub async fn newest(connection: &mut Conn) -> Result<Position> {
    let logged = global(connection, "gtid_binlog_pos").await?;
    Ok(Position(Domains::parse(&logged)?.to_string()))
}

/// Everything that is committed, and nothing that a new read would not see: what was newest, once it is visible.
pub async fn head(connection: &mut Conn) -> Result<Position> {
    let newest = newest(connection).await?;
    // Later, and so not before the end of the newest.
    wait_until_all_is_visible(connection).await?;
    Ok(newest)
}

async fn wait_until_all_is_visible(connection: &mut Conn) -> Result<()> {
    let Some(row) = first(connection, "SHOW MASTER STATUS").await? else { return Ok(()) };
    let (file, offset): (String, u64) = (get(&row, 0)?, get(&row, 1)?);
    match Place::of(&file, offset) {
        Some(place) => wait_until_visible(connection, place).await,
        None => Ok(()),
    }
}

/// Opens the log just after `from`.
pub async fn open(
    server: &Server,
    mut settler: Conn,
    from: &Position,
) -> Result<(Box<dyn Log>, BinlogStream)> {
    let position = Domains::parse(&from.0)?;
    let known = Domains::parse(&newest(&mut settler).await?.0)?;
    if !known.contains(&position) {
        return Err(gap("the position is not of this server's history: was it restored from a backup?"));
    }
    let mut connection = replica::reader(server, from).await?;
    let files = rows(&mut connection, "SHOW BINARY LOGS").await?;
    let files = files.iter().map(|row| get(row, 0)).collect::<Result<Vec<String>>>()?;
    let (mut passed, mut own) = (position.clone(), None);
    if server.log_of().is_some() {
        let there = Domains::parse(&newest(&mut connection).await?.0)?;
        // Asked later: all that has arrived there is in it.
        let here = Domains::parse(&newest(&mut settler).await?.0)?;
        passed.0.extend(
            there
                .0
                .into_iter()
                .filter(|(domain, _)| !here.0.contains_key(domain) && !position.0.contains_key(domain)),
        );
        own = global(&mut connection, "server_id").await?.parse().ok();
    }
    run(
        &mut connection,
        format!(
            "SET @mariadb_slave_capability = 4, @slave_connect_state = {}, @slave_gtid_strict_mode = 1,
             @master_heartbeat_period = {HEARTBEAT}, SESSION net_write_timeout = 86400",
            text(&passed.to_string())
        ),
    )
    .await?;
    let stream = stream(connection, BinlogStreamRequest::new(number_of_ours())).await?;
    let log = ByDomains {
        settler,
        position,
        own,
        present: None,
        place: Place::default(),
        files,
        knows_format: false,
        unsettled: None,
    };
    Ok((Box::new(log), stream))
}

struct ByDomains {
    /// Asks what is visible.
    settler: Conn,
    /// The last transactions that were read to their end.
    position: Domains,
    /// The number of the replica whose log it is: what was written there alone is nothing of the table's.
    own: Option<u32>,
    present: Option<(u32, u32, u64)>,
    /// The end of the event that was read last.
    place: Place,
    /// Those of the log, as it began to be read.
    files: Vec<String>,
    /// The event that tells how the others are written has come.
    knows_format: bool,
    /// The end of what is about to be handed out.
    unsettled: Option<Place>,
}

impl ByDomains {
    /// Notes where the event ends.
    fn pass(&mut self, event: &Event) -> Result<()> {
        let header = event.header();
        match header.event_type() {
            Ok(EventType::ROTATE_EVENT) => {
                let rotation = event.read_event::<RotateEvent<'_>>().map_err(unreadable)?;
                let name = match self.knows_format {
                    true => rotation.name().into_owned(),
                    false => self.known_file(rotation.name_raw())?,
                };
                self.place = Place::of(&name, rotation.position()).ok_or_else(|| {
                    gap("a file of the log has a name without a number").with("file", &name)
                })?;
            }
            Ok(EventType::FORMAT_DESCRIPTION_EVENT) => self.knows_format = true,
            _ => self.place.offset = grown(self.place.offset, header.log_pos()),
        }
        Ok(())
    }

    /// The event in front of all others may have a checksum at its end, which nobody has announced yet.
    fn known_file(&self, name: &[u8]) -> Result<String> {
        let without = name.len().checked_sub(4).map_or(name, |length| &name[..length]);
        [name, without]
            .into_iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .find(|name| self.files.contains(name))
            .ok_or_else(|| {
                // Begun since the files were listed.
                Error::new(ErrorKind::ConnectionLost, "the log goes on in a file that is not known yet")
            })
    }

    fn begin(&mut self, event: &Event) -> Result<Transaction> {
        let begun = Begun::read(event.data())
            .ok_or_else(|| gap("an event that begins a transaction cannot be read to its end"))?;
        let server = event.header().server_id();
        if self.own == Some(server) {
            return Ok(Self::transaction(event, &begun));
        }
        let last = self.position.0.get(&begun.domain).map_or(0, |(_, number)| *number);
        if begun.number <= last {
            return Err(gap("the log's transactions are not in the order of their numbers")
                .with("after", format!("{}-{}", begun.domain, last))
                .with("came", format!("{}-{server}-{}", begun.domain, begun.number))
                .hint("is gtid_strict_mode OFF, and did somebody write to a replica?"));
        }
        self.present = Some((begun.domain, server, begun.number));
        Ok(Self::transaction(event, &begun))
    }

    fn transaction(event: &Event, begun: &Begun) -> Transaction {
        Transaction {
            // Whole seconds, of the moment in which the statement began.
            committed: Some(i64::from(event.header().timestamp()) * 1_000_000 + 999_999),
            in_rows: !begun.is_single,
            is_xa: begun.is_prepared,
        }
    }
}

/// The end of an event, from the lower half that the log has of it.
fn grown(before: u64, lower: u32) -> u64 {
    const TURN: u64 = 1 << 32;
    // Made by the server for this reader: it is nowhere in the log.
    if lower == 0 {
        return before;
    }
    let end = before / TURN * TURN + u64::from(lower);
    if end < before { end + TURN } else { end }
}

/// What an event says that begins a transaction: <https://mariadb.com/kb/en/gtid_event/>.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    domain: u32,
    number: u64,
    /// One statement follows, which ends by itself.
    is_single: bool,
    /// It becomes visible by a later XA COMMIT.
    is_prepared: bool,
}

impl Begun {
    fn read(data: &[u8]) -> Option<Self> {
        let (number, rest) = data.split_first_chunk::<8>()?;
        let (domain, rest) = rest.split_first_chunk::<4>()?;
        let flags = rest.first()?;
        Some(Self {
            domain: u32::from_le_bytes(*domain),
            number: u64::from_le_bytes(*number),
            is_single: flags & 1 != 0,
            is_prepared: flags & 64 != 0,
        })
    }
}

#[async_trait]
impl Log for ByDomains {
    fn read(&mut self, event: &Event) -> Result<Read> {
        self.pass(event)?;
        match event.header().event_type_raw() {
            events::GTID => self.begin(event).map(Read::Begins),
            // The server decrypts what it sends.
            events::ANNOTATE_ROWS
            | events::BINLOG_CHECKPOINT
            | events::GTID_LIST
            | events::START_ENCRYPTION => Ok(Read::Passed),
            kind if events::COMPRESSED.contains(&kind) => {
                Err(gap("the log has compressed events, which cannot be read")
                    .hint("SET GLOBAL log_bin_compress = OFF, then `replank abort`, and apply again"))
            }
            _ => Ok(Read::Other),
        }
    }

    fn ended(&mut self) {
        if let Some((domain, server, number)) = self.present.take() {
            self.position.0.insert(domain, (server, number));
        }
    }

    fn showed_rows(&mut self) {
        // What a replica alone has is never visible on the other server.
        if self.present.is_some() {
            self.unsettled = Some(self.place);
        }
    }

    async fn settle(&mut self) -> Result<()> {
        let Some(place) = self.unsettled else { return Ok(()) };
        match self.own {
            // A snapshot never begins in the middle of a transaction: one that sees this far, sees its end.
            None => wait_until_visible(&mut self.settler, place).await?,
            // A place in a replica's log says nothing here; but what has come to it was in the log here before.
            Some(_) => wait_until_all_is_visible(&mut self.settler).await?,
        }
        self.unsettled = None;
        Ok(())
    }

    fn position(&self) -> Position {
        Position(self.position.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn domains(text: &str) -> Domains {
        Domains::parse(text).expect("a position")
    }

    #[test]
    fn positions_come_back_and_are_compared_domain_by_domain() {
        for text in ["", "0-1-100", "0-1-100,5-20-7"] {
            assert_eq!(domains(text).to_string(), text);
        }
        assert!(domains("0-2-101,5-1-7").contains(&domains("0-1-100")), "the server may be another one");
        assert!(!domains("0-1-100").contains(&domains("0-1-101")));
        assert!(!domains("0-1-100").contains(&domains("0-1-100,1-1-1")));
        assert!(domains("0-1-1").contains(&domains("")));
        for text in ["0-1", "a-b-c", "0-1-x", "5000000000-1-1"] {
            assert_eq!(Domains::parse(text).expect_err(text).kind(), ErrorKind::Internal);
        }
    }

    #[rstest]
    #[case::begins_rows(&[9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 12, 0, 0], Some((3, 9, false, false)))]
    #[case::single(&[9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1], Some((3, 9, true, false)))]
    #[case::prepared(&[9, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 66], Some((3, 9 + (1 << 56), false, true)))]
    #[case::torn(&[9, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], None)]
    fn what_begins_a_transaction_is_read(#[case] data: &[u8], #[case] says: Option<(u32, u64, bool, bool)>) {
        let found = Begun::read(data).map(|it| (it.domain, it.number, it.is_single, it.is_prepared));
        assert_eq!(found, says);
    }

    #[test]
    fn files_are_in_the_order_of_their_numbers() {
        let place = |file: &str, offset| Place::of(file, offset).expect("a place");
        assert!(place("binlog.000009", 900) < place("binlog.000010", 4));
        assert!(place("a.b.999999", 4) < place("a.b.1000000", 4));
        assert_eq!(Place::of("binlog", 4), None);
    }

    proptest! {
        /// The log has only 32 bits of an event's end.
        #[test]
        fn an_event_ends_where_it_ends_however_long_the_file(
            sizes in prop::collection::vec(1_u64..u64::from(u32::MAX), 1..40)
        ) {
            let (mut end, mut read) = (4_u64, 4_u64);
            for size in sizes {
                end += size;
                // An end of just a multiple of 4 GiB looks like an event that is nowhere in the log.
                prop_assume!(end % (1 << 32) != 0);
                let before = read;
                read = grown(read, (end % (1 << 32)) as u32);
                prop_assert_eq!(read, end);
                prop_assert!(read > before);
            }
        }
    }
}
