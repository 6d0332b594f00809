//! A file that appears when a process is ready and says where it listens, for whoever started it
//! with port 0.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::Serialize;

/// Where a process listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    /// The main service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Health.
    pub admin_address: SocketAddr,
}

/// Removes what an earlier run may have left: the file means that this run is ready.
///
/// # Errors
/// When there is a file that cannot be removed.
pub fn clear(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the file at once: a reader sees all of it or nothing.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, addresses: &Addresses) -> io::Result<()> {
    let mut text = serde_json::to_vec(addresses)?;
    text.push(b'\n');
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Files, SystemFiles};

    #[test]
    fn the_file_names_the_addresses_and_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        clear(&path).unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        write(
            &path,
            &Addresses {
                address: Some(address),
                admin_address: address,
            },
        )
        .unwrap();
        let text = SystemFiles.read(&path, 1024).unwrap();
        assert_eq!(
            text,
            b"{\"address\":\"127.0.0.1:1\",\"adminAddress\":\"127.0.0.1:1\"}\n"
        );
        clear(&path).unwrap();
        assert!(!path.exists());
    }
}
