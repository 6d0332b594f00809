//! What a look can find: one table of what is the case and what to do.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::injection::decision::{Reason, Warning};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// The pod asks and a role is named, but it has nothing.
    NotInjected,
    /// Some containers have what the SDKs need and others do not.
    PartlyInjected,
    /// The pod has another role than is named now.
    OlderRole,
    /// The pod has the files of another Secret than is named now.
    OlderSecret,
    /// A label or annotation whose value almost asks.
    NearMiss,
    /// A key of ours that has no effect where it stands.
    MisplacedKey,
    /// A namespace asks that is never served.
    NamespaceNeverServed,
    /// What the webhook would tell the author of this pod.
    Decision(Reason),
}

impl Problem {
    /// The problems that are not the webhook's own reasons.
    pub const OWN: [Self; 7] = [
        Self::NotInjected,
        Self::PartlyInjected,
        Self::OlderRole,
        Self::OlderSecret,
        Self::NearMiss,
        Self::MisplacedKey,
        Self::NamespaceNeverServed,
    ];

    /// The stable word for machines.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotInjected => "NotInjected",
            Self::PartlyInjected => "PartlyInjected",
            Self::OlderRole => "OlderRole",
            Self::OlderSecret => "OlderSecret",
            Self::NearMiss => "NearMiss",
            Self::MisplacedKey => "MisplacedKey",
            Self::NamespaceNeverServed => "NamespaceNeverServed",
            Self::Decision(reason) => reason.code(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

/// One problem of one object, without saying of which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What is wrong.
    pub problem: Problem,
    /// What is the case, with the names of what it is about.
    pub cause: String,
    /// What to do; `None`: create the pod again.
    pub remedy: Option<String>,
}

impl Note {
    /// A note.
    #[must_use]
    pub fn new(problem: Problem, cause: String, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self {
            problem,
            cause,
            remedy,
        }
    }

    /// A note about a pod that need only be created again.
    #[must_use]
    pub const fn create_again(problem: Problem, cause: String) -> Self {
        Self {
            problem,
            cause,
            remedy: None,
        }
    }
}

impl From<&Warning> for Note {
    fn from(warning: &Warning) -> Self {
        let Warning { reason, about } = warning;
        let cause = format!("{about}: {}", reason.text());
        Self::new(Problem::Decision(*reason), cause, reason.remedy())
    }
}

/// One problem of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// Kind of the object: `Pod` or `Namespace`.
    pub kind: &'static str,
    /// Its namespace; of a namespace, its name.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    #[serde(skip)]
    pub uid: String,
    /// What is the case.
    pub cause: String,
    /// What to do.
    pub remedy: String,
}
