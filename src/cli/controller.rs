//! `rrsa controller`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
impl Args { pub(super) fn run(self) -> anyhow::Result<()> { Ok(()) } }
