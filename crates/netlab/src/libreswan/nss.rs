//! The store of certificates and private keys that pluto reads: a database of NSS.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{LIBRESWAN_ROOT, isolated};
use crate::strongswan::SwanCertificate;

/// What pluto's own certificate is called in its store.
pub(super) const NICKNAME: &str = "gw";
/// The file in which a certificate and its key are handed over must have a password.
const PASSWORD: &str = "on the way";

/// What a private key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Ecdsa,
    Rsa,
}

/// Makes an empty store in `directory`.
pub(super) fn make(directory: &Path) -> Result<()> {
    fs::create_dir(directory)?;
    run(tool("certutil", directory).args(["-N", "--empty-password"])).map(drop)
}

/// Puts an end's own certificate with its key, and whom it trusts, into the store in `directory`. Pluto does not see by itself what the
/// key is for.
pub(super) fn fill(directory: &Path, certificate: &SwanCertificate) -> Result<KeyKind> {
    let handover = tempfile::Builder::new().prefix("istlab-nss-").tempdir()?;
    let path = |file: &str| handover.path().join(file);
    fs::write(path("chain.pem"), certificate.chain.concat())?;
    fs::write(path("key.pem"), certificate.private_key.reveal())?;
    run(Command::new("openssl")
        .args(["pkcs12", "-export", "-in", "chain.pem", "-inkey", "key.pem"])
        .args(["-name", NICKNAME, "-passout"])
        .arg(format!("pass:{PASSWORD}"))
        .args(["-out", "own.p12"])
        .current_dir(handover.path())
        .stdin(Stdio::null()))?;
    run(tool("pk12util", directory)
        .arg("-i")
        .arg(path("own.p12"))
        .args(["-W", PASSWORD, "-K", ""]))?;
    for (number, authority) in certificate.authorities.iter().enumerate() {
        fs::write(path("authority.pem"), authority)?;
        run(tool("certutil", directory)
            .args(["-A", "-a", "-n", &format!("authority {number}")])
            .args(["-t", "CT,,", "-i"])
            .arg(path("authority.pem")))?;
    }
    let keys = run(tool("certutil", directory).arg("-K"))?;
    match keys
        .lines()
        .find_map(|line| line.strip_prefix("< 0> ")?.split_whitespace().next())
    {
        Some("ec") => Ok(KeyKind::Ecdsa),
        Some("rsa") => Ok(KeyKind::Rsa),
        Some(_) | None => bail!("the store has another key: {keys}"),
    }
}

fn tool(name: &str, directory: &Path) -> Command {
    let mut command = isolated(Path::new(LIBRESWAN_ROOT).join("usr/bin").join(name));
    command.arg("-d").arg(format!("sql:{}", directory.display()));
    command
}

/// What it prints.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{} could not be started", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{}: {}{}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
