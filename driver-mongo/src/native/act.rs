//! What one step does on the server: the command, and how the catalogue tells whether it is done.
//!
//! A step's notes hold the whole of it to the byte, the way back as well: the statement of a step is for people, and by it the
//! act is found again.

use bson::{Bson, Document, doc};
use replank_core::plan::Step;
use replank_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::ejson;
use crate::inspect::index_name;
use crate::spec::Stored;

/// One act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// An index is built.
    Build {
        /// Of this collection.
        collection: String,
        /// As `createIndexes` takes it.
        index: Stored,
        /// How many members must be ready, in an object with one field.
        quorum: Option<Stored>,
    },
    /// An index goes.
    DropIndex {
        /// Of this collection.
        collection: String,
        /// Just this one.
        index: Stored,
    },
    /// An index becomes hidden, unique, …
    Index {
        /// Of this collection.
        collection: String,
        /// Its name.
        name: String,
        /// What becomes of it.
        set: Stored,
    },
    /// Options of a collection change.
    Options {
        /// Of this collection.
        collection: String,
        /// What they become.
        set: Stored,
        /// No document may break this validator, as the act begins.
        clean: Option<Stored>,
    },
    /// A collection is made.
    Create {
        /// Its name.
        collection: String,
        /// What `create` takes.
        options: Stored,
    },
    /// A collection that was made goes, if nothing was written to it.
    Unmake {
        /// Its name.
        collection: String,
        /// Its name while that is looked at.
        aside: String,
    },
    /// A collection gets another name.
    Rename {
        /// The name that it has.
        from: String,
        /// The name that it gets.
        to: String,
        /// Its identity, where that lasts.
        uuid: Option<String>,
    },
    /// A collection goes.
    Drop {
        /// Its name.
        collection: String,
        /// What it must be: `collection`, `view`, `timeseries`.
        kind: String,
    },
    /// Documents are written, range by range.
    Write(super::job::Job),
}

/// What is kept with a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Notes {
    forward: Act,
    back: Option<Act>,
    last: Option<Act>,
}

impl Act {
    /// The command, as a person reads it.
    pub fn text(&self, database: &str) -> String {
        ejson::document_text(&self.command(database))
    }

    /// The command. Of a job, the one that was asked for.
    pub fn command(&self, database: &str) -> Document {
        match self {
            Self::Build { collection, index, quorum } => {
                let mut command = doc! { "createIndexes": collection, "indexes": [index.0.clone()] };
                if let Some(quorum) = quorum {
                    command.extend(quorum.0.clone());
                }
                command
            }
            Self::DropIndex { collection, index } => {
                doc! { "dropIndexes": collection, "index": index_name(&index.0) }
            }
            Self::Index { collection, name, set } => {
                let mut index = doc! { "name": name };
                index.extend(set.0.clone());
                doc! { "collMod": collection, "index": index }
            }
            Self::Options { collection, set, .. } => {
                let mut command = doc! { "collMod": collection };
                command.extend(set.0.clone());
                command
            }
            Self::Create { collection, options } => {
                let mut command = doc! { "create": collection };
                command.extend(options.0.clone());
                command
            }
            Self::Unmake { collection, .. } | Self::Drop { collection, .. } => doc! { "drop": collection },
            Self::Rename { from, to, .. } => doc! {
                "renameCollection": format!("{database}.{from}"),
                "to": format!("{database}.{to}"),
            },
            Self::Write(job) => job.command(),
        }
    }

    /// The collection that it is about.
    pub fn collection(&self) -> &str {
        match self {
            Self::Build { collection, .. }
            | Self::DropIndex { collection, .. }
            | Self::Index { collection, .. }
            | Self::Options { collection, .. }
            | Self::Create { collection, .. }
            | Self::Unmake { collection, .. }
            | Self::Drop { collection, .. } => collection,
            Self::Rename { from, .. } => from,
            Self::Write(job) => &job.collection,
        }
    }

    /// Whether the server takes it on the database `admin` only.
    pub fn is_of_admin(&self) -> bool {
        matches!(self, Self::Rename { .. })
    }

    /// The act that a step carries out now, and whether that is forwards, back, or to make it final.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] for another driver's step, or another version's.
    pub fn of(step: &Step, database: &str) -> Result<(Self, Role)> {
        let notes = Notes::deserialize(&step.spec).map_err(|error| {
            Error::new(ErrorKind::Internal, "a step's notes cannot be read")
                .hint("was the run made by another version of replank?")
                .caused_by(error)
        })?;
        let forward = (Some(notes.forward), Role::Forward);
        [forward, (notes.back, Role::Back), (notes.last, Role::Last)]
            .into_iter()
            .filter_map(|(act, role)| Some((act?, role)))
            .find(|(act, _)| act.text(database) == step.statement)
            .ok_or_else(|| {
                Error::new(ErrorKind::Internal, "a step's notes say nothing of its statement")
                    .with("statement", &step.statement)
            })
    }
}

/// Which of a step's acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What it does.
    Forward,
    /// What takes it back.
    Back,
    /// What makes it final.
    Last,
}

/// A step that carries an act out.
///
/// # Errors
/// [`ErrorKind::Internal`] where it cannot be written down.
pub fn step(
    title: String,
    forward: Act,
    back: Option<Act>,
    last: Option<Act>,
    database: &str,
) -> Result<Step> {
    let text = |act: &Option<Act>| act.as_ref().map(|act| act.text(database)).unwrap_or_default();
    let mut step = Step::of_engine(&title, &text(&back));
    step.statement = forward.text(database);
    step.finalize = text(&last);
    step.spec = serde_json::to_value(Notes { forward, back, last }).map_err(|error| {
        Error::new(ErrorKind::Internal, "a step cannot be written as JSON").caused_by(error)
    })?;
    Ok(step)
}

/// The commit quorum of a build.
pub fn quorum(given: Option<&Bson>) -> Option<Stored> {
    given.map(|quorum| Stored(doc! { "commitQuorum": quorum.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_is_found_again_by_the_statement_of_its_step_to_the_byte() {
        let index = Stored(doc! { "key": { "z": 1, "a": -1_i64 }, "name": "i" });
        let build = Act::Build {
            collection: "c".into(),
            index: index.clone(),
            quorum: quorum(Some(&Bson::String("majority".into()))),
        };
        let gone = Act::DropIndex { collection: "c".into(), index };
        let step = step("build".into(), build.clone(), Some(gone.clone()), None, "shop").expect("written");
        assert_eq!(Act::of(&step, "shop").expect("forward"), (build, Role::Forward));
        let mut back = step.clone();
        back.statement = step.inverse.clone();
        assert_eq!(Act::of(&back, "shop").expect("back"), (gone, Role::Back));
        back.statement = "other".into();
        assert_eq!(Act::of(&back, "shop").expect_err("unknown").kind(), ErrorKind::Internal);
    }

    #[test]
    fn a_rename_names_its_database() {
        let act = Act::Rename { from: "a".into(), to: "b".into(), uuid: None };
        assert_eq!(act.text("shop"), r#"{"renameCollection": "shop.a", "to": "shop.b"}"#);
    }
}
