//! What the host must offer before anything is started.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// Programs that the host side calls, and the Debian package of each.
const TOOLS: [(&str, &str); 2] = [("ip", "iproute2"), ("nft", "nftables")];

/// Directories that hold administrators' programs, even where a user's search path leaves them out.
const ADMINISTRATORS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Checks that this process may do its work here, and says everything that is missing at once.
pub fn check() -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("isthmus up makes namespaces, links and firewall rules: run it as root, for example with sudo");
    }
    let mut missing: Vec<String> = TOOLS
        .iter()
        .filter(|(tool, _)| find(tool).is_none())
        .map(|(tool, package)| format!("the program {tool} is missing: install the package {package}"))
        .collect();
    if !Path::new("/dev/net/tun").exists() {
        missing.push("the device /dev/net/tun is missing: load the kernel module tun".to_owned());
    }
    if missing.is_empty() {
        Ok(())
    } else {
        bail!("{}", missing.join("\n"))
    }
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMINISTRATORS.map(PathBuf::from))
        .map(|directory| directory.join(tool))
        .find(|candidate| candidate.is_file())
}
