//! Making the shadow: empty, with the keys that the copy needs, and registered before it is there.

use replank_core::{Error, ErrorKind, Result};
use serde_json::json;

use super::{Core, identity, parked};
use crate::connect::Conn;
use crate::definition;
use crate::sql::{ident, run};
use crate::state::{ObjectRole, check_token};

/// Creates the shadow.
pub async fn prepare(core: &Core) -> Result<()> {
    let mut connection = core.server.take().await?;
    check_token(&mut connection, &core.names, &core.job.table, core.fence()).await?;
    if let Some(left) = core.objects.one(&mut connection, ObjectRole::Shadow).await? {
        return Err(Error::new(ErrorKind::Internal, format!("`{}` is registered already", left.name)));
    }
    core.check_definition(&mut connection).await?;
    let live = core.job.table.name.clone();
    let original = identity::read(&mut connection, &core.spec.file)
        .await?
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("InnoDB does not know the table `{live}`")))?;
    let known = json!({ "original": original, "server": core.server.identity() });
    core.objects.put(&mut connection, ObjectRole::Live, &live, &known).await?;
    let name = core.written_name();
    core.objects.put(&mut connection, ObjectRole::Shadow, &name, &json!({})).await?;
    let sql = wanted(core, &name);
    if let Some(homes) = &core.spec.homes {
        for home in [&homes.shadow, &homes.retired] {
            run(&mut connection, format!("CREATE DATABASE IF NOT EXISTS {}", ident(home))).await?;
        }
    }
    run(&mut connection, definition::within(&sql, core.written_home())).await?;
    let made = definition::read(&mut connection, core.written_home(), &name).await?.unwrap_or_default();
    if !definition::same(&made, &sql) {
        return Err(Error::new(
            ErrorKind::Refused,
            "the server made the shadow otherwise than it was planned",
        )
        .with("planned", sql)
        .with("made", made)
        .hint("please report this; nothing of the table was changed"));
    }
    parked::make(&mut connection, core).await?;
    core.remember_shadow(&mut connection).await?;
    core.server.keep(connection);
    Ok(())
}

/// The shadow's definition, without the indexes that are built after the copy, and the foreign keys that come with
/// the name.
fn wanted(core: &Core, name: &str) -> String {
    let side = &core.spec.new;
    let deferred: Vec<&str> =
        side.indexes.iter().filter(|index| index.is_deferred).map(|index| index.clause.as_str()).collect();
    let sql = definition::without_foreign_keys(&definition::without(&side.sql, &deferred));
    definition::renamed(core.server.product(), &sql, &core.job.table.name, name)
}

impl Core {
    /// R7: the source's definition is what the plan saw.
    pub(super) async fn check_definition(&self, connection: &mut Conn) -> Result<()> {
        let live = &self.job.table.name;
        let planned = &self.spec.source(self.job.direction).sql;
        let present = definition::read(connection, self.schema(), live).await?;
        if present.as_ref().is_some_and(|present| definition::same(present, planned)) {
            return Ok(());
        }
        let error = Error::new(
            ErrorKind::ForeignDdl,
            format!("somebody else changed the definition of `{}`", self.job.table),
        );
        Err(match present {
            Some(present) => error.with("now", present),
            None => error.with("now", "there is no such table"),
        })
    }

    /// Notes by what the server knows the shadow.
    pub(super) async fn remember_shadow(&self, connection: &mut Conn) -> Result<()> {
        let shadow = identity::read(connection, &self.written_file()).await?;
        let Some(live) = self.objects.one(connection, ObjectRole::Live).await? else { return Ok(()) };
        let mut extra = live.extra.clone();
        extra["shadow"] = json!(shadow);
        if extra != live.extra {
            self.objects.put(connection, ObjectRole::Live, &live.name, &extra).await?;
        }
        Ok(())
    }
}
