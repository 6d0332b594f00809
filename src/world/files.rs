//! Reading files, with a bound.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Files as this product reads them: whole, small and regular.
pub trait Files: Debug + Send + Sync {
    /// The content of a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// What the system says; a FIFO, a folder or a longer file is refused.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
}

/// The machine's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        // Opening a FIFO would block for ever, so the kind is asked first.
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        // Not grown, for that would leave copies behind that nobody wipes, and it may be a secret.
        let length = usize::try_from(metadata.len()).unwrap_or(limit).min(limit);
        let mut content = Vec::with_capacity(length + 1);
        File::open(path)?
            .take(limit as u64 + 1)
            .read_to_end(&mut content)?;
        if content.len() > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("longer than {limit} bytes"),
            ));
        }
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "12345").unwrap();
        let content = SystemFiles.read(&file, 5).unwrap();
        assert_eq!(content, b"12345");
        assert_eq!(content.capacity(), 6, "grown, which leaves a copy behind");
        assert_eq!(
            SystemFiles.read(&file, 4).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert!(SystemFiles.read(folder.path(), 5).is_err());
    }
}
