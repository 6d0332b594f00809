//! How the API server is asked: with a time-out, page by page, and not for ever where it is silent.

use std::time::Duration;

use kube::api::ListParams;
use kube::core::Status;
use tokio::time::timeout;

/// Objects a page.
const PAGE: u32 = 500;
/// How long one answer may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// After so many questions in a row without an answer no more are asked.
const MAX_SILENCE: usize = 3;

/// Why something could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read from the API server: {cause}")]
pub struct LookError {
    what: String,
    cause: String,
}

impl LookError {
    pub(super) fn new(what: impl Into<String>, cause: impl Into<String>) -> Self {
        let (what, cause) = (what.into(), cause.into());
        Self { what, cause }
    }
}

/// Why a question has no good answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API server says why.
    Status(Box<Status>),
    /// It says nothing, or nothing that can be read.
    Silence(String),
}

impl Failure {
    /// The code of the API server's answer.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status.code),
            Self::Silence(_) => None,
        }
    }

    /// The same as the error of whoever wanted to read that.
    pub(super) fn of(self, what: impl Into<String>) -> LookError {
        let cause = match self {
            Self::Status(status) => format!("{} ({})", status.message, status.code),
            Self::Silence(cause) => cause,
        };
        LookError::new(what, cause)
    }
}

/// Asks until nobody answers any more.
#[derive(Debug, Default)]
pub(super) struct Asker {
    /// Questions in a row that had no answer.
    silent: usize,
}

impl Asker {
    /// One answer.
    pub(super) async fn ask<T>(
        &mut self,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        if self.silent >= MAX_SILENCE {
            let cause = format!("it was not asked: {MAX_SILENCE} questions before had no answer");
            return Err(Failure::Silence(cause));
        }
        self.silent += 1;
        let answer = match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) => Err(Failure::Status(status)),
            Ok(Err(error)) => return Err(Failure::Silence(error.to_string())),
            Err(_) => {
                let cause = format!("no answer within {CALL_TIMEOUT:?}");
                return Err(Failure::Silence(cause));
            }
        };
        self.silent = 0;
        answer
    }
}

/// The way through a list.
#[derive(Debug)]
pub(super) struct Pages {
    /// What the page at hand is asked for with.
    pub(super) page: ListParams,
    /// Whether the place of this page has been told anew.
    renewed: bool,
}

impl Pages {
    /// The first page.
    pub(super) fn new() -> Self {
        Self {
            page: ListParams::default().limit(PAGE),
            renewed: false,
        }
    }

    /// Those that carry the label alone.
    pub(super) fn labelled(mut self, label: &str) -> Self {
        self.page = self.page.labels(label);
        self
    }

    /// Whether the page is to be asked for again: too much time has passed since the first one, and the
    /// server tells how to go on with what there is now.
    pub(super) fn renew(&mut self, failure: &Failure) -> bool {
        let next = match failure {
            Failure::Status(status) if status.code == 410 && !self.renewed => go_on_after(status),
            _ => None,
        };
        self.renewed = next.is_some();
        if next.is_some() {
            self.page.continue_token = next;
        }
        self.renewed
    }

    /// Turns to the next page, if there is one.
    pub(super) fn turn(&mut self, next: Option<String>) -> bool {
        self.renewed = false;
        self.page.continue_token = next.filter(|next| !next.is_empty());
        self.page.continue_token.is_some()
    }
}

fn go_on_after(status: &Status) -> Option<String> {
    let next = status.metadata.as_ref()?.continue_.clone();
    next.filter(|next| !next.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn expired(next: &str) -> Failure {
        let status = json!({"status": "Failure", "message": "too old", "reason": "Expired",
            "code": 410, "metadata": {"continue": next}});
        Failure::Status(serde_json::from_value(status).unwrap())
    }

    #[test]
    fn a_list_that_has_expired_goes_on_once_where_the_server_says() {
        let mut pages = Pages::new();
        assert!(pages.turn(Some("old".to_owned())));
        assert!(pages.renew(&expired("new")));
        assert_eq!(pages.page.continue_token.as_deref(), Some("new"));
        assert!(!pages.renew(&expired("newer")));
        assert!(pages.turn(Some("next".to_owned())));
        assert!(!pages.renew(&expired("")));
        assert!(pages.renew(&expired("again")));
        assert!(!pages.turn(Some(String::new())));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_not_asked_for_ever() {
        let mut asker = Asker::default();
        let never = || async {
            let broken = serde_json::from_str::<()>("<html>");
            broken.map_err(kube::Error::SerdeError)
        };
        for _ in 0..2 {
            assert!(asker.ask(never()).await.is_err());
        }
        assert!(asker.ask(async { Ok(()) }).await.is_ok());
        for _ in 0..3 {
            assert!(asker.ask(never()).await.is_err());
        }
        let failure = asker.ask(async { Ok(()) }).await.unwrap_err();
        let error = failure.of("the list of pods").to_string();
        assert!(error.contains("it was not asked"), "{error}");
    }
}
