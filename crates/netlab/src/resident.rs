//! What a process holds in memory.

use std::fs;

use anyhow::{Context as _, Result};

/// Resident memory of the process, KiB (proc(5), `VmRSS`).
///
/// # Errors
/// When there is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("the status of process {pid}"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .with_context(|| format!("process {pid} has no VmRSS"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
