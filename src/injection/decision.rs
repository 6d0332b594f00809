//! Why the webhook did what it did: one table from which warnings, audit annotations, metrics,
//! logs and the page of documentation take their words, so that a code seen anywhere can be looked
//! up everywhere.

use std::fmt::{self, Write};

/// Who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody: it is as it should be.
    Outcome,
    /// Whoever wrote an annotation or label: it is not legal, or asks for what cannot be given.
    /// Strict mode refuses such a pod.
    Annotation,
    /// Whoever wrote the rest of the pod.
    Pod,
    /// Whoever looks after the namespace.
    Namespace,
}

/// Defines [`Reason`] and its table together, so that neither can miss a row of the other.
macro_rules! reasons {
    ($($(#[$doc:meta])* $code:ident ($kind:ident): $text:literal, $remedy:literal;)*) => {
        /// Why a pod was or was not injected, or what is odd about it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $code,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// The stable word for machines.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$code => stringify!($code),)* }
            }

            /// Who can mend it.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$code => Kind::$kind,)* }
            }

            /// What is the case.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// What its author can do; empty where there is nothing to mend.
            #[must_use]
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$code => $remedy,)* }
            }
        }
    };
}

reasons! {
    // Decisions about a whole pod.
    /// The pod was patched.
    Injected(Outcome): "the pod was injected", "";
    /// The pod has everything already.
    AlreadyInjected(Outcome): "the pod has everything already", "";
    /// Neither a new pod nor new ephemeral containers.
    NotHandled(Outcome): "only new pods and new ephemeral containers are handled", "";
    /// Neither the namespace nor the pod asks for injection.
    NotOptedIn(Outcome): "neither the namespace nor the pod asks for injection",
        "label the namespace or the pod with pod-identity.alibabacloud.com/injection=on";
    /// The pod carries `rrsa.io/inject: "off"`.
    OptedOut(Outcome): "the pod opts out", "";
    /// A static pod's mirror may not have ServiceAccount tokens.
    MirrorPod(Outcome): "a mirror pod cannot have ServiceAccount tokens", "";
    /// Strict mode refuses the pod for its warnings.
    Denied(Annotation): "strict mode refuses pods whose annotations are wrong", "correct what the message names";
    /// Nobody names a role.
    NoRole(Namespace): "no role is named for this pod",
        "annotate its ServiceAccount with pod-identity.alibabacloud.com/role-name or rrsa.io/role-arn";
    /// The ServiceAccount's role name is not legal.
    RoleNameIllegal(Annotation): "not a RAM role name, nothing is injected",
        "write 1 to 64 letters, digits, '.', '_' or '-'; a full ARN belongs into rrsa.io/role-arn";
    /// A role ARN is not legal.
    RoleArnIllegal(Annotation): "not the ARN of a RAM role, nothing is injected",
        "write acs:ram::<account id>:role/<role name>";
    /// A provider ARN is not legal.
    ProviderArnIllegal(Namespace): "not the ARN of an OIDC provider, nothing is injected",
        "write acs:ram::<account id>:oidc-provider/<provider name>";
    /// A pod cannot get the binding's credentials by itself.
    BindingBeyondPods(Namespace): "a pod cannot get the binding's credentials by itself, nothing is injected",
        "annotate the pod with rrsa.io/mode: secret, or remove assume, session.policy and tokenSource from the binding";
    /// The pod's ServiceAccount does not exist.
    ServiceAccountMissing(Namespace): "the ServiceAccount does not exist, nothing is injected",
        "create it, then create the pod again";
    /// The request's namespace does not exist.
    NamespaceMissing(Namespace): "the namespace does not exist, nothing is injected", "create it first";
    /// A mode that there is not.
    ModeIllegal(Annotation): "not a mode, nothing is injected",
        "write \"oidc\" or \"secret\", or remove it";
    /// Mode `secret` without a binding.
    BindingMissing(Annotation): "there is no such binding for mode secret, nothing is injected",
        "create it, name another with rrsa.io/binding, or choose another mode";
    /// Mode `secret` with more than one binding and none named.
    BindingAmbiguous(Annotation): "mode secret finds more than one binding of the ServiceAccount, nothing is injected",
        "name one with rrsa.io/binding";
    /// Mode `secret` with a Secret that no SDK reads as a file.
    SecretWithoutFiles(Annotation): "mode secret finds neither credentials.ini nor config.json in the binding's Secret, nothing is injected",
        "add ini or cli to secret.formats of the binding";
    /// Mode `agent` without an agent.
    AgentAbsent(Annotation): "there is no agent for mode agent, nothing is injected",
        "choose mode oidc or secret: this release has no agent";
    /// The name of our volume belongs to something else.
    VolumeNameTaken(Pod): "a volume of this name has another source, nothing is injected",
        "rename it";
    /// The lists leave no container over.
    NoContainerChosen(Annotation): "the annotations choose no container, nothing is injected",
        "correct only-containers or skip-containers if that is not meant";
    /// Ephemeral containers of a pod without our volume, or with that of an earlier Secret.
    EphemeralWithoutVolume(Pod): "the pod was created without the volume that the container would need, not injected",
        "create the pod again, then debug it";
    /// Lists that are no lists, containers without a name: validation will say so.
    PodMalformed(Outcome): "the pod is not valid, or has over 1,000 containers of a kind, and is left alone", "";

    // About a container or an annotation; the rest of the pod is served.
    /// The whole identity is the author's own, and its files lie elsewhere.
    UserConfigured(Outcome): "the identity is set by the pod and left alone", "";
    /// Our mount path holds something else.
    MountPathTaken(Pod): "the mount path of the credentials is taken by something else, not injected",
        "free it: /var/run/secrets/ack.alibabacloud.com/rrsa-tokens, in mode secret /var/run/secrets/rrsa.io/credentials";
    /// More than one binding gives pods of the ServiceAccount a role.
    SeveralBindings(Namespace): "more than one binding has injectPods for the ServiceAccount, the oldest counts",
        "set injectPods in one of them";
    /// Another mount lies above or below ours.
    MountNested(Pod): "another mount lies above or below that of the credentials and may hide it",
        "check that the container can read the files, or move the other mount";
    /// The same variables again and again, where ours are to win: the API server takes the longer to
    /// apply a patch the more it removes.
    VariablesRepeated(Pod): "override-env would remove the same variables more than 64 times, not injected",
        "set each variable once";
    /// The variables of the identity come from two hands.
    VariablesMixed(Pod): "the variables of the identity come partly from the pod, partly from the webhook",
        "set all of them, none, or pod-identity.alibabacloud.com/override-env=true";
    /// The pod keeps a source of credentials open that comes before that of its mode.
    MetadataEnabled(Pod): "ALIBABA_CLOUD_ECS_METADATA_DISABLED of the pod lets the node's role win over the injected identity",
        "remove the variable or set it to \"true\"";
    /// The pod keeps an OIDC role that comes before its mode.
    OidcEnabled(Pod): "role, provider and token file of OIDC, set by the pod, win over the injected identity",
        "remove them, or choose mode oidc";
    /// Static keys from one of our Secrets.
    StaticKeys(Pod): "envFrom takes keys that win over any injected identity and end without being renewed",
        "remove it, or annotate the pod with rrsa.io/inject: \"off\"";
    /// The list of the only containers names what the pod does not have.
    UnknownContainer(Annotation): "no such container in the pod", "correct or remove the name";
    /// The list of containers that are left out names what the pod does not have, or not yet.
    UnknownSkipped(Pod): "no such container in the pod yet",
        "correct or remove the name, unless another webhook adds that container";
    /// An annotation that the pod's mode does not read.
    AnnotationUnread(Annotation): "the mode does not read this annotation, it is without effect",
        "remove it, or name the mode in rrsa.io/mode: rrsa.io/binding is for secret, rrsa.io/role-arn for oidc";
    /// An expiration that is not legal.
    ExpirationIllegal(Annotation): "not a number of seconds from 600 to 43200, 3600 is used",
        "write plain seconds such as \"7200\"";
    /// An override switch that is neither `true` nor `false`.
    OverrideIllegal(Annotation): "neither \"true\" nor \"false\" and without effect", "write \"true\" or \"false\"";
    /// An injection label that is not `on`.
    InjectionIllegal(Annotation): "only \"on\" has a meaning, the namespace decides",
        "write \"on\", or annotate the pod with rrsa.io/inject: \"off\" to keep it out";
    /// An opt-out that is not `off`.
    OptOutIllegal(Annotation): "only \"off\" has a meaning, the value is ignored", "write \"off\" or remove it";
    /// A fallback that there is not.
    FallbackIllegal(Annotation): "not a fallback, the value is ignored", "write \"ecs-metadata\" or remove it";
    /// A fallback that the administrator does not allow.
    FallbackNotAllowed(Annotation): "the fallback is not allowed in this namespace and left out",
        "remove it, or ask the administrator for an entry in webhook.ecsFallback";
    /// A fallback in a mode that has none.
    FallbackWithoutOidc(Annotation): "only mode oidc has a fallback, it is left out", "remove it";
}

impl Reason {
    /// Whether a binding that is not known could have led to another decision.
    #[must_use]
    pub const fn misses_a_binding(self) -> bool {
        matches!(self, Self::NoRole | Self::BindingMissing)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The page of documentation that lists every reason.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for reason in Reason::ALL {
        let (who, strict) = match reason.kind() {
            Kind::Outcome => ("", ""),
            Kind::Annotation => ("the annotation's author", "refused"),
            Kind::Pod => ("the pod's author", "warned"),
            Kind::Namespace => ("the namespace's keeper", "warned"),
        };
        let (code, text, remedy) = (reason.code(), reason.text(), reason.remedy());
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{code}` | {text} | {remedy} | {who} | {strict} |");
    }
    page
}

const PAGE_HEAD: &str = "\
# Decisions of the webhook

Written by `make generate` from `src/injection/decision.rs`; change it there.

Each review ends with one of these words as its decision; the others say what is odd about a pod that was served all the
same. They stand in the warnings that `kubectl` prints (in brackets at the end), in the audit annotations `decision` and
`warnings` of the API server, in the metric `rrsa_webhook_reviews_total` and in the log. A warning names annotation and
value or the containers, never the value of a variable.

With `webhook.strict: true` a pod with a word of the kind *refused* is not created; the message names each with its
remedy. Without it, and for all other words, the pod is always let in.

| word | what is the case | what to do | who | strict mode |
|---|---|---|---|---|
";

/// Something that the author of a pod can mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// What is the case.
    pub reason: Reason,
    /// The thing it is about: annotation and value, or containers. Never a variable's value.
    pub about: String,
}

impl Warning {
    /// About an annotation or label and its value.
    #[must_use]
    pub fn value(reason: Reason, key: &str, value: &str, of: Holder) -> Self {
        let about = format!("{key} {} of the {}", quoted(value), of.word());
        Self { reason, about }
    }

    /// About some named things, such as containers; long lists are cut.
    #[must_use]
    pub fn names<'a>(
        reason: Reason,
        kind: &str,
        names: impl ExactSizeIterator<Item = &'a str>,
    ) -> Self {
        const SHOWN: usize = 3;
        let more = names.len().saturating_sub(SHOWN);
        let mut about = kind.to_owned();
        for (index, name) in names.take(SHOWN).enumerate() {
            about.push_str(if index == 0 { " " } else { ", " });
            about.push_str(&quoted(name));
        }
        if more > 0 {
            // Writing to a String cannot fail.
            let _ = write!(about, " and {more} more");
        }
        Self { reason, about }
    }

    /// The sentence for the author.
    #[must_use]
    pub fn sentence(&self) -> String {
        let (code, text, remedy) = (self.reason.code(), self.reason.text(), self.reason.remedy());
        format!("rrsa: {}: {text}; {remedy} [{code}]", self.about)
    }
}

/// What carries an annotation or label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The pod.
    Pod,
    /// Its ServiceAccount.
    ServiceAccount,
    /// Its namespace.
    Namespace,
    /// A binding.
    Binding,
}

impl Holder {
    const fn word(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::ServiceAccount => "ServiceAccount",
            Self::Namespace => "namespace",
            Self::Binding => "binding",
        }
    }
}

/// The text in quotes, in ASCII, cut: it becomes part of an HTTP header.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 64;
    let cut: String = text.chars().take(SHOWN).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("\"{}{dots}\"", cut.escape_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_value_text_remedy_and_code() {
        let warning = Warning::value(Reason::ExpirationIllegal, "life", "1h\n", Holder::Pod);
        assert_eq!(
            warning.sentence(),
            "rrsa: life \"1h\\n\" of the pod: not a number of seconds from 600 to 43200, 3600 is \
             used; write plain seconds such as \"7200\" [ExpirationIllegal]"
        );
    }

    #[test]
    fn long_values_and_lists_are_cut() {
        let long = Warning::value(
            Reason::ExpirationIllegal,
            "life",
            &"9".repeat(9999),
            Holder::Pod,
        );
        assert!(long.about.len() < 120);
        let names = ["a", "b", "c", "d", "é"];
        let many = Warning::names(Reason::UnknownContainer, "containers", names.into_iter());
        assert_eq!(many.about, r#"containers "a", "b", "c" and 2 more"#);
    }

    #[test]
    fn every_warning_fits_the_api_servers_limit() {
        for reason in Reason::ALL {
            let length = reason.text().len() + reason.remedy().len();
            assert!(length < 240, "{reason}: {length}");
        }
    }

    #[test]
    fn what_can_be_mended_has_a_remedy_and_every_word_stands_on_the_page() {
        let page = page();
        for reason in Reason::ALL {
            assert!(page.contains(&format!("\n| `{reason}` |")));
            assert!(reason.kind() == Kind::Outcome || !reason.remedy().is_empty());
        }
    }
}
