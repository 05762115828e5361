//! The one list of drivers. Adding a database adds a line here and nowhere else in this crate.

use replank_core::driver::Registry;

/// Every driver that this binary was built with.
pub fn registry() -> Registry {
    Registry::new(vec![
        replank_driver_mongo::driver(),
        replank_driver_mysql::driver(),
        replank_driver_postgres::driver(),
        replank_driver_sqlite::driver(),
    ])
}
