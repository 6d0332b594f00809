//! What the system allows this process.

#[cfg(target_os = "linux")]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many open files as the system allows this process to take, and says how many those
/// are. The limit at the start is a low one on many systems, for the sake of programs that use
/// `select`.
#[cfg(target_os = "linux")]
#[must_use]
pub fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let granted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No number: no limit.
    granted.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

/// Elsewhere nothing is raised; this many are allowed everywhere.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn raise_open_files() -> usize {
    256
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        let files = raise_open_files();
        assert!(files > 64, "{files}");
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(raise_open_files(), files);
    }
}
