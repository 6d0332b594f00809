//! Labels and annotations, ours and the official webhook's.

/// Keys of ack-pod-identity-webhook, with its meaning.
pub mod official {
    /// Namespace or pod label; exactly `on` opts in.
    pub const INJECTION: &str = "pod-identity.alibabacloud.com/injection";
    /// The one value of [`INJECTION`] that opts in.
    pub const INJECTION_ON: &str = "on";
    /// Namespace label or pod annotation; `true`: an injected variable wins over the pod's own.
    pub const OVERRIDE_ENV: &str = "pod-identity.alibabacloud.com/override-env";
    /// ServiceAccount annotation: name of the RAM role in the cluster's account.
    pub const ROLE_NAME: &str = "pod-identity.alibabacloud.com/role-name";
    /// Pod or ServiceAccount annotation: life of the token in seconds.
    pub const TOKEN_EXPIRATION: &str =
        "pod-identity.alibabacloud.com/service-account-token-expiration";
    /// ServiceAccount annotation; `on`: inject the STS endpoint variable.
    pub const INJECT_STS_ENDPOINT: &str = "pod-identity.alibabacloud.com/inject-sts-endpoint";
    /// Pod annotation: comma list of the only containers to inject.
    pub const ONLY_CONTAINERS: &str = "pod-identity.alibabacloud.com/only-containers";
    /// Pod annotation: comma list of containers never to inject.
    pub const SKIP_CONTAINERS: &str = "pod-identity.alibabacloud.com/skip-containers";
}

/// Pod or ServiceAccount annotation: full ARN of the role, also of another account.
pub const ROLE_ARN: &str = "rrsa.io/role-arn";
/// Pod annotation; `off`: never inject this pod.
pub const INJECT: &str = "rrsa.io/inject";
/// The one value of [`INJECT`] that opts out.
pub const INJECT_OFF: &str = "off";

/// Pod or ServiceAccount annotation: how the pod gets its credentials.
pub const MODE: &str = "rrsa.io/mode";
/// The value of [`MODE`] that stands where nobody says otherwise: the official webhook's way.
pub const MODE_OIDC: &str = "oidc";
/// The value of [`MODE`] for a Secret of a binding, mounted as files.
pub const MODE_SECRET: &str = "secret";
/// The value of [`MODE`] for the agent of the node.
pub const MODE_AGENT: &str = "agent";
/// Pod or ServiceAccount annotation, mode `secret`: the binding whose Secret is mounted. On a
/// Secret: the binding that it belongs to.
pub const BINDING: &str = "rrsa.io/binding";
/// Pod or ServiceAccount annotation: what a pod may fall back on where its token is of no use.
pub const FALLBACK: &str = "rrsa.io/fallback";
/// The one value of [`FALLBACK`]: the node's role, by the ECS metadata.
pub const FALLBACK_ECS_METADATA: &str = "ecs-metadata";
/// On a pod in mode `agent`: the role that the webhook resolved.
pub const INJECTED_ROLE_ARN: &str = "rrsa.io/injected-role-arn";

/// On the Secret of the webhook's certificate authorities: any new value asks for a rotation now.
pub const ROTATION_REQUESTED_AT: &str = "rrsa.io/rotation-requested-at";

/// On a binding: any new value asks for a refresh now.
pub const REFRESH_REQUESTED_AT: &str = "rrsa.io/refresh-requested-at";

/// Label on what `rrsa conformance` makes, by which leftovers are found.
pub const CONFORMANCE: &str = "rrsa.io/conformance";

/// What the controller keeps on its Secrets, so that a restart needs no STS call.
pub mod secret {
    /// Name of the binding that the Secret belongs to.
    pub const BINDING: &str = super::BINDING;
    /// UID of that binding.
    pub const BINDING_UID: &str = "rrsa.io/binding-uid";
    /// When the credentials were issued (RFC 3339, UTC).
    pub const ISSUED_AT: &str = "rrsa.io/issued-at";
    /// When the credentials end (RFC 3339, UTC).
    pub const EXPIRATION: &str = "rrsa.io/expiration";
    /// SHA-256 of everything the credentials and the content were made from.
    pub const INPUTS_HASH: &str = "rrsa.io/inputs-hash";
    /// SHA-256 of the keys and values as written, by which a foreign edit is confirmed.
    pub const DATA_HASH: &str = "rrsa.io/data-hash";
    /// Why the node's role stood in for a token: the reason of the exchange that failed. Absent where
    /// the credentials came by OIDC.
    pub const FALLBACK: &str = "rrsa.io/fallback-because";
    /// The value of [`super::REFRESH_REQUESTED_AT`] that this refresh answered.
    pub const REFRESH_ANSWERED: &str = "rrsa.io/refresh-answered";
}
