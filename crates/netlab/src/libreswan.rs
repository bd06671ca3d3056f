//! Libreswan as a peer: its `pluto` daemon, taken from a directory of its own because its package excludes strongSwan's.
//!
//! A kernel without ESP installs none of its Child SAs, and it has no userspace ESP: only its IKE can be tested.

mod nss;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_types::{Cidr, DhGroup, Encryption, IkeVersion, Integrity, Prf};
use tempfile::TempDir;

use self::nss::KeyKind;
use crate::mounts;
use crate::node::{Node, Running};
use crate::patience::eventually;
use crate::strongswan::{LOG_TAIL, SwanConnection};

/// Where `cargo xtask packages` unpacks libreswan and the libraries that it needs. It is ours; remove it by hand when it is
/// no longer wanted.
pub const LIBRESWAN_ROOT: &str = "/var/cache/isthmus/libreswan";

/// The store of certificates in pluto's directory.
const STORE: &str = "nss";

/// A pluto daemon in a gateway's namespace. Dropping it kills the daemon without a word to its peer.
#[derive(Debug)]
pub struct Libreswan {
    node: Node,
    directory: TempDir,
    // After the directory's user.
    _pluto: Running,
}

impl Libreswan {
    /// Starts it in `node` with one connection, described as for strongSwan. It negotiates nothing by itself.
    ///
    /// # Errors
    /// When libreswan is missing, or the daemon does not come up or refuses the connection.
    pub fn start(node: &Node, connection: &SwanConnection) -> Result<Self> {
        let directory = directory()?;
        let (proof, secrets) = match &connection.certificate {
            None => {
                let secrets = format!(
                    "{} {} : PSK \"{}\"\n",
                    identity(&connection.local_id),
                    identity(&connection.remote_id),
                    connection.psk.reveal()
                );
                ("authby=secret".to_owned(), secrets)
            }
            Some(certificate) => {
                let method = match nss::fill(&directory.path().join(STORE), certificate)? {
                    KeyKind::Ecdsa => "ecdsa",
                    KeyKind::Rsa => "rsasig",
                };
                // Whoever does not know the authorities between is told of them.
                let proof = format!("authby={method}\n    leftcert={}\n    sendca=all", nss::NICKNAME);
                (proof, String::new())
            }
        };
        let configuration = format!(
            "config setup\n    ikev1-policy=accept\n{}",
            definition(connection, &proof)?
        );
        Self::start_in(node, directory, &configuration, &secrets)
    }

    /// Starts it in `node` with the text of an `ipsec.conf`, whose connection is `gw`, and of an `ipsec.secrets`.
    ///
    /// # Errors
    /// As [`Libreswan::start`].
    pub fn start_files(node: &Node, configuration: &str, secrets: &str) -> Result<Self> {
        Self::start_in(node, directory()?, configuration, secrets)
    }

    fn start_in(node: &Node, directory: TempDir, configuration: &str, secrets: &str) -> Result<Self> {
        let path = |file: &str| directory.path().join(file);
        fs::write(path("ipsec.conf"), configuration)?;
        fs::write(path("ipsec.secrets"), secrets)?;
        let mut command = isolated(program("pluto"));
        command
            .args(["--nofork", "--no-dnssec", "--nhelpers", "1"])
            .arg("--config")
            .arg(path("ipsec.conf"))
            .arg("--rundir")
            .arg(directory.path())
            .arg("--nssdir")
            .arg(path(STORE))
            .arg("--ipsecdir")
            .arg(directory.path())
            .arg("--secretsfile")
            .arg(path("ipsec.secrets"))
            .arg("--logfile")
            .arg(path("log"));
        let child = node.run(|| -> Result<_> {
            see_its_programs()?;
            Ok(command.spawn()?)
        })??;
        let pluto = Running::adopt("pluto".to_owned(), child);
        let libreswan = Self {
            node: node.clone(),
            directory,
            _pluto: pluto,
        };
        eventually("pluto's control socket", || {
            libreswan.whack(&["--status"]).map(drop)
        })
        .with_context(|| libreswan.log_tail())?;
        let mut add = isolated(program("addconn"));
        add.arg("--config")
            .arg(libreswan.path("ipsec.conf"))
            .arg("--ctlsocket")
            .arg(libreswan.path("pluto.ctl"))
            .arg("gw");
        libreswan.ask(add)?;
        libreswan.until_logged(&["\"gw", "\": added IKEv"])?;
        libreswan.whack(&["--listen"])?;
        Ok(libreswan)
    }

    /// Starts bringing the connection up as initiator and does not wait.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn start_initiating(&self) -> Result<()> {
        self.whack(&["--initiate", "--name", "gw", "--asynchronous"])
            .map(drop)
    }

    /// Waits until its log has a line with all of `words`, and yields the line.
    ///
    /// # Errors
    /// When there is none in the usual time.
    pub fn until_logged(&self, words: &[&str]) -> Result<String> {
        eventually(&format!("{words:?} in pluto's log"), || {
            let log = self.log();
            let found = log
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            found.map(str::to_owned).context("no such line")
        })
        .with_context(|| self.log_tail())
    }

    /// The last lines of the daemon's log, for the report of a failure.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.len().saturating_sub(LOG_TAIL);
        format!(
            "log of libreswan in {}:\n{}",
            self.node.namespace(),
            lines[tail..].join("\n")
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn whack(&self, arguments: &[&str]) -> Result<String> {
        let mut command = isolated(program("whack"));
        command
            .arg("--ctlsocket")
            .arg(self.path("pluto.ctl"))
            .args(arguments);
        self.ask(command)
    }

    // What whack itself exits with is the state of a negotiation; what counts here is whether the daemon answered.
    fn ask(&self, mut command: Command) -> Result<String> {
        let output = command.output()?;
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        if text.contains("is not running") || text.contains("failed") {
            bail!("{command:?}: {text}");
        }
        Ok(text)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}

/// A directory for pluto with an empty store.
fn directory() -> Result<TempDir> {
    crate::require()?;
    ensure!(
        program("pluto").exists(),
        "{} is missing: run cargo xtask packages test",
        program("pluto").display()
    );
    let directory = tempfile::Builder::new().prefix("istlab-pluto-").tempdir()?;
    nss::make(&directory.path().join(STORE))?;
    Ok(directory)
}

fn program(name: &str) -> PathBuf {
    Path::new(LIBRESWAN_ROOT).join("usr/libexec/ipsec").join(name)
}

/// A command that finds the libraries beside it.
fn isolated(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env(
            "LD_LIBRARY_PATH",
            Path::new(LIBRESWAN_ROOT).join("usr/lib/x86_64-linux-gnu"),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Lets the calling thread, and what it starts, see libreswan's programs where pluto looks for them.
fn see_its_programs() -> Result<()> {
    mounts::make_own()?;
    mounts::show(
        &Path::new(LIBRESWAN_ROOT).join("usr/libexec"),
        Path::new("/usr/libexec"),
    )
}

fn definition(connection: &SwanConnection, proof: &str) -> Result<String> {
    let first = |ranges: &[Cidr]| ranges.first().map(Cidr::to_string).context("no range");
    let words = |texts: &[String], protocol: Protocol| {
        texts
            .iter()
            .map(|text| suite(text, protocol))
            .collect::<Result<Vec<_>>>()
            .map(|suites| suites.join(","))
    };
    let pfs = connection
        .esp_proposals
        .iter()
        .any(|text| text.split('-').any(|word| DhGroup::from_word(word).is_some()));
    Ok(format!(
        "conn gw
    left={local}
    right={remote}
    leftid={local_id}
    rightid={remote_id}
    leftsubnet={near}
    rightsubnet={far}
    {proof}
    ikev2={version}
    ike={ike}
    esp={esp}
    pfs={pfs}
    rekey=no
    auto=add
",
        local = connection.local,
        remote = connection.remote,
        local_id = identity(&connection.local_id),
        remote_id = identity(&connection.remote_id),
        near = first(&connection.local_ranges)?,
        far = first(&connection.remote_ranges)?,
        version = match connection.version {
            IkeVersion::V1 => "no",
            IkeVersion::V2 => "insist",
        },
        ike = words(&connection.ike_proposals, Protocol::Ike)?,
        esp = words(&connection.esp_proposals, Protocol::Esp)?,
        pfs = if pfs { "yes" } else { "no" },
    ))
}

/// An address as it is; a name is marked, or it would be looked up.
fn identity(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => format!("@{text}"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Esp,
    Ike,
}

/// A proposal in libreswan's words: cipher, hash or pseudo-random function, group. The hash of an AEAD in ESP is `null`.
fn suite(text: &str, protocol: Protocol) -> Result<String> {
    let mut words = Vec::new();
    let aead = text
        .split('-')
        .filter_map(Encryption::from_word)
        .any(Encryption::is_aead);
    for word in text.split('-') {
        if let Some(cipher) = Encryption::from_word(word) {
            words.push(match cipher.word() {
                "chacha20poly1305" => "chacha20_poly1305".to_owned(),
                gcm if gcm.ends_with("gcm16") => gcm.replacen("aes", "aes_gcm", 1).replace("gcm16", ""),
                other => other.to_owned(),
            });
            if aead && protocol == Protocol::Esp {
                words.push("null".to_owned());
            }
        } else if let Some(hash) = Integrity::from_word(word) {
            words.push(hash_word(hash.word()).to_owned());
        } else if let Some(prf) = Prf::from_word(word) {
            // Otherwise the hash says it.
            if aead {
                words.push(hash_word(prf.word().trim_start_matches("prf")).to_owned());
            }
        } else if let Some(group) = DhGroup::from_word(word) {
            words.push(
                match group {
                    DhGroup::Ecp256 => "dh19",
                    DhGroup::Ecp384 => "dh20",
                    DhGroup::Ecp521 => "dh21",
                    DhGroup::X25519 => "dh31",
                    DhGroup::Modp1024
                    | DhGroup::Modp1536
                    | DhGroup::Modp2048
                    | DhGroup::Modp3072
                    | DhGroup::Modp4096
                    | DhGroup::Modp6144
                    | DhGroup::Modp8192 => group.word(),
                }
                .to_owned(),
            );
        } else {
            bail!("libreswan has no word for {word:?}");
        }
    }
    Ok(words.join("-"))
}

fn hash_word(word: &str) -> &str {
    match word {
        "sha256" => "sha2_256",
        "sha384" => "sha2_384",
        "sha512" => "sha2_512",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_in_its_words() {
        for (protocol, ours, theirs) in [
            (
                Protocol::Ike,
                "aes256-sha256-prfsha256-ecp256",
                "aes256-sha2_256-dh19",
            ),
            (
                Protocol::Ike,
                "aes128gcm16-prfsha512-x25519",
                "aes_gcm128-sha2_512-dh31",
            ),
            (Protocol::Ike, "3des-sha1-prfsha1-modp1536", "3des-sha1-modp1536"),
            (Protocol::Esp, "chacha20poly1305", "chacha20_poly1305-null"),
            (Protocol::Esp, "aes256gcm16-ecp256", "aes_gcm256-null-dh19"),
            (Protocol::Esp, "aes128-sha1", "aes128-sha1"),
        ] {
            assert_eq!(suite(ours, protocol).unwrap(), theirs);
        }
    }
}
