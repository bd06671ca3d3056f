//! The strongSwan of the distribution as a peer: its `charon` daemon with userspace ESP (`kernel-libipsec`, a TUN device
//! `ipsec0`), which always encapsulates ESP in UDP.
//!
//! Several run side by side: each has its own configuration, control socket and log in a directory of its own, and sees
//! that directory in place of `/run`. Nothing is started by time: rekeys and deletes happen when asked for.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_types::{Cidr, Secret};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::node::{Node, Running};
use crate::patience::{eventually, holds, stretched};
use crate::topology::Site;
use crate::vici::Vici;

/// Lines of a daemon's log that the report of a failure shows.
pub(crate) const LOG_TAIL: usize = 200;
const CHARON: &str = "/usr/lib/ipsec/charon";

/// Every plugin that a PSK gateway needs. The order is the order of preference among implementations of an algorithm;
/// `kernel-libipsec` must stand before `kernel-netlink` to take over ESP from it.
const PLUGINS: &str = "random nonce openssl aes sha1 sha2 md5 hmac kdf gcm gmp curve25519 chapoly pem pkcs1 pkcs8 \
                       x509 pubkey constraints socket-default kernel-libipsec kernel-netlink updown vici counters";

/// One connection of a [`StrongSwan`], with one Child SA that takes all ranges.
#[derive(Clone, Debug)]
pub struct SwanConnection {
    /// Its own address.
    pub local: Ipv4Addr,
    /// The peer's address.
    pub remote: Ipv4Addr,
    /// Identity that it presents.
    pub local_id: String,
    /// Identity that the peer must present.
    pub remote_id: String,
    /// The shared key.
    pub psk: Secret,
    /// IKE proposals in strongSwan's words, such as `aes128gcm16-prfsha256-x25519`.
    pub ike_proposals: Vec<String>,
    /// ESP proposals in strongSwan's words, such as `aes128gcm16` or, with PFS, `aes128gcm16-x25519`.
    pub esp_proposals: Vec<String>,
    /// Ranges on its side.
    pub local_ranges: Vec<Cidr>,
    /// Ranges on the peer's side.
    pub remote_ranges: Vec<Cidr>,
    /// Seconds of silence before it probes the peer; 0 means never.
    pub dpd_delay_seconds: u32,
}

impl SwanConnection {
    /// A connection from `here` to `there` over all their subnets, each identified by its address.
    pub fn between(here: &Site, there: &Site, psk: &str, ike: &str, esp: &str) -> Self {
        Self {
            local: here.address,
            remote: there.public_address,
            local_id: here.address.to_string(),
            remote_id: there.address.to_string(),
            psk: Secret::new(psk.to_owned()),
            ike_proposals: vec![ike.to_owned()],
            esp_proposals: vec![esp.to_owned()],
            local_ranges: here.subnets(),
            remote_ranges: there.subnets(),
            dpd_delay_seconds: 0,
        }
    }
}

/// An IKE SA as strongSwan lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwanIkeSa {
    /// `ESTABLISHED`, `CONNECTING`, `REKEYED`, …
    pub state: String,
    /// SPI of the original initiator, hexadecimal.
    pub initiator_spi: String,
    /// SPI of the original responder, hexadecimal.
    pub responder_spi: String,
    /// Algorithms: encryption with key length, integrity if any, PRF, group.
    pub suite: String,
    /// Its Child SAs.
    pub children: Vec<SwanChildSa>,
}

/// A Child SA as strongSwan lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwanChildSa {
    /// `INSTALLED`, `REKEYING`, `REKEYED`, `DELETED`, …
    pub state: String,
    /// SPI that it receives on, hexadecimal.
    pub inbound_spi: String,
    /// SPI that it sends with, hexadecimal.
    pub outbound_spi: String,
    /// Algorithms: encryption with key length, integrity if any, PFS group if any was used.
    pub suite: String,
    /// Ranges on its side.
    pub local_ranges: Vec<String>,
    /// Ranges on the peer's side.
    pub remote_ranges: Vec<String>,
}

/// A charon daemon in a gateway's namespace. Dropping it kills the daemon without a word to its peer.
#[derive(Debug)]
pub struct StrongSwan {
    node: Node,
    connections: Vec<SwanConnection>,
    charon: Option<Running>,
    directory: TempDir,
}

impl StrongSwan {
    /// Starts it in `node` with one connection. It negotiates nothing by itself.
    ///
    /// # Errors
    /// When the package is missing, or the daemon does not come up or refuses the connection.
    pub fn start(node: &Node, connection: SwanConnection) -> Result<Self> {
        crate::require()?;
        let mut swan = Self {
            node: node.clone(),
            connections: vec![connection],
            charon: None,
            directory: tempfile::Builder::new().prefix("istlab-swan-").tempdir()?,
        };
        fs::DirBuilder::new().mode(0o700).create(swan.run_directory())?;
        fs::write(swan.path("strongswan.conf"), swan.daemon_configuration())?;
        swan.restart()?;
        Ok(swan)
    }

    /// Starts the daemon again after [`StrongSwan::kill`].
    ///
    /// # Errors
    /// When it runs, does not come up or refuses the connection.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.charon.is_none(), "charon runs");
        let _ = fs::remove_file(self.socket());
        self.charon = Some(self.launch()?);
        eventually("charon's control socket", || {
            self.vici()?.command("version", &json!({}))
        })
        .with_context(|| self.log_tail())?;
        for connection in self.connections.clone() {
            self.load(&connection)?;
        }
        Ok(())
    }

    /// Kills the daemon with SIGKILL: its peer hears nothing, its TUN device and SAs are gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.charon.take().context("charon does not run")?.kill()
    }

    /// Ends the daemon in good order: its peer gets a DELETE.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.charon.take().context("charon does not run")?.terminate()?;
        Ok(())
    }

    /// Replaces the connection's definition; SAs stay as they are.
    ///
    /// # Errors
    /// When the daemon refuses it.
    pub fn reload(&mut self, connection: SwanConnection) -> Result<()> {
        self.load(&connection)?;
        self.connections = vec![connection];
        Ok(())
    }

    /// Brings the connection up as initiator and waits until it is.
    ///
    /// # Errors
    /// When the negotiation fails.
    pub fn initiate(&self) -> Result<()> {
        let arguments = json!({"ike": "gw", "child": "net", "timeout": "15000"});
        self.act("initiate", &arguments)
    }

    /// Starts bringing the connection up as initiator and does not wait.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn start_initiating(&self) -> Result<()> {
        self.act("initiate", &json!({"ike": "gw", "child": "net", "timeout": "-1"}))
    }

    /// Starts a rekey of the Child SA.
    ///
    /// # Errors
    /// When there is none.
    pub fn rekey_child(&self) -> Result<()> {
        self.act("rekey", &json!({"child": "net"}))
    }

    /// Starts a rekey of the IKE SA.
    ///
    /// # Errors
    /// When there is none.
    pub fn rekey_ike(&self) -> Result<()> {
        self.act("rekey", &json!({"ike": "gw"}))
    }

    /// Deletes the IKE SA with its children and waits for the peer's answer.
    ///
    /// # Errors
    /// When there is none or the peer does not answer.
    pub fn terminate(&self) -> Result<()> {
        self.act("terminate", &json!({"ike": "gw", "timeout": "10000"}))
    }

    /// Deletes the Child SA alone and waits for the peer's answer.
    ///
    /// # Errors
    /// When there is none or the peer does not answer.
    pub fn terminate_child(&self) -> Result<()> {
        self.act("terminate", &json!({"child": "net", "timeout": "10000"}))
    }

    /// Every SA that it has, in any state.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn sas(&self) -> Result<Vec<SwanIkeSa>> {
        let events = self.vici()?.stream("list-sas", "list-sa", &json!({}))?;
        Ok(events
            .iter()
            .filter_map(Value::as_object)
            .flat_map(|event| event.values())
            .map(ike_sa)
            .collect())
    }

    /// The one established IKE SA with its one installed Child SA: what is there when nothing is going on.
    ///
    /// # Errors
    /// When there is anything more or less.
    pub fn settled(&self) -> Result<(SwanIkeSa, SwanChildSa)> {
        let sas = self.sas()?;
        match sas.as_slice() {
            [ike] if ike.state == "ESTABLISHED" => match ike.children.as_slice() {
                [child] if child.state == "INSTALLED" => Ok((ike.clone(), child.clone())),
                _ => bail!("the peer has child SAs {:?}", ike.children),
            },
            _ => bail!("the peer has IKE SAs {sas:?}"),
        }
    }

    /// Waits until there is no SA of any kind.
    ///
    /// # Errors
    /// When there is one after the usual time.
    pub fn wait_for_none(&self) -> Result<()> {
        eventually("an empty SA list at the peer", || {
            let sas = self.sas()?;
            holds(sas.is_empty(), || format!("the peer has {sas:?}"))
        })
    }

    /// The daemon's log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("charon.log")).unwrap_or_default()
    }

    /// The last lines of the daemon's log, for the report of a failure.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("vici client")).collect();
        let tail = lines.len().saturating_sub(LOG_TAIL);
        format!(
            "log of strongSwan in {}:\n{}",
            self.node.namespace(),
            lines[tail..].join("\n")
        )
    }

    fn act(&self, command: &str, arguments: &Value) -> Result<()> {
        self.vici()?
            .command(command, arguments)
            .map(drop)
            .with_context(|| self.log_tail())
    }

    fn load(&self, connection: &SwanConnection) -> Result<()> {
        let mut vici = self.vici()?;
        vici.command("clear-creds", &json!({}))?;
        vici.command(
            "load-shared",
            &json!({"type": "IKE", "data": connection.psk.reveal(), "owners": [connection.local_id, connection.remote_id]}),
        )?;
        let texts = |ranges: &[Cidr]| -> Vec<String> { ranges.iter().map(Cidr::to_string).collect() };
        let definition = json!({"gw": {
            "version": "2",
            "local_addrs": [connection.local.to_string()],
            "remote_addrs": [connection.remote.to_string()],
            "proposals": connection.ike_proposals,
            "encap": "yes",
            "mobike": "no",
            "rekey_time": "0",
            "reauth_time": "0",
            "dpd_delay": format!("{}s", connection.dpd_delay_seconds),
            "local": {"auth": "psk", "id": connection.local_id},
            "remote": {"auth": "psk", "id": connection.remote_id},
            "children": {"net": {
                "local_ts": texts(&connection.local_ranges),
                "remote_ts": texts(&connection.remote_ranges),
                "esp_proposals": connection.esp_proposals,
                "rekey_time": "0",
                "rekey_bytes": "0",
                "rekey_packets": "0",
                "dpd_action": "clear",
            }},
        }});
        vici.command("load-conn", &definition)?;
        Ok(())
    }

    // The thread's own view of the file system ends with it; the daemon, started from it, keeps that view.
    fn launch(&self) -> Result<Running> {
        let run = self.run_directory();
        let mut command = Command::new(CHARON);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("STRONGSWAN_CONF", self.path("strongswan.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = self.node.run(|| -> Result<_> {
            unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace for charon")?;
            let nothing = None::<&str>;
            mount(
                nothing,
                "/",
                nothing,
                MsFlags::MS_PRIVATE | MsFlags::MS_REC,
                nothing,
            )
            .context("making its mounts private")?;
            mount(Some(&run), "/run", nothing, MsFlags::MS_BIND, nothing)
                .context("giving it its own /run")?;
            Ok(command.spawn()?)
        })??;
        Ok(Running::adopt("charon".to_owned(), child))
    }

    fn daemon_configuration(&self) -> String {
        format!(
            "charon {{
    load = {PLUGINS}
    install_routes = yes
    install_virtual_ip = no
    retransmit_tries = 4
    retransmit_timeout = 1.0
    retransmit_base = 1.5
    retry_initiate_interval = 0
    delete_rekeyed_delay = 2
    plugins {{
        vici {{ socket = unix://{socket} }}
        kernel-libipsec {{ allow_peer_ts = no }}
    }}
    filelog {{
        main {{ path = {log}; time_format = %T; time_add_ms = yes; append = yes; flush_line = yes; default = 1; cfg = 1; }}
    }}
}}
",
            socket = self.socket().display(),
            log = self.path("charon.log").display(),
        )
        .replace("; ", "\n        ")
    }

    fn vici(&self) -> Result<Vici> {
        Vici::connect(&self.socket(), stretched(Duration::from_secs(20)))
    }

    fn socket(&self) -> PathBuf {
        self.path("charon.vici")
    }

    fn run_directory(&self) -> PathBuf {
        self.path("run")
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }
}

fn ike_sa(value: &Value) -> SwanIkeSa {
    SwanIkeSa {
        state: text(&value["state"]),
        initiator_spi: text(&value["initiator-spi"]),
        responder_spi: text(&value["responder-spi"]),
        suite: suite(value, &["prf-alg", "dh-group"]),
        children: value["child-sas"]
            .as_object()
            .into_iter()
            .flat_map(|children| children.values())
            .map(|child| SwanChildSa {
                state: text(&child["state"]),
                inbound_spi: text(&child["spi-in"]),
                outbound_spi: text(&child["spi-out"]),
                suite: suite(child, &["dh-group"]),
                local_ranges: texts(&child["local-ts"]),
                remote_ranges: texts(&child["remote-ts"]),
            })
            .collect(),
    }
}

fn suite(value: &Value, rest: &[&str]) -> String {
    let mut words = vec![format!(
        "{}_{}",
        text(&value["encr-alg"]),
        text(&value["encr-keysize"])
    )];
    words.extend(
        ["integ-alg"]
            .iter()
            .chain(rest)
            .filter_map(|key| value[*key].as_str())
            .map(str::to_owned),
    );
    words.join("/")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}
