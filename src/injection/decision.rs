//! Why the webhook did what it did: one table from which warnings, audit annotations and logs
//! take their words, so that a code seen anywhere can be looked up everywhere.

use std::fmt::{self, Write};

/// Defines [`Reason`] and its table together, so that neither can miss a row of the other.
macro_rules! reasons {
    ($($(#[$doc:meta])* $code:ident: $text:literal, $remedy:literal;)*) => {
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
    Injected: "the pod was injected", "";
    /// The pod has everything already.
    AlreadyInjected: "the pod has everything already", "";
    /// Not the creation of a pod.
    NotAPodCreation: "only the creation of pods is handled", "";
    /// Neither the namespace nor the pod asks for injection.
    NotOptedIn: "neither the namespace nor the pod asks for injection",
        "label the namespace or the pod with pod-identity.alibabacloud.com/injection=on";
    /// The pod carries `rrsa.io/inject: "off"`.
    OptedOut: "the pod opts out", "";
    /// A static pod's mirror may not have ServiceAccount tokens.
    MirrorPod: "a mirror pod cannot have ServiceAccount tokens", "";
    /// Nobody names a role.
    NoRole: "no role is named for this pod",
        "annotate its ServiceAccount with pod-identity.alibabacloud.com/role-name or rrsa.io/role-arn";
    /// The binding's way to its role is not open to pods.
    BindingBeyondPods: "the binding reaches its role by ways that a pod cannot go, nothing is injected",
        "remove assume and tokenSource from it";
    /// The ServiceAccount's role name is not legal.
    RoleNameIllegal: "not a RAM role name, nothing is injected",
        "write 1 to 64 letters, digits, '.', '_' or '-'; a full ARN belongs into rrsa.io/role-arn";
    /// A role ARN is not legal.
    RoleArnIllegal: "not the ARN of a RAM role, nothing is injected",
        "write acs:ram::<account id>:role/<role name>";
    /// A provider ARN is not legal.
    ProviderArnIllegal: "not the ARN of an OIDC provider, nothing is injected",
        "write acs:ram::<account id>:oidc-provider/<provider name>";
    /// The pod's ServiceAccount does not exist.
    ServiceAccountMissing: "the ServiceAccount does not exist, nothing is injected",
        "create it, then create the pod again";
    /// The request's namespace does not exist.
    NamespaceMissing: "the namespace does not exist, nothing is injected", "create it first";
    /// A mode that this release does not know.
    ModeUnsupported: "this release knows the mode \"oidc\" only, nothing is injected",
        "remove the annotation or set it to \"oidc\"";
    /// The name of our volume belongs to something else.
    VolumeNameTaken: "a volume of this name has another source, nothing is injected",
        "rename it, or project a token for sts.aliyuncs.com at the path \"token\"";
    /// The lists leave no container over.
    NoContainerChosen: "the annotations choose no container, nothing is injected",
        "correct only-containers or skip-containers if that is not meant";
    /// Lists that are no lists, containers without a name: validation will say so.
    PodMalformed: "the pod is not valid and left alone", "";

    // About a container or an annotation; the rest of the pod is served.
    /// Role, provider and token file are the author's own, and the token lies elsewhere.
    UserConfigured: "role, provider and token file are set by the pod and left alone", "";
    /// Our mount path holds something else.
    MountPathTaken: "the mount path of the token is taken by another volume, not injected",
        "free /var/run/secrets/ack.alibabacloud.com/rrsa-tokens";
    /// More than one binding gives pods of the ServiceAccount a role.
    SeveralBindings: "more than one binding has injectPods for the ServiceAccount, the oldest counts",
        "set injectPods in one of them";
    /// Another mount lies above or below ours.
    MountNested: "another mount lies above or below that of the token and may hide it",
        "check that /var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token can be read";
    /// Role, provider and token file come from two hands.
    VariablesMixed: "role, provider and token file come partly from the pod, partly from the webhook",
        "set all three, none, or pod-identity.alibabacloud.com/override-env=true";
    /// A container list names what the pod does not have.
    UnknownContainer: "no such container in the pod", "correct or remove the name";
    /// An expiration that is not legal.
    ExpirationIllegal: "not a number of seconds from 600 to 43200, 3600 is used",
        "write plain seconds such as \"7200\"";
    /// An override switch that is neither `true` nor `false`.
    OverrideIllegal: "neither \"true\" nor \"false\" and without effect", "write \"true\" or \"false\"";
    /// An injection label that is not `on`.
    InjectionIllegal: "only \"on\" has a meaning, the namespace decides",
        "write \"on\", or annotate the pod with rrsa.io/inject: \"off\" to keep it out";
    /// An opt-out that is not `off`.
    OptOutIllegal: "only \"off\" has a meaning, the value is ignored", "write \"off\" or remove it";
}

impl Reason {
    /// Whether a binding that is not known could have led to another decision.
    #[must_use]
    pub const fn misses_a_binding(self) -> bool {
        matches!(self, Self::NoRole)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

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
            assert!(length < 200, "{reason}: {length}");
        }
    }
}
