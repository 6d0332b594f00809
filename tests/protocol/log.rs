//! The process's log at TRACE, kept in memory.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tracing::Level;

static LINES: Mutex<String> = Mutex::new(String::new());
static START: Once = Once::new();

fn lines() -> MutexGuard<'static, String> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Memory;

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lines().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts keeping the log; records of the `log` facade come in, too.
pub(crate) fn start() {
    START.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Memory)
            .init();
    });
}

/// Puts a text to the log that its reader would see elsewhere.
pub(crate) fn add(text: &str) {
    lines().push_str(text);
}

/// Where in the log this secret is, if it is.
pub(crate) fn find(secret: &str) -> Option<String> {
    let lines = lines();
    let start = lines.find(secret)?;
    let line = lines[..start].rfind('\n').map_or(0, |end| end + 1);
    Some(lines[line..start].to_owned())
}

#[test]
fn the_log_of_this_crate_and_of_others_is_seen() {
    start();
    tracing::trace!("a-line-of-tracing");
    assert!(find("a-line-of-tracing").is_some());
}

#[tokio::test]
async fn what_http_and_tls_write_is_seen() {
    use rrsa::credentials::Provider as _;
    let house = crate::house::House::start();
    house.oidc().credentials().await.unwrap();
    for part in ["rustls", "reqwest"] {
        assert!(find(part).is_some(), "nothing of {part} in the log");
    }
}
