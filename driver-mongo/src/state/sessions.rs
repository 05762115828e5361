//! The sessions of runs' transactions. A server keeps a transaction whose runner died open for a minute, with every collection that it
//! has touched, and the renames of whoever takes over would wait for it.
//!
//! **What holds**: a transaction of a run is on a session that is in the records under the run's token, and reads that token before it
//! touches anything else ([`Core::transaction`](crate::rebuild::Core::transaction)). Whoever takes a lease writes its token first,
//! and then, before it sends anything that waits, ends every session that is noted under an older one ([`end`]). So a
//! transaction that has read the older token is over by then, its late commit finds nothing, and one that begins later reads the
//! newer token and touches nothing.
//!
//! Source: <https://www.mongodb.com/docs/manual/reference/command/killSessions/>.

use std::collections::BTreeSet;
use std::sync::Mutex;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mongodb::ClientSession;
use replank_core::ident::{Fence, TableId};
use replank_core::value::hex;
use replank_core::{Error, ErrorKind, Result};

use super::{check_token, missing, records, signed};
use crate::connect::Server;
use crate::error::from_mongo;

/// Sessions that this process has noted. The client uses its sessions again and again, so there are few.
#[derive(Debug, Default)]
pub struct Noted(Mutex<BTreeSet<(Vec<u8>, Fence)>>);

impl Noted {
    /// Notes a session under a token, unless that was done. Afterwards whoever takes over finds it.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] where somebody took over before that.
    pub async fn note(
        &self,
        server: &Server,
        table: &TableId,
        token: Fence,
        session: &ClientSession,
    ) -> Result<()> {
        let bytes = RawDocumentBuf::try_from(session.id())
            .map_err(|error| {
                Error::new(ErrorKind::Internal, "a session's id cannot be written").caused_by(error)
            })?
            .into_bytes();
        let key = (bytes, token);
        if self.0.lock().is_ok_and(|noted| noted.contains(&key)) {
            return Ok(());
        }
        // One process may go on with runs of several tables.
        let id = format!("{}/{table}", hex(&key.0));
        let record = doc! {
            "_id": &id, "table": table.to_string(), "token": signed(token.0), "lsid": session.id().clone(),
        };
        records(server, "sessions")
            .replace_one(doc! { "_id": &id }, record)
            .upsert(true)
            .await
            .map_err(from_mongo)?;
        // Who took over between the last look and the note has not seen it.
        check_token(server, None, table, token).await?;
        if let Ok(mut noted) = self.0.lock() {
            noted.insert(key);
        }
        Ok(())
    }

    /// Removes the notes of sessions of a table whose transactions are all over: those of this token, and older ones, which [`end`] has
    /// ended.
    pub async fn forget(&self, server: &Server, table: &TableId, token: Fence) -> Result<()> {
        if let Ok(mut noted) = self.0.lock() {
            noted.clear();
        }
        let over = doc! { "table": table.to_string(), "token": { "$lte": signed(token.0) } };
        records(server, "sessions").delete_many(over).await.map_err(from_mongo).map(|_| ())
    }
}

/// Ends the sessions of a table's runs that are noted under older tokens than this one, which is in the records: their transactions
/// are undone, and hold nothing any more. Calling it again is harmless.
///
/// Sessions of one's own user need no privilege. Those of another one are not found, and what they keep open is waited for.
pub async fn end(server: &Server, table: &TableId, newest: Fence) -> Result<()> {
    let older = doc! { "table": table.to_string(), "token": { "$lt": signed(newest.0) } };
    let found = records(server, "sessions").find(older).await.map_err(from_mongo)?;
    let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
    if found.is_empty() {
        return Ok(());
    }
    let missing = missing("a session");
    let lsids: Vec<Bson> = found
        .iter()
        .map(|session| session.get_document("lsid").map(|lsid| Bson::Document(lsid.clone())))
        .collect::<std::result::Result<_, _>>()
        .map_err(&missing)?;
    match server.admin(doc! { "killSessions": lsids }).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::Refused => {
            tracing::warn!(%error, "transactions of the runner before may stay open for a minute");
        }
        Err(error) => return Err(error),
    }
    let ids: Vec<&Bson> = found.iter().filter_map(|session| session.get("_id")).collect();
    let over = doc! { "_id": { "$in": ids }, "token": { "$lt": signed(newest.0) } };
    records(server, "sessions").delete_many(over).await.map_err(from_mongo).map(|_| ())
}
