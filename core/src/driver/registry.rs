//! Finds the driver of a URL among those that a binary was built with.

use std::sync::Arc;

use super::Driver;
use crate::{Error, ErrorKind, Result};

/// The drivers of a binary. A value that is passed on: there is no global list.
#[derive(Clone, Default)]
pub struct Registry {
    drivers: Vec<Arc<dyn Driver>>,
}

impl Registry {
    /// A registry of these drivers.
    #[must_use]
    pub fn new(drivers: Vec<Arc<dyn Driver>>) -> Self {
        Self { drivers }
    }

    /// All of them, in the order given.
    #[must_use]
    pub fn drivers(&self) -> &[Arc<dyn Driver>] {
        &self.drivers
    }

    /// The driver whose scheme the URL starts with.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`], with the known schemes.
    pub fn find(&self, url: &str) -> Result<Arc<dyn Driver>> {
        let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme
            .as_deref()
            .and_then(|scheme| self.drivers.iter().find(|driver| driver.schemes().contains(&scheme)))
            .cloned()
            .ok_or_else(|| {
                let known: Vec<String> = self
                    .drivers
                    .iter()
                    .flat_map(|driver| driver.schemes())
                    .map(|scheme| format!("{scheme}:"))
                    .collect();
                // The URL itself may hold a password, so only its scheme is repeated.
                let shown = scheme.unwrap_or_else(|| "no scheme".to_owned());
                Error::new(ErrorKind::Usage, format!("no driver takes `{shown}`"))
                    .hint(format!("a target is a URL that starts with one of {}", known.join(", ")))
            })
    }
}
