//! Where the demo's database lives: a folder that goes with the process, or one that stays.

use std::path::{Path, PathBuf};

use replank_core::{Error, ErrorKind, Result};
use tempfile::TempDir;

/// The folder.
pub enum Folder {
    /// Removed at the end.
    Temporary(TempDir),
    /// The person's.
    Kept(PathBuf),
}

impl Folder {
    /// The person's folder, made if need be, or a temporary one.
    pub fn new(keep: Option<PathBuf>) -> Result<Self> {
        let unmade = |error: std::io::Error| {
            Error::new(ErrorKind::Usage, "the demo's folder cannot be made").caused_by(error)
        };
        match keep {
            None => {
                let folder = tempfile::Builder::new().prefix("replank-demo-").tempdir().map_err(unmade)?;
                Ok(Self::Temporary(folder))
            }
            Some(folder) => {
                std::fs::create_dir_all(&folder).map_err(unmade)?;
                Ok(Self::Kept(folder))
            }
        }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }

    /// Removes a temporary folder, or says where the other is.
    pub fn keep_if_asked(self, say: impl FnOnce(&Path)) -> Result<()> {
        match self {
            Self::Temporary(folder) => folder.close().map_err(|error| {
                Error::new(ErrorKind::Server, "the demo's folder cannot be removed").caused_by(error)
            }),
            Self::Kept(folder) => {
                say(&folder);
                Ok(())
            }
        }
    }
}
