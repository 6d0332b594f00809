//! Which operations give a pod what it is to get. Pure.
//!
//! Never half-injected: a container ends with a coherent set of variables and the mount they
//! point into, or it is left alone and a warning says why. What the author wrote stays unless
//! override-env says otherwise. Doing it twice does nothing the second time.

use std::time::Duration;

use super::decision::{Reason, Warning};
use super::patch::{Assignment, Operation, Place};
use super::pod::{self, Container, Containers, Pod, Spec, Volumes};
use super::resolve::Injection;
use super::seen::Seen;
use super::variables::Variable;
use crate::contract::annotations::official;
use crate::contract::token_volume;

/// What is to be done to a pod.
#[derive(Debug)]
pub struct Injected<'a> {
    /// The decision about the whole pod.
    pub reason: Reason,
    /// What to patch; empty unless the reason is [`Reason::Injected`].
    pub operations: Vec<Operation<'a>>,
}

/// Works the operations out. `warnings` receives what the pod's author can mend.
#[must_use]
pub fn inject<'a>(
    pod: &'a Pod<'_>,
    injection: &'a Injection<'_>,
    warnings: &mut Vec<Warning>,
) -> Injected<'a> {
    match Plan::new(pod, injection) {
        Ok(plan) => plan.carry_out(warnings),
        Err(reason) => {
            if reason == Reason::VolumeNameTaken {
                let name = std::iter::once(token_volume::NAME);
                warnings.push(Warning::names(reason, "volume", name));
            }
            Injected {
                reason,
                operations: Vec::new(),
            }
        }
    }
}

/// What is known before, and gathered during, the walk over the containers.
struct Plan<'a> {
    injection: &'a Injection<'a>,
    containers: [(&'a [Container<'a>], bool); 2],
    volumes: Option<&'a Volumes<'a>>,
    operations: Vec<Operation<'a>>,
    /// Whether some mount needs our volume.
    volume_needed: bool,
    chosen: usize,
    /// Containers with something odd, by reason.
    notes: Vec<(Reason, &'a str)>,
}

impl<'a> Plan<'a> {
    fn new(pod: &'a Pod<'_>, injection: &'a Injection<'_>) -> Result<Self, Reason> {
        let spec: &'a Spec<'a> = pod.spec.value().ok_or(Reason::PodMalformed)?;
        if spec.init_containers.is_other() || spec.volumes.is_other() {
            return Err(Reason::PodMalformed);
        }
        let list = |containers: &'a Seen<Containers<'a>>| {
            containers
                .value()
                .map_or(&[][..], |containers| &containers.0)
        };
        let containers = list(&spec.containers);
        if containers.is_empty() {
            return Err(Reason::PodMalformed);
        }
        let volumes = spec.volumes.value();
        if volumes.is_some_and(|volumes| volumes.name_taken) {
            return Err(Reason::VolumeNameTaken);
        }
        Ok(Self {
            injection,
            containers: [(containers, false), (list(&spec.init_containers), true)],
            volumes,
            operations: Vec::new(),
            volume_needed: false,
            chosen: 0,
            notes: Vec::new(),
        })
    }

    fn carry_out(mut self, warnings: &mut Vec<Warning>) -> Injected<'a> {
        let all = self.containers.iter().flat_map(|(list, _)| *list);
        self.injection.selection.warn_of_unknown(all, warnings);
        for (list, init) in self.containers {
            for (index, container) in list.iter().enumerate() {
                if self.injection.selection.chooses(&container.name) {
                    self.chosen += 1;
                    self.container(container, Place { init, index });
                }
            }
        }
        self.volume();
        let reason = self.reason();
        // Skipping every container is a plain wish; naming the only ones and meaning none is not.
        if reason == Reason::NoContainerChosen && self.injection.selection.names_the_only_ones() {
            let key = std::iter::once(official::ONLY_CONTAINERS);
            warnings.push(Warning::names(reason, "annotation", key));
        }
        self.warn_of_notes(warnings);
        Injected {
            reason,
            operations: self.operations,
        }
    }

    fn container(&mut self, container: &'a Container<'a>, at: Place) {
        let variables = Merge::new(container, self.injection);
        if variables.all_foreign() {
            self.notes.push((Reason::UserConfigured, &container.name));
            return;
        }
        let mount = self.mount(container);
        if variables.wants_mount() {
            if mount == Mount::Taken {
                self.notes.push((Reason::MountPathTaken, &container.name));
                return;
            }
            if mount == Mount::Nested {
                self.notes.push((Reason::MountNested, &container.name));
            }
        }
        if variables.mixed() {
            self.notes.push((Reason::VariablesMixed, &container.name));
        }
        variables.operations(container, at, &mut self.operations);
        if !variables.wants_mount() {
            return;
        }
        match mount {
            Mount::Missing | Mount::Nested => {
                self.volume_needed = true;
                self.operations.push(if container.mounts.is_missing() {
                    Operation::CreateMounts(at)
                } else {
                    Operation::AppendMount(at)
                });
            }
            Mount::WithoutVolume => self.volume_needed = true,
            Mount::Ours | Mount::Taken => {}
        }
    }

    /// What lies at our mount path in this container.
    fn mount(&self, container: &Container<'_>) -> Mount {
        let mounts = container.mounts.value().map_or(&[][..], |mounts| &mounts.0);
        let mut found = Mount::Missing;
        for mount in mounts {
            let holds_token = self
                .volumes
                .is_some_and(|volumes| volumes.holds_token(&mount.volume));
            found = match mount.place {
                pod::Place::Same if mount.partial => return Mount::Taken,
                pod::Place::Same if holds_token => Mount::Ours,
                pod::Place::Same if mount.volume == token_volume::NAME => Mount::WithoutVolume,
                pod::Place::Same => return Mount::Taken,
                pod::Place::Above | pod::Place::Below if found == Mount::Missing => Mount::Nested,
                _ => found,
            };
        }
        found
    }

    fn volume(&mut self) {
        let there = self
            .volumes
            .is_some_and(|volumes| volumes.holds_token(token_volume::NAME));
        if !self.volume_needed || there {
            return;
        }
        let life: Duration = self.injection.expiration;
        self.operations.push(if self.volumes.is_none() {
            Operation::CreateVolumes(life)
        } else {
            Operation::AppendVolume(life)
        });
    }

    fn reason(&self) -> Reason {
        let noted = |wanted| self.notes.iter().any(|(reason, _)| *reason == wanted);
        if !self.operations.is_empty() {
            Reason::Injected
        } else if self.chosen == 0 {
            Reason::NoContainerChosen
        } else if noted(Reason::MountPathTaken) {
            Reason::MountPathTaken
        } else if noted(Reason::UserConfigured) {
            Reason::UserConfigured
        } else {
            Reason::AlreadyInjected
        }
    }

    fn warn_of_notes(&self, warnings: &mut Vec<Warning>) {
        for reason in [
            Reason::MountPathTaken,
            Reason::MountNested,
            Reason::VariablesMixed,
        ] {
            let names: Vec<&str> = self
                .notes
                .iter()
                .filter(|(noted, _)| *noted == reason)
                .map(|(_, name)| *name)
                .collect();
            if !names.is_empty() {
                let kind = if names.len() == 1 {
                    "container"
                } else {
                    "containers"
                };
                warnings.push(Warning::names(reason, kind, names.into_iter()));
            }
        }
    }
}

/// What lies at our mount path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mount {
    /// Nothing.
    Missing,
    /// Nothing, but something above or below.
    Nested,
    /// A volume that holds the token.
    Ours,
    /// A volume of our name that the pod does not have.
    WithoutVolume,
    /// Something else.
    Taken,
}

/// A container's own variables beside ours.
struct Merge<'a> {
    injection: &'a Injection<'a>,
    own: &'a [pod::Setting<'a>],
}

impl<'a> Merge<'a> {
    fn new(container: &'a Container<'a>, injection: &'a Injection<'a>) -> Self {
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
    fn effective(&self, variable: Variable) -> Option<&'a pod::Setting<'a>> {
        self.settings_of(variable).next_back()
    }

    fn identity(&self) -> impl Iterator<Item = (Variable, &'a str)> {
        assignments(self.injection).filter(|(variable, _)| variable.is_identity())
    }

    /// Whether the author set up the whole identity with a token that lies elsewhere.
    fn all_foreign(&self) -> bool {
        !self.injection.override_env
            && !self.wants_mount()
            && self
                .identity()
                .all(|(variable, _)| self.effective(variable).is_some())
    }

    /// Whether the token file lies in our mount.
    fn wants_mount(&self) -> bool {
        let own = self
            .effective(Variable::OidcTokenFile)
            .filter(|_| !self.injection.override_env);
        own.is_none_or(|setting| {
            let path = setting.value.as_deref();
            path.is_some_and(|path| pod::Place::of(path) == pod::Place::Below)
        })
    }

    /// Whether the identity comes from two hands that do not agree.
    fn mixed(&self) -> bool {
        let differs = |(variable, value)| {
            self.effective(variable)
                .is_some_and(|own| own.value.as_deref() != Some(value))
        };
        !self.injection.override_env
            && self
                .identity()
                .any(|(variable, _)| self.effective(variable).is_none())
            && self.identity().any(differs)
    }

    fn operations(&self, container: &Container<'_>, at: Place, into: &mut Vec<Operation<'a>>) {
        if container.env.is_missing() {
            into.push(Operation::CreateEnv(
                at,
                assignments(self.injection).collect(),
            ));
            return;
        }
        let mut superfluous = Vec::new();
        let mut missing = Vec::new();
        for assignment in assignments(self.injection) {
            let (variable, value) = assignment;
            let mut settings = self.settings_of(variable);
            match settings.next() {
                None => missing.push(Operation::AppendEnv(at, assignment)),
                Some(_) if !self.injection.override_env => {}
                Some(first) => {
                    if first.value.as_deref() != Some(value) {
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
        .map(|(variable, value)| (*variable, &**value))
}
