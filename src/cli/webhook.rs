//! `rrsa webhook`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::LogArgs;
use super::operator::{self, ConfigurationArgs, bind, second_signal, shutdown_signal};
use crate::serving::rotation::Times;
use crate::webhook::registration::Callee;
use crate::webhook::{self, Certificates, Options, Own};
use crate::world::SystemClock;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    configuration: ConfigurationArgs,
    /// Where the API server's reviews arrive, over TLS. Port 0 takes a free one.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS",
        default_value = "[::]:9443"
    )]
    listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics are, over plain HTTP. Port 0 takes a free one.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_ADMIN_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS",
        default_value = "[::]:9440"
    )]
    admin_listen: SocketAddr,
    /// Namespace of the Service, and of the Secret that holds the certificate authority.
    #[arg(
        long,
        env = "RRSA_NAMESPACE",
        hide_env_values = true,
        value_name = "NAMESPACE",
        default_value = "rrsa-system"
    )]
    namespace: String,
    /// Name of the Service by which the API server calls; its DNS names are in the certificate.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_SERVICE",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "rrsa-webhook"
    )]
    service: String,
    /// Further DNS names or addresses for the certificate, for calls by URL.
    #[arg(
        long = "server-name",
        env = "RRSA_WEBHOOK_SERVER_NAMES",
        hide_env_values = true,
        value_name = "NAME",
        value_delimiter = ','
    )]
    server_names: Vec<String>,
    /// Name of the Secret that holds the certificate authority. It is made when there is none.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_CA_SECRET",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "rrsa-webhook-ca"
    )]
    ca_secret: String,
    /// Name of the MutatingWebhookConfiguration whose caBundle is kept right.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_CONFIGURATION",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "rrsa"
    )]
    webhook_configuration: String,
    /// Life of a certificate authority in seconds; after two thirds of it another one takes over.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_CA_LIFE",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "31536000",
        value_parser = seconds
    )]
    ca_life: Duration,
    /// Life of the server certificate in seconds; it is renewed after two thirds of it.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_CERTIFICATE_LIFE",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "604800",
        value_parser = seconds
    )]
    certificate_life: Duration,
    /// Seconds that the API servers are given to learn of a new caBundle before a certificate
    /// relies on it.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_TRUST_DELAY",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "30",
        value_parser = seconds
    )]
    trust_delay: Duration,
    /// A mounted certificate (PEM, with its chain), such as cert-manager's, instead of one of our
    /// own authority. It is read again when it changes; caBundle is left to whoever brings it.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_TLS_CERT",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,
    /// The private key (PEM) of the mounted certificate.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,
    /// Least seconds between "not ready" and the closing of the listener when told to stop.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_DRAIN_DELAY",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "5",
        value_parser = seconds
    )]
    drain_delay: Duration,
    /// Most seconds to wait, when told to stop, until callers have given up their connections. An API server holds idle
    /// ones for 90 s; a review that meets a closing one is lost. The pod's grace period must be 20 s longer.
    #[arg(
        long,
        env = "RRSA_WEBHOOK_DRAIN_LIMIT",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "100",
        value_parser = seconds
    )]
    drain_limit: Duration,
    /// A file to write when all is ready: JSON with "address" and "adminAddress".
    #[arg(
        long,
        env = "RRSA_WEBHOOK_READY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self {
            configuration,
            listen,
            admin_listen,
            namespace,
            service,
            server_names,
            ca_secret,
            webhook_configuration,
            ca_life,
            certificate_life,
            trust_delay,
            tls_cert,
            tls_key,
            drain_delay,
            drain_limit,
            ready_file,
            log,
        } = self;
        log.start()?;
        let mut names = service_names(&service, &namespace);
        names.extend(server_names);
        let certificates = match (tls_cert, tls_key) {
            (Some(certificate), Some(key)) => Certificates::Mounted { certificate, key },
            _ => Certificates::Own(Own {
                secret_name: ca_secret,
                webhook_configuration_name: webhook_configuration,
                callee: Callee {
                    namespace,
                    service,
                    server_names: names,
                },
                times: Times {
                    authority: ca_life,
                    leaf: certificate_life,
                    propagation: trust_delay,
                },
            }),
        };
        operator::single_threaded_runtime()?.block_on(async {
            let configuration = configuration.load().await?;
            let client = operator::client().await?;
            let options = Options {
                client,
                configuration,
                clock: Arc::new(SystemClock),
                listener: bind(listen)?,
                admin_listener: bind(admin_listen)?,
                certificates,
                drain_delay,
                drain_limit,
                ready_file,
            };
            // Boxed: the future of a whole server is too large for the stack frame of its caller.
            let serving = Box::pin(webhook::run(options, shutdown_signal()?));
            tokio::select! {
                served = serving => served,
                () = second_signal()? => {
                    Err(anyhow::anyhow!("told to stop twice: what was under way is cut off"))
                }
            }
        })
    }
}

/// The names under which a Service is called.
fn service_names(service: &str, namespace: &str) -> Vec<String> {
    let short = format!("{service}.{namespace}.svc");
    vec![format!("{short}.cluster.local"), short]
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_servers_name_for_a_service_is_among_the_names() {
        let names = service_names("rrsa-webhook", "rrsa-system");
        assert!(names.contains(&"rrsa-webhook.rrsa-system.svc".to_owned()));
    }
}
