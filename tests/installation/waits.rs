//! Which bindings wanted an exchange, and when it was their turn, as the controller's log tells: the
//! order of its own doings, however late others hear of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::Result;
use chrono::{DateTime, Utc};

use super::Installation;

/// A binding that wanted an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) namespace: String,
    pub(crate) binding: String,
    /// When the controller decided that it needs one.
    pub(crate) since: DateTime<Utc>,
    /// When it was its turn; `None` while it waits.
    pub(crate) turn: Option<DateTime<Utc>>,
}

impl Installation {
    /// Where the controller's log ends at present.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn end_of_log(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.controller_log()?)?.len())
    }

    /// Who wanted an exchange, by what the controller's log says from that place on, in the order
    /// of their turns. Those that wait still come last.
    ///
    /// # Errors
    /// When there is no log.
    pub(crate) fn waits(&self, from: u64) -> Result<Vec<Wait>> {
        let mut log = File::open(self.controller_log()?)?;
        log.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes)?;
        Ok(waits(&String::from_utf8_lossy(&bytes)))
    }
}

fn waits(log: &str) -> Vec<Wait> {
    let mut waiting = BTreeMap::new();
    let mut waits = Vec::new();
    let wait = |(namespace, binding): (&str, &str), since, turn| Wait {
        namespace: namespace.to_owned(),
        binding: binding.to_owned(),
        since,
        turn,
    };
    for (time, name, said) in log.lines().filter_map(of_a_binding) {
        if said.starts_with("decided decision=Exchange") {
            // Decided once more while it waits, and when its turn comes.
            waiting.entry(name).or_insert(time);
        } else if said.starts_with("decided decision=") {
            waiting.remove(&name);
        } else if said.starts_with("exchanging ")
            && let Some(since) = waiting.remove(&name)
        {
            waits.push(wait(name, since, Some(time)));
        }
    }
    waits.extend(
        waiting
            .into_iter()
            .map(|(name, since)| wait(name, since, None)),
    );
    waits
}

/// Time, namespace and name of the binding, and message of a line of the controller's own about a
/// binding. Not of a line that is being written.
fn of_a_binding(line: &str) -> Option<(DateTime<Utc>, (&str, &str), &str)> {
    let (time, line) = line.split_once(' ')?;
    let (_, line) = line.split_once(" binding{namespace=\"")?;
    let (namespace, line) = line.split_once("\" binding=\"")?;
    let (binding, line) = line.split_once("\"}: rrsa::controller::")?;
    let (_, said) = line.split_once(": ")?;
    let time = DateTime::parse_from_rfc3339(time).ok()?;
    Some((time.into(), (namespace, binding), said))
}
