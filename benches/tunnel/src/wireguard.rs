//! A pair of wireguard-go processes, each with a TUN device in its gateway's namespace.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use isthmus_netlab::{Node, Running, Site, TwoSites, eventually};
use tempfile::TempDir;

const PORT: u16 = 51_820;
/// What a 1500-byte link leaves: outer IPv4 and UDP 28, type, receiver, counter and tag 32.
const MTU: u16 = 1440;

/// Both ends. Dropping it kills them.
pub struct WireGuard {
    #[expect(dead_code, reason = "held for its end")]
    ends: [Running; 2],
    #[expect(dead_code, reason = "held for its end")]
    directory: TempDir,
}

impl WireGuard {
    /// Starts `program` at both gateways of `sites` and joins all their subnets.
    ///
    /// # Errors
    /// When a program is missing or fails.
    pub fn start(program: &Path, sites: &TwoSites) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("istlab-wireguard-").tempdir()?;
        // Interfaces of all namespaces share one directory of control sockets.
        let name = |side: &str| format!("wg{side}{}", std::process::id() % 1_000_000);
        let (left, right) = (name("l"), name("r"));
        let near = Key::make(&sites.left.gateway, &directory.path().join("left"))?;
        let far = Key::make(&sites.right.gateway, &directory.path().join("right"))?;
        let ends = [
            start(program, &left, &near, &sites.left, &far, &sites.right)?,
            start(program, &right, &far, &sites.right, &near, &sites.left)?,
        ];
        Ok(Self { ends, directory })
    }
}

struct Key {
    file: String,
    public: String,
}

impl Key {
    fn make(node: &Node, file: &Path) -> Result<Self> {
        let private = node.command::<&str>("wg", &["genkey"])?;
        fs::write(file, &private)?;
        let public = node.command_with_input("wg", &["pubkey"], &private)?;
        Ok(Self {
            file: file.to_string_lossy().into_owned(),
            public: public.trim().to_owned(),
        })
    }
}

fn start(program: &Path, tun: &str, own: &Key, here: &Site, peer: &Key, there: &Site) -> Result<Running> {
    let node = &here.gateway;
    let mut command = Command::new(program);
    command
        .args(["--foreground", tun])
        .env("LOG_LEVEL", "error")
        // The environment's word for "I know that the kernel may have WireGuard": without it some builds only warn.
        .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let running = node.spawn(&mut command)?;
    let endpoint = format!("{}:{PORT}", there.public_address);
    let ranges: Vec<String> = there.subnets().iter().map(ToString::to_string).collect();
    let (port, allowed) = (PORT.to_string(), ranges.join(","));
    eventually("wireguard-go to take its configuration", || {
        node.command(
            "wg",
            &[
                "set",
                tun,
                "listen-port",
                &port,
                "private-key",
                &own.file,
                "peer",
                &peer.public,
                "endpoint",
                &endpoint,
                "allowed-ips",
                &allowed,
            ],
        )
    })
    .with_context(|| format!("{} in {}", program.display(), node.namespace()))?;
    node.ip([format!("link set {tun} mtu {MTU} txqueuelen 2000 up")]
        .into_iter()
        .chain(ranges.iter().map(|range| format!("route add {range} dev {tun}"))))?;
    Ok(running)
}
