//! Load signals.

use std::path::Path;

use replank_core::throttle::Reading;

/// Bytes free on the file system of the database, as far as this process may use them.
pub fn disk_free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What the throttle may look at. SQLite has no server, so there are no threads to count and no replicas.
pub fn readings(path: &Path) -> Vec<Reading> {
    #[expect(clippy::cast_precision_loss, reason = "a disk's last kilobytes decide nothing")]
    let value = disk_free(path).map(|bytes| bytes as f64);
    vec![Reading { signal: "disk_free".to_owned(), value }]
}
