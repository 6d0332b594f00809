//! Which change of a status is announced, and in which words. Pure.

use super::plan::Failing;
use super::reason::Reason;
use super::status::condition;
use crate::api::v1alpha1::AlibabaRoleBindingStatus;

/// An Event that a change of status deserves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Whether it is a warning.
    pub warning: bool,
    /// Reason of the Event.
    pub reason: &'static str,
    /// Note of the Event.
    pub note: String,
}

/// Longest note of an Event that the API server takes, in bytes.
const MAX_NOTE: usize = 1024;

/// What to announce: transitions only, never a retry or a refresh in time.
#[must_use]
pub fn announcement(
    before: Option<&AlibabaRoleBindingStatus>,
    after: &AlibabaRoleBindingStatus,
    failing: Option<&Failing>,
) -> Option<Announcement> {
    let ready = |status: &AlibabaRoleBindingStatus| {
        let ready = status
            .conditions
            .iter()
            .find(|c| c.type_ == condition::READY)?;
        Some((
            ready.status.clone(),
            ready.reason.clone(),
            ready.message.clone(),
        ))
    };
    let (_, reason, message) = ready(after)?;
    let reason_before = before.and_then(ready).map(|(_, reason, _)| reason);
    let code = |status: &AlibabaRoleBindingStatus| {
        status.failure.as_ref().map(|failure| failure.code.clone())
    };
    let unchanged =
        reason_before.as_deref() == Some(reason.as_str()) && before.and_then(code) == code(after);
    if unchanged {
        return None;
    }
    let (warning, reason) = match failing {
        Some(_) if reason == Reason::Expired.as_str() => (true, Reason::Expired.as_str()),
        Some(failing) => (true, failing.problem.reason.as_str()),
        None if reason == Reason::CredentialsFresh.as_str() => (false, "CredentialsIssued"),
        None if reason == Reason::FallbackInUse.as_str() => (true, Reason::FallbackInUse.as_str()),
        None if reason == Reason::Suspended.as_str() => (false, Reason::Suspended.as_str()),
        None if reason == Reason::Deferred.as_str() => (false, Reason::Deferred.as_str()),
        None => return None,
    };
    let remedy = failing.map(|failing| failing.problem.remedy.as_str());
    Some(Announcement {
        warning,
        reason,
        note: note(&message, remedy.unwrap_or_default()),
    })
}

/// The message, cut to what an Event takes. A remedy at its end may be a statement to paste, so it
/// stays whole or goes whole.
fn note(message: &str, remedy: &str) -> String {
    if message.len() <= MAX_NOTE {
        return message.to_owned();
    }
    let whole = format!("… Remedy: {remedy}");
    let tail = if !remedy.is_empty() && message.ends_with(remedy) && whole.len() < MAX_NOTE {
        whole
    } else {
        "… The whole text is in the binding's status.".to_owned()
    };
    let head = message.strip_suffix(&tail["…".len()..]).unwrap_or(message);
    let end = head.floor_char_boundary((MAX_NOTE - tail.len()).min(head.len()));
    format!("{}{tail}", &head[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::status::tests::{composed, failing};

    #[test]
    fn transitions_are_announced_once() {
        let fresh = composed(1, None, true, None);
        assert_eq!(
            announcement(None, &fresh, None).unwrap().reason,
            "CredentialsIssued"
        );
        let refreshed = composed(35, Some(&fresh), true, None);
        assert_eq!(announcement(Some(&fresh), &refreshed, None), None);
        let refused = failing(Reason::NotTrusted);
        let failed = composed(40, Some(&fresh), true, Some(&refused));
        let told = announcement(Some(&fresh), &failed, Some(&refused)).unwrap();
        assert!(told.warning && told.reason == "NotTrusted");
        let again = composed(45, Some(&failed), true, Some(&refused));
        assert_eq!(announcement(Some(&failed), &again, Some(&refused)), None);
        let ended = composed(61, Some(&again), true, Some(&refused));
        assert_eq!(
            announcement(Some(&again), &ended, Some(&refused))
                .unwrap()
                .reason,
            "Expired"
        );
    }

    #[test]
    fn a_note_keeps_its_statement_whole_or_leaves_it_out() {
        let statement = format!("Add this: {{\"s\":\"{}\"}}", "s".repeat(500));
        let message = format!("{} Remedy: {statement}", "ü".repeat(400));
        let kept = note(&message, &statement);
        assert!(kept.len() <= MAX_NOTE, "{}", kept.len());
        assert!(kept.starts_with("üü") && kept.ends_with(&format!("… Remedy: {statement}")));

        let longer = "s".repeat(1100);
        let left_out = note(&format!("It failed. Remedy: {longer}"), &longer);
        assert!(left_out.len() <= MAX_NOTE, "{}", left_out.len());
        assert!(
            left_out.starts_with("It failed.") && left_out.ends_with("in the binding's status.")
        );
        assert_eq!(note("short", ""), "short");
    }
}
