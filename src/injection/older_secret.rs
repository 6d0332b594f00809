//! Whether a pod that runs was given another Secret than is named now. Pure.
//!
//! A binding's Secret may get another name, and a pod another binding; the volume of the pod stays. It has
//! our name and another source, as one of the author's own would, but nobody wrote it except the
//! webhook, and nothing but a new pod mends it.

use super::mode::Mode;
use super::patch::VolumeSource;
use super::pod::{Container, Place, Spec};
use super::resolve::Injection;

/// The Secret that the webhook gave the pod, where it is not the one that is named now.
#[must_use]
pub fn older_secret<'p>(spec: &'p Spec<'_>, injection: &Injection<'_>) -> Option<&'p str> {
    let VolumeSource::Secret(named) = injection.volume else {
        return None;
    };
    let held = spec
        .volumes
        .value()?
        .secret(injection.mode.mount().volume)?;
    let lists = [&spec.containers, &spec.init_containers];
    let mut containers = lists.iter().filter_map(|list| list.value());
    let is_read = containers.any(|list| list.0.iter().any(|one| reads(one, injection.mode)));
    (held != named && is_read).then_some(held)
}

/// Whether a container has what the webhook writes together: the mount, and a variable that leads
/// into it. A volume without them is the author's.
fn reads(container: &Container<'_>, mode: Mode) -> bool {
    let ours = mode.mount();
    let mounts = container.mounts.value();
    let mut mounts = mounts.map_or(&[][..], |mounts| &mounts.0).iter();
    let settings = container.env.value();
    let mut settings = settings.map_or(&[][..], |env| &env.0).iter();
    settings.any(|setting| mode.leads_to_mount(setting.variable))
        && mounts.any(|mount| {
            mount.volume == ours.volume
                && !mount.partial
                && Place::of(&mount.path, ours.path) == Place::Same
        })
}
