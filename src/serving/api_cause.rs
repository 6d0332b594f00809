//! What the API server's refusal comes down to, in one short sentence for logs and `/readyz`.

/// The cause without the wrapping of the client library.
#[must_use]
pub fn api_cause(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "the API server forbids it: {}; apply the roles of this release",
            status.message
        ),
        kube::Error::Api(status) => {
            format!(
                "the API server refuses it: {} ({})",
                status.message, status.code
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let status = Status::failure("secrets is forbidden", "Forbidden").with_code(403);
        let cause = api_cause(&kube::Error::Api(status.boxed()));
        assert!(
            cause.contains("secrets is forbidden; apply the roles"),
            "{cause}"
        );
    }
}
