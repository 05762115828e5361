//! MongoDB: what the test server does by itself.

mod collection;
mod conformance;
mod server_alone;
