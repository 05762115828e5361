//! What an index is, whatever it and its table are called: two that a step could have made are the same in this.

/// `UNIQUE` where it is, and everything from `USING` on, of a definition as `pg_get_indexdef` writes it. What is not of that
/// form is its own shape.
pub fn shape(definition: &str) -> String {
    split(definition).unwrap_or_else(|| definition.to_owned())
}

fn split(definition: &str) -> Option<String> {
    let rest = definition.strip_prefix("CREATE ")?;
    let (unique, rest) = match rest.strip_prefix("UNIQUE ") {
        Some(rest) => ("UNIQUE ", rest),
        None => ("", rest),
    };
    let rest = after_name(rest.strip_prefix("INDEX ")?)?.strip_prefix(" ON ")?;
    let rest = after_name(rest.strip_prefix("ONLY ").unwrap_or(rest))?;
    let rest = match rest.strip_prefix('.') {
        Some(table) => after_name(table)?,
        None => rest,
    };
    Some(format!("{unique}{}", rest.strip_prefix(' ')?))
}

/// What follows a name, quoted or not.
fn after_name(text: &str) -> Option<&str> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(['.', ' '])?;
        return text.get(end..);
    };
    loop {
        rest = rest.split_once('"')?.1;
        match rest.strip_prefix('"') {
            Some(doubled) => rest = doubled,
            None => return Some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_part_of_a_shape() {
        for (definition, wanted) in [
            ("CREATE INDEX i ON public.t USING btree (a)", "USING btree (a)"),
            ("CREATE UNIQUE INDEX i ON ONLY public.t USING btree (a)", "UNIQUE USING btree (a)"),
            ("CREATE INDEX \"i \"\" ON x USING \" ON \"S\".\"t.t\" USING hash (b)", "USING hash (b)"),
            (
                "CREATE INDEX i ON t USING btree (a) WHERE (b = ' USING '::text)",
                "USING btree (a) WHERE (b = ' USING '::text)",
            ),
            ("something else", "something else"),
        ] {
            assert_eq!(shape(definition), wanted);
        }
    }
}
