//! The ways in which a pod gets its credentials, as one table: which variables make up an
//! identity, which of them lead into the mount, and what is mounted.

use super::variables::Variable;
use crate::contract::annotations::{MODE_AGENT, MODE_OIDC, MODE_SECRET};
use crate::contract::{CREDENTIALS_MOUNT_PATH, CREDENTIALS_VOLUME, token_volume};

/// How a pod gets its credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It swaps its token itself, as with the official webhook.
    Oidc,
    /// It reads the files of a binding's Secret.
    Secret,
    /// It asks the agent of its node, who swaps the pod's token.
    Agent,
}

/// The one row of a mode.
#[derive(Debug)]
struct Row {
    word: &'static str,
    identity: &'static [Variable],
    leads: &'static [Variable],
    mount: Mount,
}

/// What is mounted, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    /// Name of the volume.
    pub volume: &'static str,
    /// Where it lies in a container.
    pub path: &'static str,
}

/// The token of the pod's ServiceAccount for STS.
pub const TOKEN: Mount = Mount {
    volume: token_volume::NAME,
    path: token_volume::MOUNT_PATH,
};

/// The Secret of a binding.
pub const CREDENTIALS: Mount = Mount {
    volume: CREDENTIALS_VOLUME,
    path: CREDENTIALS_MOUNT_PATH,
};

impl Mode {
    /// All modes; the first counts where nobody says otherwise.
    pub const ALL: [Self; 3] = [Self::Oidc, Self::Secret, Self::Agent];

    const fn row(self) -> Row {
        match self {
            Self::Oidc => Row {
                word: MODE_OIDC,
                identity: &[
                    Variable::RoleArn,
                    Variable::OidcProviderArn,
                    Variable::OidcTokenFile,
                ],
                leads: &[Variable::OidcTokenFile],
                mount: TOKEN,
            },
            Self::Secret => Row {
                word: MODE_SECRET,
                identity: &[Variable::CredentialsFile, Variable::ConfigFile],
                leads: &[Variable::CredentialsFile, Variable::ConfigFile],
                mount: CREDENTIALS,
            },
            Self::Agent => Row {
                word: MODE_AGENT,
                identity: &[Variable::HostIp, Variable::PodUid, Variable::CredentialsUri],
                leads: &[Variable::CredentialsUri],
                mount: TOKEN,
            },
        }
    }

    /// The mode's word in annotations.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.row().word
    }

    /// The mode of exactly that word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }

    /// Whether the variable is one of those that only work together.
    #[must_use]
    pub fn is_identity(self, variable: Variable) -> bool {
        self.row().identity.contains(&variable)
    }

    /// Whether the variable's value leads into the mount, or to someone who reads it.
    #[must_use]
    pub fn leads_to_mount(self, variable: Variable) -> bool {
        self.row().leads.contains(&variable)
    }

    /// What is mounted.
    #[must_use]
    pub const fn mount(self) -> Mount {
        self.row().mount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_exact_and_every_lead_is_part_of_the_identity() {
        for mode in Mode::ALL {
            assert_eq!(Mode::named(mode.word()), Some(mode));
            assert!(Mode::named(&mode.word().to_uppercase()).is_none());
            for variable in Variable::ALL {
                assert!(!mode.leads_to_mount(*variable) || mode.is_identity(*variable));
            }
        }
    }
}
