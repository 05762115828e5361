//! MySQL's log, by sets of GTIDs. `gtid_executed` grows after the engine's commit: what is in it, a new read sees.

use async_trait::async_trait;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event, GtidEvent};
use mysql_async::{BinlogStream, BinlogStreamRequest};
use replank_core::Result;
use replank_core::value::Position;

use super::gtid::{Gtid, GtidSet};
use super::{
    HEARTBEAT, Log, Read, SETTLE_SECONDS, Transaction, gap, global, not_settled, number_of_ours, stream,
    unreadable,
};
use crate::connect::{Conn, Server};
use crate::sql::{number, run, text};

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
    check_reaches(&mut settler, &position).await?;
    let mut connection = server.connect().await?;
    run(
        &mut connection,
        format!(
            "SET @replank_feed = 1, @source_heartbeat_period = {HEARTBEAT}, @master_heartbeat_period = {HEARTBEAT},
             @source_binlog_checksum = 'CRC32', SESSION net_write_timeout = 86400"
        ),
    )
    .await?;
    let request = BinlogStreamRequest::new(number_of_ours()).with_gtid().with_gtid_set(position.sids()?);
    let stream = stream(connection, request).await?;
    Ok((Box::new(ByGtids { settler, position, present: None, unsettled: GtidSet::default() }), stream))
}

async fn check_reaches(connection: &mut Conn, position: &GtidSet) -> Result<()> {
    let position = text(&position.to_string());
    let purged = number(connection, format!("SELECT GTID_SUBSET(@@GLOBAL.gtid_purged, {position})")).await?;
    if purged == 0 {
        return Err(gap("the log was purged beyond what is needed to go on"));
    }
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
                self.present = Some(Gtid::new(event.sid(), event.tag().map(|tag| tag.as_str()), event.gno()));
                Ok(Read::Begins(Transaction {
                    committed: i64::try_from(event.immediate_commit_timestamp()).ok(),
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
