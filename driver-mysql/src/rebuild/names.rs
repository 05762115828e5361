//! Names of helper tables.

use replank_core::ident::{Fence, Role, RunId, helper_name};

use crate::connect::Product;

/// In front of helpers' names where a swap waits for its tables in the order of their names: what waits must wait
/// for the live one, so the others come after it. The second is for live tables that come after the first.
const AFTER: [char; 2] = ['~', '\u{ffdc}'];

/// The name of a run's helper beside a live table; `None` where no name would come after the live one's.
pub fn helper(product: Product, live: &str, run: &RunId, fence: Fence, role: Role) -> Option<String> {
    let name = helper_name(run, fence, role);
    match product {
        Product::MySql => Some(name),
        Product::MariaDb => {
            AFTER.iter().map(|first| format!("{first}{name}")).find(|name| live.as_bytes() < name.as_bytes())
        }
    }
}

/// Whether a table is one of our helpers, by its name.
pub fn is_helper(name: &str) -> bool {
    bare(name).to_ascii_lowercase().starts_with("_rp_")
}

/// A helper's name as all products have it.
pub fn bare(name: &str) -> &str {
    name.strip_prefix(AFTER).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_come_after_the_live_table() {
        let run = RunId::parse("0123456789abcdef").expect("an id");
        let name = |live: &str| helper(Product::MariaDb, live, &run, Fence(3), Role::Shadow);
        for live in ["orders", "_rp_zz", "ÖRDERS", "表", "~a", "~~"] {
            let name = name(live).expect(live);
            assert!(name.as_bytes() > live.as_bytes(), "{name} after {live}");
            assert!(is_helper(&name), "{name}");
        }
        assert_eq!(name("\u{ffee}"), None);
        assert_eq!(
            helper(Product::MySql, "~a", &run, Fence(3), Role::Retired).as_deref(),
            Some("_rp_01234567_3_retired")
        );
        assert!(!is_helper("orders") && !is_helper("~orders"));
    }
}
