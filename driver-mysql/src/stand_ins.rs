//! Tables of other databases that foreign keys point at. On a copy of a table, another name in the copy's own database
//! stands for each: a key to the real one would make everybody wait for whoever holds it.

use crate::parse::{Token, tokens};
use crate::sql::{ident, table};
use replank_core::Result;

/// Those of one copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandIns {
    /// The database of the original.
    home: String,
    /// The server keeps all names in small letters.
    is_lowering: bool,
    /// Databases and names; the n-th is called after its number.
    far: Vec<(String, String)>,
}

/// A table that a key points at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its database.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Its name in the copy's database.
    pub here: String,
}

impl StandIns {
    /// None yet, for the copy of a table of this database.
    pub fn new(home: &str, is_lowering: bool) -> Self {
        Self { home: home.to_owned(), is_lowering, far: Vec::new() }
    }

    /// A statement or clause with its keys pointing into the copy's database, and what they point at.
    ///
    /// # Errors
    /// Those of [`tokens`].
    pub fn within_copy(&mut self, sql: &str) -> Result<(String, Vec<Target>)> {
        let all = tokens(sql)?;
        let (mut written, mut at, mut targets) = (String::new(), 0, Vec::new());
        for (number, _) in all.iter().enumerate().filter(|(_, token)| token.is("REFERENCES")) {
            let Some((named, schema, name)) = name_at(&all[number + 1..]) else { continue };
            let kept = |name: &str| if self.is_lowering { name.to_lowercase() } else { name.to_owned() };
            let (schema, name) = (kept(schema.unwrap_or(&self.home)), kept(name));
            let here = self.name(&schema, &name);
            written.push_str(&sql[at..named.start]);
            written.push_str(&ident(&here));
            at = named.end;
            targets.push(Target { schema, table: name, here });
        }
        written.push_str(&sql[at..]);
        Ok((written, targets))
    }

    /// What stands for a table in the copy's database.
    pub fn name(&mut self, schema: &str, name: &str) -> String {
        if schema == self.home {
            return name.to_owned();
        }
        let known = self.far.iter().position(|(its, far)| its == schema && far == name);
        let at = known.unwrap_or_else(|| {
            self.far.push((schema.to_owned(), name.to_owned()));
            self.far.len() - 1
        });
        brief(at)
    }

    /// What the server says of the copy, with the names that a person knows.
    pub fn told(&self, said: &str) -> String {
        let all = self.far.iter().enumerate();
        all.fold(said.to_owned(), |said, (at, (schema, name))| {
            said.replace(&brief(at), &format!("{schema}.{name}"))
        })
    }

    /// A definition of the copy, as that of the original.
    pub fn out_of_copy(&self, sql: &str) -> String {
        let mut sql = sql.to_owned();
        for (at, (schema, name)) in self.far.iter().enumerate() {
            let here = format!(" REFERENCES {} (", ident(&brief(at)));
            sql = sql.replace(&here, &format!(" REFERENCES {} (", table(schema, name)));
        }
        sql
    }
}

fn brief(at: usize) -> String {
    format!("_rp_far_{at}")
}

/// A name at the beginning, with where it stands.
fn name_at(all: &[Token]) -> Option<(std::ops::Range<usize>, Option<&str>, &str)> {
    match all {
        [schema, dot, name, ..] if dot.is_sign('.') => {
            Some((schema.span.start..name.span.end, Some(&schema.text), &name.text))
        }
        [name, ..] => Some((name.span.clone(), None, &name.text)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_point_into_the_copy_and_back() {
        let mut stand_ins = StandIns::new("shop", false);
        let sql = "CONSTRAINT `references` FOREIGN KEY (`a`) REFERENCES `o``f`.`p` (`x`),
            KEY `b` (`b`) COMMENT 'REFERENCES q.r', FOREIGN KEY (`b`) REFERENCES q (`y`), FOREIGN KEY (c) REFERENCES shop . s (z)";
        let (copy, targets) = stand_ins.within_copy(sql).expect("read");
        let names: Vec<[&str; 3]> =
            targets.iter().map(|it| [it.schema.as_str(), it.table.as_str(), it.here.as_str()]).collect();
        assert_eq!(names, [["o`f", "p", "_rp_far_0"], ["shop", "q", "q"], ["shop", "s", "s"]]);
        let expected = sql.replace("`o``f`.`p`", "`_rp_far_0`").replace(" q (", " `q` (");
        assert_eq!(copy, expected.replace("shop . s", "`s`"));
        let back = stand_ins.out_of_copy(&copy);
        assert!(back.contains("REFERENCES `o``f`.`p` (`x`)"), "{back}");
        assert_eq!(stand_ins.name("o`f", "p"), "_rp_far_0", "the same once more");
        assert_eq!(stand_ins.name("o", "p"), "_rp_far_1");
        assert_eq!(stand_ins.told("no index in '_rp_far_0'"), "no index in 'o`f.p'");
        let mut lowering = StandIns::new("shop", true);
        let (copy, targets) = lowering.within_copy("REFERENCES Shop.Node (id)").expect("read");
        assert_eq!((copy.as_str(), targets[0].table.as_str()), ("REFERENCES `node` (id)", "node"));
    }
}
