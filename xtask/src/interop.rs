//! The interoperability matrix, and the peers in it that cannot be installed beside those that are: each has a directory of
//! [`CACHE`].

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::command::{self, cargo, run as run_command, say};
use crate::packages::{self, Set};

/// Directory of the peers' systems. It is ours; it is reused, and removed by hand.
const CACHE: &str = "/var/cache/isthmus";

/// A peer in a system of its own.
struct Peer {
    directory: &'static str,
    /// What is there when it is whole.
    sign: &'static str,
    /// Release of Debian.
    suite: &'static str,
    packages: &'static str,
}

const PEERS: &[Peer] = &[Peer {
    directory: "strongswan6",
    sign: "usr/lib/ipsec/charon",
    suite: "sid",
    packages: "strongswan-charon,strongswan-swanctl,libcharon-extra-plugins,libstrongswan-standard-plugins",
}];

/// The task: installs what is missing and runs the cases whose names contain one of `filters`, or all: deliberate
/// mismatches and printed configurations first, then the matrix.
pub fn run(filters: &[String]) -> anyhow::Result<()> {
    packages::require_root("making networks")?;
    packages::ensure(Set::Test)?;
    // The matrix last: its count is the end of the output.
    let outcomes = ["memory", "mismatches", "peer_config", "matrix"].map(|program| {
        let fixed = [
            "test",
            "--quiet",
            "--locked",
            "--package",
            "isthmus-interop",
            "--test",
        ];
        let filters = filters.iter().map(String::as_str);
        command::run(&mut cargo(
            fixed.into_iter().chain([program, "--"]).chain(filters),
        ))
    });
    outcomes.into_iter().collect()
}

/// The package of this machine's own release that cannot be installed beside strongSwan's: unpacked with the libraries
/// that the machine lacks.
const LIBRESWAN: &str = "libreswan";

/// Makes the peers' systems that are missing.
pub fn ensure_peers() -> anyhow::Result<()> {
    let directory = Path::new(CACHE).join(LIBRESWAN);
    if !directory.join("usr/libexec/ipsec/pluto").exists() {
        packages::require_root(&format!("making {}", directory.display()))?;
        unpack(&directory)?;
    }
    for peer in PEERS {
        let directory = Path::new(CACHE).join(peer.directory);
        if !directory.join(peer.sign).exists() {
            packages::require_root(&format!("making {}", directory.display()))?;
            make(peer, &directory)?;
        }
    }
    Ok(())
}

fn make(peer: &Peer, directory: &Path) -> anyhow::Result<()> {
    say(&format!(
        "making {} of Debian {} with {} (about 250 MB; remove it by hand when it is no longer wanted)",
        directory.display(),
        peer.suite,
        peer.packages
    ))?;
    fs::create_dir_all(CACHE).with_context(|| format!("making {CACHE}"))?;
    let unfinished = directory.with_extension("unfinished");
    for old in [&unfinished, directory] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
        }
    }
    run_command(
        Command::new("debootstrap")
            .args(["--variant=minbase", "--include", peer.packages, peer.suite])
            .arg(&unfinished)
            .arg(mirror()?)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    )?;
    fs::rename(&unfinished, directory).with_context(|| format!("naming {}", directory.display()))
}

fn unpack(directory: &Path) -> anyhow::Result<()> {
    say(&format!(
        "unpacking {LIBRESWAN} into {} (about 25 MB; remove it by hand when it is no longer wanted)",
        directory.display()
    ))?;
    let unfinished = directory.with_extension("unfinished");
    for old in [&unfinished, directory] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("removing {}", old.display()))?;
        }
    }
    let archives = unfinished.join("archives");
    fs::create_dir_all(archives.join("partial")).with_context(|| format!("making {}", archives.display()))?;
    packages::download(LIBRESWAN, &archives)?;
    for entry in fs::read_dir(&archives).with_context(|| format!("reading {}", archives.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run_command(
                Command::new("dpkg-deb")
                    .arg("--extract")
                    .arg(&path)
                    .arg(&unfinished),
            )?;
        }
    }
    fs::remove_dir_all(&archives).with_context(|| format!("removing {}", archives.display()))?;
    fs::rename(&unfinished, directory).with_context(|| format!("naming {}", directory.display()))
}

/// Where this machine gets Debian's packages from.
fn mirror() -> anyhow::Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)"])
        .args(["Created-By: Packages"])
        .stderr(Stdio::inherit())
        .output()
        .context("apt-get could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text
        .lines()
        .filter_map(|line| line.strip_prefix("Debian main "))
        .find(|uri| !uri.contains("security"));
    match found {
        Some(uri) => Ok(uri.trim_end_matches('/').to_owned()),
        None => bail!("this machine gets no packages from Debian: {text}"),
    }
}
