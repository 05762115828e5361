//! The fields of a command, taken one by one: one that nobody takes is an error, since a misspelt option that is passed over
//! is a change that nobody asked for.

use bson::{Bson, Document};
use replank_core::{Error, ErrorKind, Result};

/// What is left of a document.
pub struct Fields {
    /// What it is, for messages.
    what: String,
    rest: Document,
    taken: Vec<String>,
}

impl Fields {
    /// All fields of a document.
    pub fn of(what: impl Into<String>, rest: Document) -> Self {
        Self { what: what.into(), rest, taken: Vec::new() }
    }

    /// Those of a command, without what says how it is sent, which is ours to say.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for another database, [`ErrorKind::Refused`] for a write that a minority could undo.
    pub fn of_command(what: impl Into<String>, command: Document, database: &str) -> Result<Self> {
        let mut fields = Self::of(what, command);
        for sending in ["comment", "apiVersion", "apiStrict", "apiDeprecationErrors"] {
            fields.rest.remove(sending);
        }
        if let Some(named) = fields.text("$db")?
            && named != database
        {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("the command is for `{named}`, and the target names `{database}`"),
            ));
        }
        if fields.take("maxTimeMS").is_some() {
            return Err(Error::new(ErrorKind::Usage, "how long a command may wait is not for it to say")
                .hint("leave `maxTimeMS` out, and give --lock-budget"));
        }
        let concern = fields.document("writeConcern")?;
        if let Some(concern) = concern
            && concern.get_str("w").ok() != Some("majority")
        {
            let what = format!(
                "`writeConcern: {}` could be undone by an election",
                crate::ejson::document_text(&concern)
            );
            return Err(Error::new(ErrorKind::Refused, what)
                .hint("leave it out: everything is written with {\"w\": \"majority\"}"));
        }
        Ok(fields)
    }

    /// One of them.
    pub fn take(&mut self, name: &str) -> Option<Bson> {
        self.taken.push(name.to_owned());
        self.rest.remove(name)
    }

    fn wrong(&self, name: &str, wanted: &str, found: &Bson) -> Error {
        Error::new(
            ErrorKind::Usage,
            format!("`{name}` of {} is {wanted}, and not {}", self.what, crate::ejson::text(found)),
        )
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Bson::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a text", &other)),
        }
    }

    /// An object.
    pub fn document(&mut self, name: &str) -> Result<Option<Document>> {
        match self.take(name) {
            None => Ok(None),
            Some(Bson::Document(document)) => Ok(Some(document)),
            Some(other) => Err(self.wrong(name, "an object", &other)),
        }
    }

    /// A list of objects.
    pub fn documents(&mut self, name: &str) -> Result<Option<Vec<Document>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Bson::Array(items)) if items.iter().all(|item| item.as_document().is_some()) => {
                Ok(Some(items.into_iter().filter_map(|item| item.as_document().cloned()).collect()))
            }
            Some(other) => Err(self.wrong(name, "a list of objects", &other)),
        }
    }

    /// Yes or no; no where it is not there.
    pub fn flag(&mut self, name: &str) -> Result<bool> {
        match self.take(name) {
            None => Ok(false),
            Some(Bson::Boolean(value)) => Ok(value),
            Some(other) => Err(self.wrong(name, "true or false", &other)),
        }
    }

    /// What must be there.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where it is not.
    pub fn needed<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::new(ErrorKind::Usage, format!("{} has no `{name}`", self.what)))
    }

    /// What is left.
    pub fn rest(self) -> Document {
        self.rest
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with what is left, and what there is.
    pub fn end(self) -> Result<()> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(unknown) => {
                const OURS: [&str; 3] = ["$db", "maxTimeMS", "writeConcern"];
                let known: Vec<&str> = self
                    .taken
                    .iter()
                    .map(String::as_str)
                    .filter(|name| !OURS.contains(name) && !self.what.contains(name))
                    .collect();
                Err(Error::new(ErrorKind::Usage, format!("{} takes no `{unknown}`", self.what))
                    .hint(format!("it takes {}", known.join(", "))))
            }
        }
    }
}
