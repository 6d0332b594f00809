//! The Lease as an object of the API server: each write names the version that was seen last, so
//! that of two candidates one wins.

use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;

use super::candidate::{Record, Seen};
use crate::contract::{FIELD_MANAGER, MANAGED_BY_LABEL};
use crate::serving::api_cause;

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Denied {
    /// Somebody wrote in between.
    Conflict,
    /// The API server failed, refused or did not answer.
    Failed(String),
}

/// The Lease, as it was seen last.
pub(super) struct LeaseObject {
    api: Api<Lease>,
    name: String,
    call: Duration,
    last: Option<Lease>,
}

impl std::fmt::Debug for LeaseObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseObject")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl LeaseObject {
    /// The Lease of that name; every call may take so long.
    pub(super) fn new(client: kube::Client, namespace: &str, name: &str, call: Duration) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            call,
            last: None,
        }
    }

    /// What it is now; `None`: there is none.
    pub(super) async fn read(&mut self) -> Result<Option<Seen>, Denied> {
        self.last = self.within(self.api.get_opt(&self.name)).await?;
        Ok(self.last.as_ref().map(|lease| {
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            Seen::of(version, &lease.spec.clone().unwrap_or_default())
        }))
    }

    /// Writes over what was seen last, or creates it where nothing was.
    pub(super) async fn write(
        &mut self,
        record: &Record,
        now: DateTime<Utc>,
    ) -> Result<(), Denied> {
        let parameters = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let now = Timestamp::from_microsecond(now.timestamp_micros());
        let now = MicroTime(now.unwrap_or(Timestamp::UNIX_EPOCH));
        let seconds = record.duration.as_secs() + u64::from(record.duration.subsec_nanos() > 0);
        let mut lease = self.last.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(
                    [(MANAGED_BY_LABEL.0.to_owned(), MANAGED_BY_LABEL.1.to_owned())].into(),
                ),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let before = lease.spec.take().unwrap_or_default();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(record.holder.clone()),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            lease_transitions: Some(record.transitions),
            acquire_time: if record.acquired {
                Some(now.clone())
            } else {
                before.acquire_time
            },
            renew_time: Some(now),
            ..LeaseSpec::default()
        });
        let written = if self.last.is_some() {
            self.within(self.api.replace(&self.name, &parameters, &lease))
                .await
        } else {
            self.within(self.api.create(&parameters, &lease)).await
        };
        self.last = Some(written?);
        Ok(())
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = kube::Result<T>> + Send,
    ) -> Result<T, Denied> {
        match tokio::time::timeout(self.call, call).await {
            Ok(Ok(answer)) => Ok(answer),
            // 404: deleted since it was seen. 409: written, or made, by another.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                Err(Denied::Conflict)
            }
            Ok(Err(error)) => Err(Denied::Failed(api_cause(&error))),
            Err(_) => Err(Denied::Failed(format!(
                "no answer from the API server within {:?}",
                self.call
            ))),
        }
    }
}
