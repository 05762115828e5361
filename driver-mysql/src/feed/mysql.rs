//! MySQL's log, by sets of GTIDs. `gtid_executed` grows after the engine's commit: what is in it, a new read sees.

use async_trait::async_trait;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event, GtidEvent};
use mysql_async::{BinlogStream, BinlogStreamRequest};
use replank_core::Result;
use replank_core::value::Position;

use super::gtid::{Gtid, GtidSet};
use super::{
    HEARTBEAT, Log, Read, SETTLE_SECONDS, Transaction, gap, global, not_settled, number_of_ours, replica,
    stream, unreadable,
};
use crate::connect::{Conn, Server};
use crate::sql::{first, get, number, run, text};

/// Everything that is committed, and nothing that a new read would not see.
pub async fn head(connection: &mut Conn) -> Result<Position> {
    let executed = global(connection, "gtid_executed").await?;
    Ok(Position(GtidSet::parse(&executed)?.to_string()))
}

/// Opens the log just after `from`.
pub async fn open(
    server: &Server,
    mut settler: Conn,
    from: &Position,
) -> Result<(Box<dyn Log>, BinlogStream)> {
    let position = GtidSet::parse(&from.0)?;
    check_known(&mut settler, &position).await?;
    let mut connection = replica::reader(server, from).await?;
    let (mut passed, mut own) = (position.clone(), None);
    if server.log_of().is_some() {
        passed = position.with(&strangers(&mut connection, &mut settler).await?)?;
        own = Some(global(&mut connection, "server_uuid").await?);
    }
    check_reaches(&mut connection, &passed).await?;
    run(
        &mut connection,
        format!(
            "SET @replank_feed = 1, @source_heartbeat_period = {HEARTBEAT}, @master_heartbeat_period = {HEARTBEAT},
             @source_binlog_checksum = 'CRC32', SESSION net_write_timeout = 86400"
        ),
    )
    .await?;
    let request = BinlogStreamRequest::new(number_of_ours()).with_gtid().with_gtid_set(passed.sids()?);
    let stream = stream(connection, request).await?;
    Ok((Box::new(ByGtids { settler, position, own, present: None, unsettled: GtidSet::default() }), stream))
}

/// The log that is read has everything after what was passed.
async fn check_reaches(connection: &mut Conn, passed: &GtidSet) -> Result<()> {
    let passed = text(&passed.to_string());
    let reaches = number(connection, format!("SELECT GTID_SUBSET(@@GLOBAL.gtid_purged, {passed})")).await?;
    if reaches == 0 {
        return Err(gap("the log was purged beyond what is needed to go on"));
    }
    Ok(())
}

/// What a replica has, and the server that it follows has not: somebody wrote there.
async fn strangers(replica: &mut Conn, primary: &mut Conn) -> Result<GtidSet> {
    let there = global(replica, "gtid_executed").await?;
    // Asked later: all that has arrived there is in it.
    let here = global(primary, "gtid_executed").await?;
    let sql = format!("SELECT GTID_SUBTRACT({}, {})", text(&there), text(&here));
    match first(primary, sql).await? {
        Some(row) => GtidSet::parse(&get::<String>(&row, 0)?),
        None => Ok(GtidSet::default()),
    }
}

async fn check_known(connection: &mut Conn, position: &GtidSet) -> Result<()> {
    let position = text(&position.to_string());
    let known = number(connection, format!("SELECT GTID_SUBSET({position}, @@GLOBAL.gtid_executed)")).await?;
    if known == 0 {
        return Err(gap("the position is not of this server's history: was it restored from a backup?"));
    }
    Ok(())
}

struct ByGtids {
    /// Asks what is visible.
    settler: Conn,
    /// Transactions that were read to their end.
    position: GtidSet,
    /// The UUID of the replica whose log it is: what was written there alone is nothing of the table's.
    own: Option<String>,
    present: Option<Gtid>,
    /// Transactions of changes that are about to be handed out.
    unsettled: GtidSet,
}

#[async_trait]
impl Log for ByGtids {
    fn read(&mut self, event: &Event) -> Result<Read> {
        match event.header().event_type() {
            Ok(EventType::GTID_EVENT | EventType::GTID_TAGGED_LOG_EVENT) => {
                let event = event.read_event::<GtidEvent>().map_err(unreadable)?;
                let gtid = Gtid::new(event.sid(), event.tag().map(|tag| tag.as_str()), event.gno());
                self.present =
                    Some(gtid).filter(|gtid| !self.own.as_ref().is_some_and(|own| gtid.is_of(own)));
                Ok(Read::Begins(Transaction {
                    committed: i64::try_from(event.original_commit_timestamp()).ok(),
                    in_rows: false,
                    is_xa: false,
                }))
            }
            Ok(EventType::ANONYMOUS_GTID_EVENT) => {
                Err(gap("the log has transactions without a GTID: is gtid_mode still ON?"))
            }
            _ => Ok(Read::Other),
        }
    }

    fn ended(&mut self) {
        if let Some(gtid) = self.present.take() {
            self.position.add(&gtid);
        }
    }

    fn showed_rows(&mut self) {
        if let Some(gtid) = &self.present {
            self.unsettled.add(gtid);
        }
    }

    async fn settle(&mut self) -> Result<()> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {SETTLE_SECONDS})",
            text(&self.unsettled.to_string())
        );
        if number(&mut self.settler, sql).await? > 0 {
            return Err(not_settled());
        }
        self.unsettled = GtidSet::default();
        Ok(())
    }

    fn position(&self) -> Position {
        Position(self.position.to_string())
    }
}
