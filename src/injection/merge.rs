//! A container's own variables beside ours: who wins, and whether what comes out is of one piece.
//! Pure.

use super::mode::Mode;
use super::patch::{Assignment, Operation, Place};
use super::pod::{self, Container, Own};
use super::resolve::Injection;
use super::variables::{Value, Variable};

/// How many settings that are in the way are removed from one container. The API server copies the
/// whole list for each (it applied 3,000 in 2.4 s), and nobody has a use for as many.
const MAX_REMOVED: usize = 64;

/// A container's own variables beside ours.
pub(super) struct Merge<'a> {
    injection: &'a Injection<'a>,
    own: &'a [pod::Setting<'a>],
}

impl<'a> Merge<'a> {
    pub(super) fn new(container: &'a Container<'a>, injection: &'a Injection<'_>) -> Self {
        let own = container
            .env
            .value()
            .map_or(&[][..], |environment| &environment.0);
        Self { injection, own }
    }

    fn settings_of(
        &self,
        variable: Variable,
    ) -> impl DoubleEndedIterator<Item = &'a pod::Setting<'a>> {
        self.own
            .iter()
            .filter(move |setting| setting.variable == variable)
    }

    /// The setting that takes effect: the last one of a name.
    fn effective(&self, variable: Variable) -> Option<&'a Own<'a>> {
        self.settings_of(variable)
            .next_back()
            .map(|setting| &setting.value)
    }

    /// What the author's setting makes of ours.
    fn kept(&self, variable: Variable) -> Option<&'a Own<'a>> {
        self.effective(variable)
            .filter(|_| !self.injection.override_env)
    }

    fn identity(&self) -> impl Iterator<Item = Assignment<'a>> {
        let mode = self.injection.mode;
        assignments(self.injection).filter(move |(variable, _)| mode.is_identity(*variable))
    }

    /// Whether the author set up an identity that lies elsewhere: in mode `oidc` the whole of it, in
    /// the others whatever leads to it.
    pub(super) fn all_foreign(&self) -> bool {
        let whole = || {
            let mut identity = self.identity();
            identity.all(|(variable, _)| self.kept(variable).is_some())
        };
        !self.wants_mount() && (self.injection.mode != Mode::Oidc || whole())
    }

    /// Whether something that takes effect leads into our mount.
    pub(super) fn wants_mount(&self) -> bool {
        let (mode, path) = (self.injection.mode, self.injection.mode.mount().path);
        self.identity()
            .filter(|(variable, _)| mode.leads_to_mount(*variable))
            .any(|(variable, ours)| match self.kept(variable) {
                None => true,
                Some(Own::Text(own)) if mode != Mode::Agent => {
                    pod::Place::of(own, path) == pod::Place::Below
                }
                Some(own) => own == ours,
            })
    }

    /// Whether the URI stands before what it is made of: the kubelet fills in only what it has
    /// seen by then.
    fn out_of_order(&self) -> bool {
        let place = |variable| {
            let mut settings = self.settings_of(variable);
            let setting = if self.injection.override_env {
                settings.next()
            } else {
                settings.next_back()
            };
            setting.map(|setting| setting.index)
        };
        let Some(uri) = place(Variable::CredentialsUri) else {
            return false;
        };
        let before = [Variable::HostIp, Variable::PodUid];
        self.injection.mode == Mode::Agent
            && before
                .into_iter()
                .any(|part| place(part).is_none_or(|at| at > uri))
    }

    /// Whether the identity comes from two hands that do not agree.
    pub(super) fn mixed(&self) -> bool {
        if !self.injection.override_env && self.out_of_order() {
            return true;
        }
        let ours_is_missing = |(variable, _)| self.kept(variable).is_none();
        let differs =
            |(variable, ours): Assignment<'a>| self.kept(variable).is_some_and(|own| own != ours);
        self.identity().any(ours_is_missing) && self.identity().any(differs)
    }

    /// Whether more settings would have to be removed than are.
    pub(super) fn repeated(&self) -> bool {
        self.injection.override_env && {
            let variables = self.injection.variables.len();
            let ours = |setting: &&pod::Setting<'_>| {
                assignments(self.injection).any(|(variable, _)| variable == setting.variable)
            };
            self.own.iter().filter(ours).count() > MAX_REMOVED + variables
        }
    }

    /// Whether the author keeps the ECS metadata open in a mode that it would take precedence of.
    pub(super) fn metadata_enabled(&self) -> bool {
        let (variable, closed) = (Variable::EcsMetadataDisabled, Value::from("true"));
        self.injection.mode != Mode::Oidc && self.kept(variable).is_some_and(|own| *own != closed)
    }

    /// Whether the author keeps an OIDC role in a mode that it would take precedence of: every official chain
    /// asks for it before files and URIs, and what it names is not ours to change here.
    pub(super) fn oidc_enabled(&self) -> bool {
        let trio = [
            Variable::RoleArn,
            Variable::OidcProviderArn,
            Variable::OidcTokenFile,
        ];
        let is_set = |variable| {
            let own = self.effective(variable);
            own.is_some_and(|own| *own != Own::Text("".into()))
        };
        self.injection.mode != Mode::Oidc && trio.into_iter().all(is_set)
    }

    pub(super) fn operations(
        &self,
        container: &Container<'_>,
        at: Place,
        into: &mut Vec<Operation<'a>>,
    ) {
        if container.env.is_missing() {
            into.push(Operation::CreateEnv(
                at,
                assignments(self.injection).collect(),
            ));
            return;
        }
        let mut superfluous = Vec::new();
        let mut missing = Vec::with_capacity(self.injection.variables.len());
        let rewrite = self.injection.override_env && self.out_of_order();
        for assignment in assignments(self.injection) {
            let (variable, value) = assignment;
            let mut settings = self.settings_of(variable);
            if rewrite && self.injection.mode.is_identity(variable) {
                superfluous.extend(settings.map(|setting| setting.index));
                missing.push(Operation::AppendEnv(at, assignment));
                continue;
            }
            match settings.next() {
                None => missing.push(Operation::AppendEnv(at, assignment)),
                Some(_) if !self.injection.override_env => {}
                Some(first) => {
                    if first.value != *value {
                        into.push(Operation::ReplaceEnv(at, first.index, assignment));
                    }
                    superfluous.extend(settings.map(|setting| setting.index));
                }
            }
        }
        // From the end, so that no removal moves an index that is still needed.
        superfluous.sort_unstable_by(|a, b| b.cmp(a));
        into.extend(
            superfluous
                .into_iter()
                .map(|index| Operation::RemoveEnv(at, index)),
        );
        into.extend(missing);
    }
}

fn assignments<'a>(injection: &'a Injection<'_>) -> impl Iterator<Item = Assignment<'a>> {
    injection
        .variables
        .iter()
        .map(|(variable, value)| (*variable, value))
}
