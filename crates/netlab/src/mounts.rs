//! File systems that only one daemon sees.

use std::path::Path;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const NOTHING: Option<&str> = None;

/// Gives the calling thread, and what it starts, mounts of its own: nobody else sees a change.
pub(crate) fn make_own() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    mount(
        NOTHING,
        "/",
        NOTHING,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        NOTHING,
    )
    .context("making mounts private")
}

/// Shows `from`, with all that is mounted in it, at `to` as well.
pub(crate) fn show(from: &Path, to: &Path) -> Result<()> {
    mount(
        Some(from),
        to,
        NOTHING,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        NOTHING,
    )
    .with_context(|| format!("showing {} as {}", from.display(), to.display()))
}
