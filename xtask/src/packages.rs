//! Debian packages: installed only where missing, and never without saying so.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::command::{installed, run, say};

/// What the packages are for. Each set includes the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Building Isthmus and running it.
    Demo,
    /// Running every test.
    Test,
    /// Running the benchmarks.
    Bench,
}

/// Present if `program` is: then `package` is not asked for.
struct Need {
    set: Set,
    program: &'static str,
    package: &'static str,
}

const fn need(set: Set, program: &'static str, package: &'static str) -> Need {
    Need {
        set,
        program,
        package,
    }
}

const NEEDS: &[Need] = &[
    need(Set::Demo, "cc", "gcc"),
    need(Set::Demo, "/usr/include/stdlib.h", "libc6-dev"),
    need(Set::Demo, "nft", "nftables"),
    need(Set::Demo, "ip", "iproute2"),
    need(Set::Test, "ping", "iputils-ping"),
    need(Set::Test, "tcpdump", "tcpdump"),
    need(Set::Test, "curl", "curl"),
    need(Set::Test, "/usr/lib/ipsec/charon", "strongswan-charon"),
    need(Set::Test, "swanctl", "strongswan-swanctl"),
    need(
        Set::Test,
        "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
        "libcharon-extra-plugins",
    ),
    need(
        Set::Test,
        "/usr/lib/ipsec/plugins/libstrongswan-curve25519.so",
        "libstrongswan-extra-plugins",
    ),
    need(Set::Bench, "iperf3", "iperf3"),
];

impl Set {
    /// Reads the argument of `cargo xtask packages`; all packages without one.
    pub fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["demo"] => Ok(Self::Demo),
            ["test"] => Ok(Self::Test),
            [] | ["bench"] => Ok(Self::Bench),
            ref other => bail!("expected one of demo, test, bench; found {other:?}"),
        }
    }
}

/// Installs what `set` needs and the machine lacks.
pub fn ensure(set: Set) -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|need| need.set <= set && !installed(need.program))
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !installed("apt-get") {
        bail!("missing on this machine, and there is no apt-get to install it: {names}");
    }
    require_root(&format!("installing {names}"))?;
    say(&format!("installing {names}"))?;
    if apt(&[&["install", "--no-install-recommends"], &missing[..]].concat()).is_err() {
        apt(&["update"])?;
        apt(&[&["install", "--no-install-recommends"], &missing[..]].concat())?;
    }
    Ok(())
}

/// Fails unless we are root.
pub fn require_root(purpose: &str) -> anyhow::Result<()> {
    let output = Command::new("id")
        .arg("-u")
        .output()
        .context("id could not be started")?;
    if String::from_utf8_lossy(&output.stdout).trim() == "0" {
        Ok(())
    } else {
        bail!("{purpose} needs root")
    }
}

fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    run(Command::new("apt-get")
        .args([
            "-qq",
            "-y",
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "DPkg::Lock::Timeout=120",
        ])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_include_the_smaller_ones() {
        assert!(Set::Demo < Set::Test && Set::Test < Set::Bench);
        assert_eq!(Set::parse(&[]).unwrap(), Set::Bench);
        assert!(Set::parse(&["everything".to_owned()]).is_err());
    }
}
