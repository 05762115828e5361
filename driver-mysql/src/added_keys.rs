//! Foreign keys that a statement adds: the server would look at every row while writers wait. With
//! `foreign_key_checks = 0` it adds them at once, for all writes to come, and the rows are looked at afterwards by a
//! plain query. Where one has no parent the key goes again.

use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::connect::Conn;
use crate::definition;
use crate::rebuild::orphans::{Look, Orphans};

/// What has to be asked after a step, and after the one that takes it back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    /// Of keys that the step adds.
    pub forward: Vec<Look>,
    /// Of keys that it drops, and its inverse adds.
    pub inverse: Vec<Look>,
}

/// Those of a step as it stands.
pub fn looks(step: &Step) -> Result<Vec<Look>> {
    let Some(looks) = step.spec.get("looks") else { return Ok(Vec::new()) };
    let looks = Looks::deserialize(looks)
        .map_err(|error| Error::new(ErrorKind::Internal, "a step's notes cannot be read").caused_by(error))?;
    let is_forward = step.spec.get("forward").and_then(Json::as_str) == Some(step.statement.as_str());
    Ok(if is_forward { looks.forward } else { looks.inverse })
}

/// Whether the table is already as the step makes it.
pub async fn is_made(connection: &mut Conn, step: &Step) -> Result<bool> {
    let field = |name: &str| step.spec.get(name).and_then(Json::as_str).unwrap_or_default();
    let goal = if step.statement == field("forward") { "after" } else { "before" };
    let now = definition::read(connection, field("schema"), field("table")).await?;
    Ok(now.as_deref() == Some(field(goal)))
}

/// What the person is told, once the key is gone again.
pub fn refused(look: &Look, orphans: &Orphans) -> Error {
    orphans
        .error(ErrorKind::Refused, look, "it was taken off again")
        .hint("delete or mend these rows, then go on")
}
