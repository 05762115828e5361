//! MongoDB: what the test server does by itself.

mod collection;
mod server_alone;
