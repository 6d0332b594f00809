//! Which operations give a pod what it is to get. Pure.
//!
//! Never half-injected: a container ends with a coherent set of variables and the mount they
//! point into, or it is left alone and a warning says why. What the author wrote stays unless
//! override-env says otherwise. Doing it twice does nothing the second time.

use std::collections::HashSet;

use super::decision::{Reason, Warning};
use super::merge::Merge;
use super::mode::{Mode, Mount};
use super::older_secret::older_secret;
use super::patch::{List, Operation, Place, VolumeSource};
use super::pod::{self, AnnotationsPlace, Container, Containers, Pod, Spec, Volumes};
use super::resolve::Injection;
use super::seen::Seen;
use crate::contract::annotations::official;

/// What is to be done to a pod.
#[derive(Debug)]
pub struct Injected<'a> {
    /// The decision about the whole pod.
    pub reason: Reason,
    /// What to patch; empty unless the reason is [`Reason::Injected`].
    pub operations: Vec<Operation<'a>>,
}

/// Which containers of a pod may still be changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Target<'a> {
    /// Those of a pod that is being created.
    #[default]
    NewPod,
    /// The ephemeral containers that a running pod gets, beside those that it has.
    NewEphemeral(HashSet<&'a str>),
}

/// Works the operations out. `warnings` receives what the pod's author can mend.
#[must_use]
pub fn inject<'a>(
    pod: &'a Pod<'_>,
    target: &Target<'_>,
    injection: &'a Injection<'_>,
    warnings: &mut Vec<Warning>,
) -> Injected<'a> {
    match Plan::new(pod, target, injection) {
        Ok(plan) => plan.carry_out(target, warnings),
        Err(reason) => {
            if reason == Reason::VolumeNameTaken {
                let name = std::iter::once(injection.mode.mount().volume);
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
    mount: Mount,
    all: [(&'a [Container<'a>], List); 3],
    volumes: Option<&'a Volumes<'a>>,
    annotations: AnnotationsPlace<'a>,
    operations: Vec<Operation<'a>>,
    /// Whether some mount needs our volume.
    volume_needed: bool,
    chosen: usize,
    /// Containers that have what they need, by now.
    served: usize,
    /// Containers with something odd, by reason.
    notes: Vec<(Reason, &'a str)>,
}

impl<'a> Plan<'a> {
    fn new(
        pod: &'a Pod<'_>,
        target: &Target<'_>,
        injection: &'a Injection<'_>,
    ) -> Result<Self, Reason> {
        let spec: &'a Spec<'a> = pod.spec.value().ok_or(Reason::PodMalformed)?;
        let lists = [&spec.init_containers, &spec.ephemeral_containers];
        if lists.iter().any(|list| list.is_other()) || spec.volumes.is_other() {
            return Err(Reason::PodMalformed);
        }
        let list = |containers: &'a Seen<Containers<'a>>| {
            containers
                .value()
                .map_or(&[][..], |containers| &containers.0)
        };
        let containers = list(&spec.containers);
        let annotations = pod.annotations_place();
        let records = records_role(injection.mode) && *target == Target::NewPod;
        if containers.is_empty() || records && matches!(annotations, AnnotationsPlace::Malformed) {
            return Err(Reason::PodMalformed);
        }
        let volumes = spec.volumes.value();
        // On a pod that runs, what has the name may be our own, of a Secret that was named before: then
        // the pod lacks the volume of today's.
        let is_older = || *target != Target::NewPod && older_secret(spec, injection).is_some();
        if volumes.is_some_and(|volumes| volumes.name_taken(&injection.volume)) && !is_older() {
            return Err(Reason::VolumeNameTaken);
        }
        Ok(Self {
            injection,
            mount: injection.mode.mount(),
            all: [
                (containers, List::Containers),
                (list(&spec.init_containers), List::Init),
                (list(&spec.ephemeral_containers), List::Ephemeral),
            ],
            volumes,
            annotations,
            // Enough for most pods.
            operations: Vec::with_capacity(16),
            volume_needed: false,
            chosen: 0,
            served: 0,
            notes: Vec::new(),
        })
    }

    fn carry_out(mut self, target: &Target<'_>, warnings: &mut Vec<Warning>) -> Injected<'a> {
        let all = self.all.iter().flat_map(|(list, _)| *list);
        self.injection.selection.warn_of_unknown(all, warnings);
        for (containers, list) in self.all {
            for (index, container) in containers.iter().enumerate() {
                let meant = match target {
                    Target::NewPod => list != List::Ephemeral,
                    Target::NewEphemeral(old) => {
                        list == List::Ephemeral && !old.contains(&*container.name)
                    }
                };
                if meant && self.injection.selection.chooses(&container.name) {
                    self.chosen += 1;
                    self.container(container, Place { list, index });
                }
            }
        }
        if *target == Target::NewPod {
            self.volume();
            self.record();
        }
        let reason = self.reason();
        // Skipping every container is a plain wish; naming the only ones and meaning none is not.
        if reason == Reason::NoContainerChosen
            && *target == Target::NewPod
            && self.injection.selection.names_the_only_ones()
        {
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
        let lying = self.lying(container);
        if variables.wants_mount() {
            // Nobody can give a running pod a volume.
            if at.list == List::Ephemeral && !self.has_volume() && lying != Lying::Ours {
                let reason = Reason::EphemeralWithoutVolume;
                self.notes.push((reason, &container.name));
                return;
            }
            if lying == Lying::Taken {
                self.notes.push((Reason::MountPathTaken, &container.name));
                return;
            }
            if lying == Lying::Nested {
                self.notes.push((Reason::MountNested, &container.name));
            }
        }
        if variables.repeated() {
            self.notes
                .push((Reason::VariablesRepeated, &container.name));
            return;
        }
        if variables.mixed() {
            self.notes.push((Reason::VariablesMixed, &container.name));
        }
        if variables.metadata_enabled() {
            self.notes.push((Reason::MetadataEnabled, &container.name));
        }
        if variables.oidc_enabled() {
            self.notes.push((Reason::OidcEnabled, &container.name));
        }
        variables.operations(container, at, &mut self.operations);
        self.served += 1;
        if !variables.wants_mount() {
            return;
        }
        match lying {
            Lying::Nothing | Lying::Nested => {
                self.volume_needed = true;
                self.operations.push(if container.mounts.is_missing() {
                    Operation::CreateMounts(at, self.mount)
                } else {
                    Operation::AppendMount(at, self.mount)
                });
            }
            Lying::WithoutVolume => self.volume_needed = true,
            Lying::Ours | Lying::Taken => {}
        }
    }

    /// What lies at our mount path in this container.
    fn lying(&self, container: &Container<'_>) -> Lying {
        let mounts = container.mounts.value().map_or(&[][..], |mounts| &mounts.0);
        let mut found = Lying::Nothing;
        for mount in mounts {
            let held = || {
                self.volumes
                    .is_some_and(|volumes| volumes.holds(&mount.volume, &self.injection.volume))
            };
            found = match pod::Place::of(&mount.path, self.mount.path) {
                pod::Place::Same if mount.partial => return Lying::Taken,
                pod::Place::Same if held() => Lying::Ours,
                pod::Place::Same if mount.volume == self.mount.volume => Lying::WithoutVolume,
                pod::Place::Same => return Lying::Taken,
                pod::Place::Above | pod::Place::Below if found == Lying::Nothing => Lying::Nested,
                _ => found,
            };
        }
        found
    }

    /// Whether the pod has our volume.
    fn has_volume(&self) -> bool {
        self.volumes
            .is_some_and(|volumes| volumes.holds(self.mount.volume, &self.injection.volume))
    }

    fn volume(&mut self) {
        if !self.volume_needed || self.has_volume() {
            return;
        }
        let source: VolumeSource<'a> = self.injection.volume.clone();
        self.operations.push(if self.volumes.is_none() {
            Operation::CreateVolumes(source)
        } else {
            Operation::AppendVolume(source)
        });
    }

    /// Writes the role down for the agent, who gives no other.
    fn record(&mut self) {
        let injection: &'a Injection<'a> = self.injection;
        let (true, true, Some(role)) = (
            records_role(injection.mode),
            self.served > 0,
            &injection.role,
        ) else {
            return;
        };
        let role = role.as_str();
        self.operations.push(match self.annotations {
            AnnotationsPlace::NoMetadata => Operation::CreateMetadata(role),
            AnnotationsPlace::NoAnnotations => Operation::CreateAnnotations(role),
            AnnotationsPlace::Annotations(Seen::Absent) => Operation::AddAnnotation(role),
            AnnotationsPlace::Annotations(own) if own.text() == Some(role) => return,
            AnnotationsPlace::Annotations(_) => Operation::ReplaceAnnotation(role),
            AnnotationsPlace::Malformed => return,
        });
    }

    fn reason(&self) -> Reason {
        let noted = |wanted: &Reason| self.notes.iter().any(|(reason, _)| reason == wanted);
        if !self.operations.is_empty() {
            return Reason::Injected;
        }
        if self.chosen == 0 {
            return Reason::NoContainerChosen;
        }
        let untouched = [
            Reason::EphemeralWithoutVolume,
            Reason::MountPathTaken,
            Reason::VariablesRepeated,
            Reason::UserConfigured,
        ];
        let found = untouched.into_iter().find(noted);
        found.unwrap_or(Reason::AlreadyInjected)
    }

    fn warn_of_notes(&self, warnings: &mut Vec<Warning>) {
        for reason in [
            Reason::EphemeralWithoutVolume,
            Reason::MountPathTaken,
            Reason::MountNested,
            Reason::VariablesRepeated,
            Reason::VariablesMixed,
            Reason::MetadataEnabled,
            Reason::OidcEnabled,
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

/// Whether the mode writes the role on the pod.
const fn records_role(mode: Mode) -> bool {
    matches!(mode, Mode::Agent)
}

/// What lies at our mount path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lying {
    /// Nothing.
    Nothing,
    /// Nothing, but something above or below.
    Nested,
    /// A volume that holds what ours would.
    Ours,
    /// A volume of our name that the pod does not have.
    WithoutVolume,
    /// Something else.
    Taken,
}
