//! Indexes of which a server keeps less than there was, with a warning or without: what is too long for an index in a new
//! character set or row format is cut, or kept as a hash.
//! See <https://mariadb.com/docs/server/server-usage/tables/create-table#index-prefixes>.

use super::renames::Renames;
use crate::inspect::Table;
use crate::parse::{Clause, Kind, Token, tokens};
use crate::spec::Index;

/// One sentence for each index that loses something though no clause names it.
pub fn shortened(old: &Table, new: &Table, renames: &Renames, clauses: &[Clause]) -> Vec<String> {
    let said: Vec<Token> =
        clauses.iter().flat_map(|clause| tokens(&clause.text).unwrap_or_default()).collect();
    let names = |index: &Index| {
        said.windows(2).any(|pair| {
            (pair[0].is("INDEX") || pair[0].is("KEY")) && pair[1].text.eq_ignore_ascii_case(&index.name)
        })
    };
    let mut found = Vec::new();
    for (was, becomes) in
        old.indexes.iter().filter_map(|was| Some((was, new.indexes.iter().find(|it| it.name == was.name)?)))
    {
        if names(was) {
            continue;
        }
        let is_hash = |index: &Index| {
            let all = tokens(&index.clause).unwrap_or_default();
            all.windows(2).any(|pair| pair[0].is("USING") && pair[1].is("HASH"))
        };
        if is_hash(becomes) && !is_hash(was) {
            found.push(format!("index `{}` becomes a hash, which finds no ranges", was.name));
        }
        let after = parts(&becomes.clause);
        for (column, length) in parts(&was.clause) {
            let column = renames.new_name(&column);
            let kept = after.iter().find(|(name, _)| name.eq_ignore_ascii_case(column));
            if let Some((_, Some(kept))) = kept
                && length.is_none_or(|length| *kept < length)
            {
                found.push(format!(
                    "index `{}` keeps only the first {kept} characters of `{column}`",
                    was.name
                ));
            }
        }
    }
    found
}

/// The columns of an index's line, each with how much of it is kept; expressions are passed over.
fn parts(line: &str) -> Vec<(String, Option<u64>)> {
    let tokens = tokens(line).unwrap_or_default();
    let (mut found, mut depth) = (Vec::new(), 0);
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Sign('(') => depth += 1,
            Kind::Sign(')') => depth -= 1,
            Kind::Name if depth == 1 => {
                let length = tokens.get(at + 1).filter(|next| next.is_sign('(')).and(tokens.get(at + 2));
                found.push((token.text.clone(), length.and_then(|length| length.text.parse().ok())));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_with_the_length_that_is_kept() {
        let line = "UNIQUE KEY `k` (`a`(768),`b (x`,(lower(`c`)),`d` DESC) COMMENT '(`e`)'";
        let expected = [("a", Some(768)), ("b (x", None), ("d", None)];
        assert_eq!(parts(line), expected.map(|(name, length)| (name.to_owned(), length)));
    }
}
