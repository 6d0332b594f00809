//! What users write: the custom resource and the operator's configuration file. Types and checks
//! only; nothing here talks to a cluster.

pub mod configuration;
pub mod glob;
pub mod v1alpha1;
