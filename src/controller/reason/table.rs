//! The table of reasons: what each one means, what to do about it, who can, and when it is tried
//! again. `docs/reasons.md` is made from it.

use super::{Class, Entry, Mender};
use crate::injection::decision;

/// The webhook warns of the same, with the same remedy.
const BEYOND_PODS: &str = decision::Reason::BindingBeyondPods.remedy();

macro_rules! reasons {
    ($($variant:ident $word:literal $class:ident $mender:ident $meaning:literal $remedy:tt)*) => {
        /// Why a binding is, or is not, as its author wants it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $(#[doc = $meaning] $variant,)*
        }

        impl Reason {
            /// All of them, in the order of the page.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The row of the table.
            #[must_use]
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        word: $word,
                        class: Class::$class,
                        mender: Mender::$mender,
                        meaning: $meaning,
                        remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

reasons! {
    CredentialsFresh "CredentialsFresh" Nothing Nobody
        "The Secret holds valid credentials of what the spec asks for."
        ""
    FallbackInUse "FallbackInUse" Nothing Administrator
        "The credentials are valid, but came through the node's RAM role (spec.fallback), because OIDC cannot work in this cluster."
        "Mend what keeps OIDC from working; it is tried again by itself and wins as soon as it works."
    RefreshFailing "RefreshFailing" Nothing Nobody
        "The credentials are valid, but the last attempt to renew them failed."
        "See the condition CredentialsIssued and status.failure for the cause."
    Expired "Expired" Nothing Nobody
        "The credentials have ended and could not be renewed. The Secret stays as it is."
        "See the condition CredentialsIssued and status.failure for the cause."
    Suspended "Suspended" Nothing Author
        "The binding asks to be left alone."
        "Set spec.suspend to false to resume."
    Deferred "Deferred" Nothing Nobody
        "A change waits because the last one was answered just now."
        "None; edits, deletions and refresh requests are answered once a minute, this one at status.nextRefreshTime."
    InvalidSpec "InvalidSpec" WaitsForUser Author
        "The schema accepts the spec, but it makes no sense here."
        "Correct the field that the message names."
    ServiceAccountNotFound "ServiceAccountNotFound" WaitsForUser Author
        "The ServiceAccount does not exist."
        "Create the ServiceAccount in the binding's namespace or correct spec.serviceAccountName."
    SecretConflict "SecretConflict" WaitsForUser Author
        "The Secret of that name is not this binding's, or another binding has the better claim to the name."
        "Choose another spec.secret.name, or delete the Secret that has the name if nobody needs it."
    TemplateFailed "TemplateFailed" WaitsForUser Author
        "A template failed, or the content became too long."
        "Correct the template of the key that the message names."
    NotDelegated "NotDelegated" WaitsForUser Administrator
        "The operator's configuration does not delegate its token to this namespace for every role of the chain."
        "Use tokenSource type ServiceAccount, or ask the cluster's administrator for a delegation entry that allows this namespace and every role of the chain."
    FallbackNotAllowed "FallbackNotAllowed" Transient Administrator
        "OIDC cannot work, the binding asks for the fallback, and may not have it."
        "Mend what the message names first; or leave out oidcProviderArn, sts and tokenSource, and ask the cluster's administrator for an ecsFallback entry that allows this namespace and every role of the binding."
    MetadataUnavailable "MetadataUnavailable" Transient Administrator
        "The fallback needs the node's RAM role, and the ECS metadata service does not give its credentials."
        "Attach a RAM role to the ECS instance on which the operator runs, and let the operator reach the metadata service; or mend what keeps OIDC from working."
    TokenFileUnreadable "TokenFileUnreadable" WaitsForUser Administrator
        "The operator's token file cannot be read."
        "The cluster's administrator must mount the projected token at the path that tokenFiles of the operator's configuration names."
    Forbidden "Forbidden" WaitsForUser Administrator
        "The API server does not let the operator do what it must."
        "The cluster's administrator must give the operator's ServiceAccount the right that the message names."
    ApiServerUnavailable "ApiServerUnavailable" Transient Nobody
        "The API server failed or did not answer."
        "None; it is tried again by itself."
    StsUnreachable "STSUnreachable" Transient Administrator
        "STS could not be reached, or failed itself."
        "Check the network path to the STS host (VPC endpoint, proxy, firewall); it is tried again by itself."
    StsAnswerInvalid "STSAnswerInvalid" WaitsForUser Administrator
        "What answered in the place of STS is not STS."
        "Check that the STS host of the operator's configuration is STS and no proxy answers in its place."
    Throttled "Throttled" Throttled Nobody
        "The account makes too many STS calls."
        "None; fewer exchanges of the account, it is tried again by itself."
    TokenExpired "TokenExpired" FreshToken Administrator
        "STS found the token to be past its life."
        "Check the clocks of the cluster; with tokenSource type File also that the token file is a projected volume that the kubelet renews."
    TokenInvalid "TokenInvalid" FreshToken Administrator
        "STS does not accept the token: it is no JWT, or not signed by the issuer's keys."
        "Check that the OIDC provider belongs to this cluster and knows its signing keys; after RRSA was enabled anew, restart the operator."
    AudienceMismatch "AudienceMismatch" WaitsForUser Administrator
        "The token's audience is not the provider's client id."
        "The token's audience must be sts.aliyuncs.com and that must be a client id of the OIDC provider: with tokenSource type File correct the projected volume's audience, else add the client id to the provider in RAM."
    IssuerMismatch "IssuerMismatch" WaitsForUser Administrator
        "The token's issuer is not the provider's: RRSA is not enabled, or the provider is another cluster's."
        "Enable RRSA for this cluster and check that the provider ARN is this cluster's (ack-rrsa-<cluster id>)."
    IssuerBroken "IssuerBroken" WaitsForUser Administrator
        "STS cannot read the issuer's keys."
        "Enable RRSA for this cluster: STS must be able to read the issuer's keys."
    FingerprintMismatch "FingerprintMismatch" WaitsForUser Ram
        "The provider's registered certificate fingerprint is out of date."
        "Update the certificate fingerprints of the OIDC provider in RAM."
    ProviderNotFound "ProviderNotFound" WaitsForUser Ram
        "RAM knows no such OIDC provider, or the text is no provider ARN."
        "Enable RRSA for this cluster and correct the provider ARN: RAM has no OIDC provider of this name."
    NotTrusted "NotTrusted" WaitsForUser Ram
        "The role's trust policy does not allow who asks for it: the ServiceAccount, or the role before it in the chain."
        "Add this statement to the trust policy of the role:"
    RoleNotFound "RoleNotFound" WaitsForUser Ram
        "RAM knows no such role."
        "Create the role in RAM or correct its ARN in the spec."
    SessionRefused "SessionRefused" WaitsForUser Author
        "STS refuses the session's name, duration, policy or external id."
        "Correct spec.session, or the step of spec.assume that the message names: the duration must not exceed the role's maximum session duration, and the policy must be legal."
    CallerRefused "CallerRefused" Transient Nobody
        "STS refuses the credentials with which a step of the chain was signed, though it had issued them itself."
        "None; it is tried again by itself, from the first step. If it stays: somebody revokes the sessions of the role before it."
    ClockSkew "ClockSkew" Transient Administrator
        "The operator's clock is too far from the time at STS to sign a step of the chain."
        "Correct the clock of the operator's node; it is tried again with the time at STS."
    NamespaceOptedIn "NamespaceOptedIn" Nothing Nobody
        "Condition `PodsInjected`, with spec.injectPods: pods of the ServiceAccount get the role from the webhook."
        ""
    NamespaceNotOptedIn "NamespaceNotOptedIn" Nothing Author
        "Condition `PodsInjected`, with spec.injectPods: the namespace did not opt in to injection."
        "Label the namespace, or the pods that are meant, with pod-identity.alibabacloud.com/injection: \"on\"."
    OptInNotSeen "OptInNotSeen" Nothing Administrator
        "Condition `PodsInjected`, with spec.injectPods: the operator works for a list of namespaces and may not read their labels."
        "Look at the label pod-identity.alibabacloud.com/injection of namespace and pods."
    OlderBinding "OlderBinding" Nothing Author
        "Condition `PodsInjected`, with spec.injectPods: an older binding for the same ServiceAccount decides."
        "Set injectPods on one binding of a ServiceAccount only."
    BindingBeyondPods "BindingBeyondPods" Nothing Author
        "Condition `PodsInjected`, with spec.injectPods: pods cannot get the binding's credentials by themselves, so the webhook gives them no role."
        BEYOND_PODS
    StsRefused "STSRefused" Slow Ram
        "STS refused with a code that this release does not know."
        "See the code and the message; the request id helps in a support ticket."
}
