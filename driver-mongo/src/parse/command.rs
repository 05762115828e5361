//! One command, or a list of them, all of one collection.

use bson::{Bson, Document};
use replank_core::{Error, ErrorKind, Result};

use super::fields::Fields;
use super::index::{self, IndexChange, Which};
use super::write::{self, Delete, Update};
use crate::ejson;

/// What a person asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The collection, without its database.
    pub collection: String,
    /// What is done with it, in this order.
    pub commands: Vec<Command>,
}

/// One command.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `createIndexes`.
    CreateIndexes {
        /// Each with a name.
        indexes: Vec<Document>,
        /// How many members must be ready.
        quorum: Option<Bson>,
    },
    /// `dropIndexes`.
    DropIndexes(Which),
    /// `collMod`, of an index.
    Index(IndexChange),
    /// `collMod`, of the collection.
    Options(Document),
    /// `create`.
    Create(Document),
    /// `renameCollection`.
    Rename {
        /// The new name.
        to: String,
        /// What has that name goes.
        drops_target: bool,
    },
    /// `drop`.
    Drop,
    /// `convertToCapped`.
    ConvertToCapped,
    /// `update`.
    Update(Vec<Update>),
    /// `delete`.
    Delete(Vec<Delete>),
    /// `shardCollection`, `reshardCollection`, `refineCollectionShardKey`: its name.
    Shard(String),
}

/// What can be typed, for messages.
const KNOWN: &str = "createIndexes, dropIndexes, collMod, create, renameCollection, drop, update, delete";

/// Options of `collMod` besides `index`.
const OPTIONS: [&str; 10] = [
    "validator",
    "validationLevel",
    "validationAction",
    "viewOn",
    "pipeline",
    "cappedSize",
    "cappedMax",
    "changeStreamPreAndPostImages",
    "expireAfterSeconds",
    "timeseries",
];

/// Reads a command, or a list of commands.
///
/// # Errors
/// [`ErrorKind::Usage`] for what is no command, or no such one; [`ErrorKind::Refused`] for one that is never run.
pub fn parse(text: &str, database: &str) -> Result<Asked> {
    let given = match ejson::parse(text)? {
        Bson::Document(command) => vec![command],
        Bson::Array(items) if !items.is_empty() => items
            .into_iter()
            .map(|item| match item {
                Bson::Document(command) => Ok(command),
                other => Err(no_command(&other)),
            })
            .collect::<Result<_>>()?,
        other => return Err(no_command(&other)),
    };
    let mut asked: Option<Asked> = None;
    for command in given {
        let (collection, commands) = one(command, database)?;
        match &mut asked {
            None => asked = Some(Asked { collection, commands }),
            Some(asked) if asked.collection == collection => asked.commands.extend(commands),
            Some(asked) => {
                let both = format!("`{}` and `{collection}` are changed by one list", asked.collection);
                return Err(Error::new(ErrorKind::Usage, both)
                    .hint("a list is one change of one collection: give one for each"));
            }
        }
    }
    let asked = asked.ok_or_else(|| no_command(&Bson::Null))?;
    let ends = |command: &Command| matches!(command, Command::Drop | Command::Rename { .. });
    if asked.commands.iter().rev().skip(1).any(ends) {
        let what = "the list goes on behind the command by which its collection goes or gets another name";
        return Err(Error::new(ErrorKind::Usage, what).hint("give what follows as a change of its own"));
    }
    Ok(asked)
}

fn no_command(found: &Bson) -> Error {
    Error::new(ErrorKind::Usage, format!("a command is an object, and not {}", ejson::text(found)))
        .hint("write {\"createIndexes\": \"orders\", \"indexes\": […]}, or a list of commands")
}

fn one(command: Document, database: &str) -> Result<(String, Vec<Command>)> {
    let Some((name, subject)) = command.iter().next().map(|(name, value)| (name.clone(), value.clone()))
    else {
        return Err(no_command(&Bson::Document(command)));
    };
    let what = format!("`{name}`");
    let Bson::String(subject) = subject else {
        return Err(unknown(&name).with("found", ejson::text(&subject)));
    };
    let mut fields = Fields::of_command(what, command, database)?;
    fields.take(&name);
    let commands = match name.as_str() {
        "createIndexes" => {
            let indexes = fields.documents("indexes")?;
            let indexes = index::definitions(fields.needed("indexes", indexes)?)?;
            vec![Command::CreateIndexes { indexes, quorum: fields.take("commitQuorum") }]
        }
        "dropIndexes" | "deleteIndexes" => {
            let given = fields.take("index");
            vec![Command::DropIndexes(index::which(fields.needed("index", given)?)?)]
        }
        "collMod" => coll_mod(&mut fields)?,
        "create" => {
            let options = std::mem::replace(&mut fields, Fields::of("`create`", Document::new())).rest();
            vec![Command::Create(options)]
        }
        "renameCollection" => {
            let to = fields.text("to")?;
            let to = within(&fields.needed("to", to)?, database)?;
            let drops_target = fields.flag("dropTarget")?;
            fields.end()?;
            return Ok((within(&subject, database)?, vec![Command::Rename { to, drops_target }]));
        }
        "drop" => vec![Command::Drop],
        "convertToCapped" => {
            fields.take("size");
            vec![Command::ConvertToCapped]
        }
        "update" => vec![Command::Update(write::updates(&mut fields)?)],
        "delete" => vec![Command::Delete(write::deletes(&mut fields)?)],
        "shardCollection" | "reshardCollection" | "refineCollectionShardKey" => {
            return Ok((within(&subject, database)?, vec![Command::Shard(name)]));
        }
        _ => return Err(unknown(&name)),
    };
    fields.end()?;
    Ok((subject, commands))
}

fn coll_mod(fields: &mut Fields) -> Result<Vec<Command>> {
    let mut commands = Vec::new();
    if let Some(index) = fields.document("index")? {
        commands.push(Command::Index(index::change(index)?));
    }
    let mut options = Document::new();
    for option in OPTIONS {
        if let Some(value) = fields.take(option) {
            options.insert(option, value);
        }
    }
    if !options.is_empty() {
        commands.push(Command::Options(options));
    }
    match commands.is_empty() {
        false => Ok(commands),
        true => Err(Error::new(ErrorKind::Usage, "`collMod` changes nothing")
            .hint(format!("it takes index, {}", OPTIONS.join(", ")))),
    }
}

/// A name with its database, which must be the target's.
fn within(full: &str, database: &str) -> Result<String> {
    match full.split_once('.') {
        Some((named, collection)) if named == database && !collection.is_empty() => Ok(collection.to_owned()),
        Some((named, _)) => Err(Error::new(
            ErrorKind::Refused,
            format!("`{full}` is in `{named}`, and the target names `{database}`"),
        )
        .hint("a collection does not move into another database by a rename: the server would copy it under a lock")),
        None => Err(Error::new(ErrorKind::Usage, format!("`{full}` names no database"))
            .hint(format!("write `{database}.{full}`"))),
    }
}

fn unknown(name: &str) -> Error {
    let known = format!("replank runs {KNOWN}");
    match name {
        "dropDatabase" => Error::new(ErrorKind::Refused, "a whole database is never dropped")
            .hint("drop its collections one by one: each is kept until it is made final"),
        "aggregate" | "mapReduce" => Error::new(ErrorKind::Refused, format!("`{name}` is not run"))
            .hint("`replank rebuild COLLECTION --pipeline FILE` makes something else of every document, and `$out` replaces a collection without its indexes"),
        "insert" | "findAndModify" | "find" | "bulkWrite" => {
            Error::new(ErrorKind::Refused, format!("`{name}` is no change of a collection"))
                .hint("send it as an application does")
        }
        _ => Error::new(ErrorKind::Usage, format!("no command `{name}` is known here")).hint(known),
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn read(text: &str) -> Result<Asked> {
        parse(text, "shop")
    }

    #[test]
    fn an_index_without_a_name_gets_the_one_that_a_shell_gives_it() {
        let asked = read(
            r#"{"createIndexes": "orders", "indexes": [{"key": {"b": 1, "a": -1, "t": "text"}, "unique": true,
                "background": true, "sparse": false}], "commitQuorum": "majority", "comment": "mine"}"#,
        );
        let index =
            doc! { "key": { "b": 1, "a": -1, "t": "text" }, "name": "b_1_a_-1_t_text", "unique": true };
        let command = Command::CreateIndexes {
            indexes: vec![index],
            quorum: Some(Bson::String("majority".to_owned())),
        };
        assert_eq!(asked.expect("read"), Asked { collection: "orders".to_owned(), commands: vec![command] });
    }

    #[test]
    fn a_list_of_commands_is_one_change_of_one_collection() {
        let asked = read(
            r#"[{"collMod": "c", "index": {"name": "i", "hidden": true}, "validator": {"a": 1}},
                {"renameCollection": "shop.c", "to": "shop.d"}]"#,
        );
        let asked = asked.expect("read");
        assert_eq!(asked.commands.len(), 3);
        assert_eq!(asked.commands[2], Command::Rename { to: "d".to_owned(), drops_target: false });
        let error = read(r#"[{"drop": "a"}, {"drop": "b"}]"#).expect_err("two");
        assert!(error.message().contains("`a` and `b`"), "{error}");
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let cases = [
            (r#"{"creatIndexes": "c"}"#, "no command `creatIndexes`"),
            (r#"{"createIndexes": "c", "indexes": [{"key": {"a": 1}, "uniqe": true}]}"#, "takes no `uniqe`"),
            (r#"{"createIndexes": "c", "indexes": []}"#, "names no index"),
            (r#"{"createIndexes": 1}"#, "no command"),
            (r#"{"collMod": "c"}"#, "changes nothing"),
            (r#"{"collMod": "c", "index": {"name": "i", "hidden": true, "unique": true}}"#, "one thing"),
            (r#"{"drop": "c", "writeConcern": {"w": 1}}"#, "undone by an election"),
            (r#"{"drop": "c", "maxTimeMS": 5}"#, "not for it to say"),
            (r#"{"drop": "c", "$db": "other"}"#, "the target names `shop`"),
            (r#"{"renameCollection": "shop.c", "to": "other.c"}"#, "is in `other`"),
            (r#"{"update": "c", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}]}"#, "one document"),
            (r#"{"update": "c", "updates": [{"q": {}, "u": {"a": 1}, "multi": true}]}"#, "operators"),
            (r#"{"delete": "c", "deletes": [{"q": {}, "limit": 1}]}"#, "one document"),
            (r#"{"dropDatabase": "c"}"#, "never dropped"),
            (r#"[{"drop": "c"}, {"create": "c"}]"#, "goes on behind"),
            ("[]", "a command is an object"),
            ("3", "a command is an object"),
        ];
        for (text, expected) in cases {
            let error = read(text).expect_err(text);
            assert!(error.to_string().contains(expected), "{text}: {error}");
            assert!(matches!(error.kind(), ErrorKind::Usage | ErrorKind::Refused), "{text}: {error}");
        }
    }
}
