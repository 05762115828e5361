//! What a run owns: looked up before anything is removed.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use replank_core::ident::RunId;
use replank_core::{Error, ErrorKind, Result};

use super::{missing, records};
use crate::connect::Server;
use crate::error::from_mongo;

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectRole {
    /// The collection of the new shape, until it is live.
    Shadow,
    /// The collection of the old shape that is kept for the way back.
    Retired,
    /// The collection whose writes tell how far a feed is.
    Log,
    /// How the collections are told apart, whatever they are called: stays with the records.
    Identity,
    /// A fence on the live collection: what its validator is without, and until when it may stand. Stays when it is gone.
    Fence,
    /// A swap that may have been sent: from where on deletes of the fenced collection are made good.
    Tail,
    /// What a swap has left that could not be made good: stays with the records.
    Left,
}

impl ObjectRole {
    const ALL: [Self; 7] =
        [Self::Shadow, Self::Retired, Self::Log, Self::Identity, Self::Fence, Self::Tail, Self::Left];

    /// The word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Retired => "retired",
            Self::Log => "log",
            Self::Identity => "identity",
            Self::Fence => "fence",
            Self::Tail => "tail",
            Self::Left => "left",
        }
    }
}

/// A registered object.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is for.
    pub role: ObjectRole,
    /// Its present name.
    pub name: String,
    /// What else is known about it.
    pub extra: Document,
}

/// The objects of one run.
#[derive(Debug, Clone)]
pub struct Objects {
    run: RunId,
}

impl Objects {
    /// Those of a run.
    pub fn new(run: &RunId) -> Self {
        Self { run: run.clone() }
    }

    fn id(&self, role: ObjectRole) -> Bson {
        Bson::String(format!("{}/{}", self.run, role.word()))
    }

    /// All of them.
    pub async fn all(&self, server: &Server) -> Result<Vec<Object>> {
        let filter = doc! { "run": self.run.as_str() };
        let found = records(server, "objects").find(filter).sort(doc! { "_id": 1 }).await;
        let found: Vec<Document> = found.map_err(from_mongo)?.try_collect().await.map_err(from_mongo)?;
        found.iter().map(object).collect()
    }

    /// That of a role.
    pub async fn one(&self, server: &Server, role: ObjectRole) -> Result<Option<Object>> {
        let found = records(server, "objects").find_one(doc! { "_id": self.id(role) }).await;
        found.map_err(from_mongo)?.as_ref().map(object).transpose()
    }

    /// Registers the object of a role, or changes what is known about it.
    pub async fn put(&self, server: &Server, role: ObjectRole, name: &str, extra: Document) -> Result<()> {
        let document = doc! {
            "_id": self.id(role),
            "run": self.run.as_str(),
            "role": role.word(),
            "name": name,
            "extra": extra,
        };
        records(server, "objects")
            .replace_one(doc! { "_id": self.id(role) }, document)
            .upsert(true)
            .await
            .map_err(from_mongo)
            .map(|_| ())
    }

    /// Forgets the object of a role.
    pub async fn remove(&self, server: &Server, role: ObjectRole) -> Result<()> {
        records(server, "objects")
            .delete_one(doc! { "_id": self.id(role) })
            .await
            .map_err(from_mongo)
            .map(|_| ())
    }
}

/// The fences that stand, or have stood, of all runs, each with its run.
pub async fn fences(server: &Server) -> Result<Vec<(RunId, Object)>> {
    let filter = doc! { "role": ObjectRole::Fence.word() };
    let found = records(server, "objects").find(filter).await.map_err(from_mongo)?;
    let found: Vec<Document> = found.try_collect().await.map_err(from_mongo)?;
    found
        .iter()
        .map(|document| {
            let run = document.get_str("run").map_err(missing("an object"))?;
            Ok((RunId::parse(run)?, object(document)?))
        })
        .collect()
}

fn object(document: &Document) -> Result<Object> {
    let missing = missing("an object");
    let word = document.get_str("role").map_err(&missing)?;
    let role = ObjectRole::ALL.into_iter().find(|role| role.word() == word).ok_or_else(|| {
        Error::new(ErrorKind::Server, format!("the role `{word}` of an object is not known"))
            .hint("was it written by a newer replank?")
    })?;
    Ok(Object {
        role,
        name: document.get_str("name").map_err(&missing)?.to_owned(),
        extra: document.get_document("extra").map_err(&missing)?.clone(),
    })
}
