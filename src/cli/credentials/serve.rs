//! `rrsa credentials serve`.

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use super::endpoint::{Endpoint, random_path};
use super::environment::Changes;
use super::exec::program;
use super::format::{export, uri_answer};
use super::source::{Asked, SourceArgs};
use super::{failure, keys, not_started, print, wait};
use crate::cli::operator::shutdown_signal;
use crate::contract::env;
use crate::secret::SecretText;
use crate::serving::server::{Stop, serve_plain};
use crate::telemetry::logs;

const EXAMPLES: &str = "\
Examples:
  A program that runs for days keeps valid credentials of a role:
    rrsa credentials serve --role-arn acs:ram::1234567890123456:role/app -- ./server
  The URI for a program in another terminal:
    rrsa credentials serve";

#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    #[command(flatten)]
    source: SourceArgs,
    /// A program that is to use the URI, and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl fmt::Debug for Args {
    /// Without the command: an argument may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Args")
            .field("port", &self.port)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// A listener, what is served on it, and where.
struct Service {
    listener: TcpListener,
    endpoint: Endpoint,
    uri: SecretText,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self {
            port,
            source,
            command,
        } = self;
        // Failures to renew. Nothing below this crate logs: it could log the path.
        logs::start("off,rrsa=warn", logs::Format::Text)?;
        let asked = source.on_this_machine()?;
        wait(async {
            let service = Service::prepare(asked, port).await?;
            if command.is_empty() {
                service.until_told_to_stop().await
            } else {
                service.around(&command).await
            }
        })
    }
}

impl Service {
    /// Credentials are fetched first: a mistake is told here, not to every program that asks.
    async fn prepare(asked: Asked, port: u16) -> anyhow::Result<Self> {
        let path = random_path(asked.world.random.as_ref())?;
        let client = asked.client().map_err(failure)?;
        {
            let current = client.credentials().await.map_err(failure)?;
            uri_answer(&keys(&current)?, current.provider_name())?;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("port {port} of 127.0.0.1 cannot be listened on; choose another, or 0")
        })?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            endpoint: Endpoint::new(address, &path, client),
            uri: format!("http://{address}{}", path.expose()).into(),
        })
    }

    #[expect(
        clippy::print_stderr,
        reason = "standard output is for the variable alone"
    )]
    async fn until_told_to_stop(self) -> anyhow::Result<ExitCode> {
        let told = shutdown_signal()?;
        let stop = Stop::default();
        let server = serve_plain(self.listener, self.endpoint.router(), stop.clone());
        print(&(export(env::CREDENTIALS_URI, self.uri.expose()) + "\n"))?;
        eprintln!("rrsa: serving until Ctrl-C");
        tokio::pin!(server);
        tokio::select! {
            ended = &mut server => ended?,
            () = told => {
                stop.stop();
                server.await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn around(self, command: &[OsString]) -> anyhow::Result<ExitCode> {
        // Before the program is there, so that no signal ends this one first.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(serve_plain(
            self.listener,
            self.endpoint.router(),
            Stop::default(),
        ));
        let mut process = program(command)?;
        Changes::for_uri(&self.uri).apply(&mut process);
        let mut process = tokio::process::Command::from(process);
        let mut child = match process.spawn() {
            Ok(child) => child,
            Err(error) => return Ok(not_started(process.as_std().get_program(), &error)),
        };
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                _ = terminate.recv() => ask_to_end(&mut child),
                // Ctrl-C goes to the program as well, which decides what it means.
                _ = interrupt.recv() => {}
            }
        };
        Ok(exit_code(status))
    }
}

/// Hands SIGTERM on.
#[cfg(target_os = "linux")]
fn ask_to_end(child: &mut Child) {
    use rustix::process::{Pid, Signal, kill_process};

    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // It fails where the program is gone, and then there is nothing to end.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Ends the program: only SIGKILL can be sent here.
#[cfg(not(target_os = "linux"))]
fn ask_to_end(child: &mut Child) {
    // As above.
    let _ = child.start_kill();
}

/// As a shell tells how a program ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::code(3 << 8, 3)]
    #[case::sigterm(15, 143)]
    fn a_programs_end_is_told_as_a_shell_does(#[case] raw: i32, #[case] code: u8) {
        let told = exit_code(ExitStatus::from_raw(raw));
        assert_eq!(format!("{told:?}"), format!("{:?}", ExitCode::from(code)));
    }
}
