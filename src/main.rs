//! The binary `rrsa`: everything is in the library, so that tests can wire it too.

use std::process::ExitCode;

use clap::Parser;

#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[expect(clippy::print_stderr, reason = "the last word of a failed command")]
fn main() -> ExitCode {
    // One TLS provider for the whole process, before anything can open a connection.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("rrsa: a TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    match rrsa::cli::Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rrsa: {error:#}");
            ExitCode::FAILURE
        }
    }
}
