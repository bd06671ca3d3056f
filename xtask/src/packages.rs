//! Debian packages: installed only where missing, and never without saying so.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::command::{installed, run, say};
use crate::interop;

/// What the packages are for. Each set includes the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Building Isthmus and running it.
    Demo,
    /// Running every test and benchmark too.
    Test,
}

/// A package, not asked for if its `sign` is there: a program, a file, or a command that succeeds.
struct Need {
    set: Set,
    sign: &'static str,
    package: &'static str,
}

const fn need(set: Set, sign: &'static str, package: &'static str) -> Need {
    Need { set, sign, package }
}

const NEEDS: &[Need] = &[
    need(Set::Demo, "cc", "gcc"),
    need(Set::Demo, "/usr/include/stdlib.h", "libc6-dev"),
    need(Set::Demo, "ip", "iproute2"),
    need(Set::Demo, "nft", "nftables"),
    need(Set::Test, "curl", "curl"),
    need(Set::Test, "debootstrap", "debootstrap"),
    need(Set::Test, "iperf3", "iperf3"),
    need(Set::Test, "python3 -m ensurepip --version", "python3-venv"),
    need(Set::Test, "/usr/lib/ipsec/charon", "strongswan-charon"),
    need(
        Set::Test,
        "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so",
        "libcharon-extra-plugins",
    ),
    need(
        Set::Test,
        "/usr/lib/ipsec/plugins/libstrongswan-openssl.so",
        "libstrongswan-standard-plugins",
    ),
    need(
        Set::Test,
        "/usr/lib/ipsec/plugins/libstrongswan-vici.so",
        "strongswan-swanctl",
    ),
    need(Set::Test, "wg", "wireguard-tools"),
    need(Set::Test, "wireguard-go", "wireguard-go"),
];

impl Set {
    /// Reads the argument of `cargo xtask packages`; all packages without one.
    pub fn parse(arguments: &[String]) -> anyhow::Result<Self> {
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["demo"] => Ok(Self::Demo),
            [] | ["test"] => Ok(Self::Test),
            ref other => bail!("expected demo or test, found {other:?}"),
        }
    }
}

/// Installs what `set` needs and the machine lacks.
pub fn ensure(set: Set) -> anyhow::Result<()> {
    ensure_packages(set)?;
    if set >= Set::Test {
        interop::ensure_peers()?;
    }
    Ok(())
}

fn ensure_packages(set: Set) -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|need| need.set <= set && !is_there(need.sign))
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
    keep_services_off(&missing)?;
    if apt(&[&["install", "--no-install-recommends"], &missing[..]].concat()).is_err() {
        apt(&["update"])?;
        apt(&[&["install", "--no-install-recommends"], &missing[..]].concat())?;
    }
    Ok(())
}

/// Puts the package, and what it needs beyond what is installed, into the directory `archives` without installing any.
pub fn download(package: &str, archives: &Path) -> anyhow::Result<()> {
    let place = format!("Dir::Cache::archives={}", archives.display());
    let arguments = [
        "install",
        "--download-only",
        "--no-install-recommends",
        "-o",
        &place,
        package,
    ];
    if apt(&arguments).is_err() {
        apt(&["update"])?;
        apt(&arguments)?;
    }
    Ok(())
}

/// Services that come with a package and would take ports and install policies of their own on this machine.
const SERVICES: &[(&str, &[&str])] = &[
    ("iperf3", &["iperf3.service"]),
    (
        "strongswan-charon",
        &["strongswan-starter.service", "strongswan.service"],
    ),
];

// Masked before the package is there, a service is not started by its installation.
fn keep_services_off(packages: &[&str]) -> anyhow::Result<()> {
    if !Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    for (package, services) in SERVICES {
        if packages.contains(package) {
            say(&format!("masking {}", services.join(" ")))?;
            run(Command::new("systemctl")
                .args(["--quiet", "mask"])
                .args(*services))?;
        }
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

fn is_there(sign: &str) -> bool {
    match sign.split(' ').collect::<Vec<_>>()[..] {
        [program, ref arguments @ ..] if !arguments.is_empty() => Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success()),
        _ => installed(sign),
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
    fn signs_are_programs_files_or_commands() {
        assert!(is_there("sh") && is_there("/bin/sh") && is_there("sh -c true"));
        assert!(!is_there("no-such-program") && !is_there("/no/such/file") && !is_there("sh -c false"));
    }

    #[test]
    fn sets_include_the_smaller_ones() {
        assert!(Set::Demo < Set::Test);
        assert_eq!(Set::parse(&[]).unwrap(), Set::Test);
        assert!(Set::parse(&["everything".to_owned()]).is_err());
    }
}
