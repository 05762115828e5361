//! Names of helper tables.

use crate::connect::Product;

/// In front of helpers' names where a swap waits for its tables in the order of their names: what waits must wait
/// for the live one, so the others come after it. The second is for live tables that come after the first.
const AFTER: [&str; 2] = ["~", "\u{ffdc}"];
/// What all helpers' names go on with.
const HELPER: &str = "_rp_";

/// What stands in front of the names of a live table's helpers; `None` where no name would come after the live one's.
pub fn prefix(product: Product, live: &str) -> Option<&'static str> {
    match product {
        Product::MySql => Some(""),
        Product::MariaDb => {
            AFTER.into_iter().find(|first| live.as_bytes() < format!("{first}{HELPER}").as_bytes())
        }
    }
}

/// Whether a table is one of our helpers, by its name.
pub fn is_helper(name: &str) -> bool {
    bare(name).to_ascii_lowercase().starts_with(HELPER)
}

/// A helper's name as all products have it.
pub fn bare(name: &str) -> &str {
    AFTER.iter().find_map(|first| name.strip_prefix(first)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use replank_core::ident::{Fence, Role, RunId, helper_name};

    use super::*;

    #[test]
    fn helpers_come_after_the_live_table() {
        let run = RunId::parse("0123456789abcdef").expect("an id");
        let name = |product: Product, live: &str| {
            prefix(product, live).map(|first| format!("{first}{}", helper_name(&run, Fence(3), Role::Shadow)))
        };
        for live in ["orders", "_rp_zz", "ÖRDERS", "表", "~a", "~~", "~_rp_zz"] {
            let name = name(Product::MariaDb, live).expect(live);
            assert!(name.as_bytes() > live.as_bytes(), "{name} after {live}");
            assert!(is_helper(&name), "{name}");
        }
        assert_eq!(name(Product::MariaDb, "\u{ffee}"), None);
        assert_eq!(name(Product::MySql, "~a").as_deref(), Some("_rp_01234567_3_shadow"));
        assert!(!is_helper("orders") && !is_helper("~orders"));
    }
}
