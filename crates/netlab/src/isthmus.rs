//! Our own tunnel daemon as a process in a gateway's namespace, with the TUN device, routes and never-in-clear guard that
//! the host agent would give it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_hostplan::tunnel::{RekeyedSas, TunnelReply, TunnelRequest};
use isthmus_hostplan::{
    ConnectionPlan, ConnectionReport, DpdAction, EstablishMode, GatewayTunnels, IkeIdentity, PeerEndpoint,
    TunnelPlan, TunnelReport, TunnelState,
};
use isthmus_types::{Cidr, IkeVersion, ResourceBits, Secret, TunnelOptions, VpnConnectionId, VpnGatewayId};
use tempfile::TempDir;

use crate::node::{Node, Running};
use crate::patience::{eventually, holds, stretched};
use crate::proposal;
use crate::strongswan::LOG_TAIL;
use crate::topology::{Family, Site};

/// Name of the TUN device in the gateway's namespace.
pub const TUN: &str = "tun0";

/// MTU of the links between gateways that inner packets are made to fit, bytes.
const LINK_MTU: u16 = 1500;
/// What an IPv6 header has more than one of IPv4, bytes.
const LARGER_HEADER: u16 = 20;

/// How to start the daemon: a program and the arguments before `--socket PATH`.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Arguments that make it a tunnel daemon.
    pub arguments: Vec<String>,
}

/// A connection from `here` to `there` over all their subnets, each identified by its address. It may be brought up from
/// either end, lives for hours, and probes a silent peer after 10 s.
///
/// # Errors
/// When a proposal is not understood; see [`proposal`].
pub fn connection_between(
    here: &Site,
    there: &Site,
    psk: &str,
    ike: &str,
    esp: &str,
) -> Result<ConnectionPlan> {
    Ok(ConnectionPlan {
        connection: VpnConnectionId::from(ResourceBits::from_random(1)),
        name: "connection".to_owned(),
        admin_up: true,
        reset_count: 0,
        version: IkeVersion::V2,
        peer: PeerEndpoint::Address {
            address: there.public_address.into(),
        },
        local_identity: IkeIdentity::Address(here.address.into()),
        peer_identity: IkeIdentity::Address(there.address.into()),
        psk: Secret::new(psk.to_owned()),
        establish: EstablishMode::Bidirectional,
        ike_proposals: vec![proposal::ike(ike)?],
        esp_proposals: vec![proposal::esp(esp)?],
        local_cidrs: here.subnets(),
        peer_cidrs: there.subnets(),
        ike_lifetime_seconds: 28_800,
        esp_lifetime_seconds: 3_600,
        dpd_action: DpdAction::Restart,
        dpd_interval_seconds: 10,
        dpd_timeout_seconds: 30,
        force_encapsulation: true,
        options: TunnelOptions::default(),
    })
}

/// The family that a connection's packets between the gateways have.
const fn family_outside(connection: &ConnectionPlan) -> Family {
    match connection.peer {
        PeerEndpoint::Address {
            address: IpAddr::V6(_),
        } => Family::V6,
        PeerEndpoint::Address {
            address: IpAddr::V4(_),
        }
        | PeerEndpoint::Anywhere
        | PeerEndpoint::Name { .. } => Family::V4,
    }
}

/// A tunnel daemon with one gateway. Dropping it kills the daemon without a word to its peers.
#[derive(Debug)]
pub struct Isthmus {
    node: Node,
    program: Program,
    plan: TunnelPlan,
    daemon: Option<Running>,
    directory: TempDir,
}

impl Isthmus {
    /// Prepares the gateway of `site` for `connections` and starts the daemon with that plan.
    ///
    /// # Errors
    /// When the gateway cannot be prepared, or the daemon does not come up or refuses the plan.
    pub fn start(program: Program, site: &Site, connections: Vec<ConnectionPlan>) -> Result<Self> {
        let outside = connections.first().map_or(Family::V4, family_outside);
        let link_mtu = match outside {
            Family::V4 => LINK_MTU,
            Family::V6 => LINK_MTU - LARGER_HEADER,
        };
        let mtu = connections
            .iter()
            .flat_map(|connection| &connection.esp_proposals)
            .map(|esp| proposal::inner_mtu(esp, link_mtu))
            .min()
            .context("no connection with an ESP proposal")?;
        let plan = TunnelPlan {
            gateways: vec![GatewayTunnels {
                gateway: VpnGatewayId::from(ResourceBits::from_random(1)),
                name: "gateway".to_owned(),
                namespace: site.gateway.namespace().to_owned(),
                tun: TUN.to_owned(),
                public_address: site.address_of(outside),
                other_address: None,
                key_log: None,
                mtu,
                connections,
            }],
        };
        let mut isthmus = Self {
            node: site.gateway.clone(),
            program,
            plan,
            daemon: None,
            directory: tempfile::Builder::new().prefix("istlab-tunneld-").tempdir()?,
        };
        isthmus.prepare_gateway(mtu)?;
        isthmus.restart()?;
        Ok(isthmus)
    }

    /// Starts the daemon again after [`Isthmus::kill`] and gives it its plan.
    ///
    /// # Errors
    /// When it runs, does not come up or refuses the plan.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the tunnel daemon runs");
        let _ = fs::remove_file(self.socket());
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))?;
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.arguments)
            .arg("--socket")
            .arg(self.socket())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", self.program.path.display()))?;
        let mut daemon = Running::adopt("the tunnel daemon".to_owned(), child);
        let listening = eventually("the tunnel daemon's socket", || {
            if !daemon.is_alive()? {
                return Ok(false);
            }
            UnixStream::connect(self.socket())?;
            Ok(true)
        })
        .with_context(|| self.log_tail())?;
        ensure!(listening, "the tunnel daemon ended at once: {}", self.log_tail());
        self.daemon = Some(daemon);
        self.apply()
    }

    /// Changes the plan's connections and gives it to the daemon.
    ///
    /// # Errors
    /// When the daemon refuses it.
    pub fn change(&mut self, change: impl FnOnce(&mut Vec<ConnectionPlan>)) -> Result<()> {
        change(&mut self.plan.gateways[0].connections);
        self.apply()
    }

    /// Makes the daemon write the keys of the SAs to come into `directory`, or none any more.
    ///
    /// # Errors
    /// When the daemon refuses the plan.
    pub fn log_keys(&mut self, directory: Option<PathBuf>) -> Result<()> {
        self.plan.gateways[0].key_log = directory;
        self.apply()
    }

    /// Makes the daemon replace SAs of its first connection now.
    ///
    /// # Errors
    /// When it does not answer or has no connection.
    pub fn rekey(&self, sas: RekeyedSas) -> Result<()> {
        let connection = self.plan.gateways[0]
            .connections
            .first()
            .context("the plan has no connection")?
            .connection;
        match self.ask(&TunnelRequest::Rekey { connection, sas })? {
            TunnelReply::Applied => Ok(()),
            other @ (TunnelReply::Report { .. } | TunnelReply::Refused { .. }) => {
                bail!("the tunnel daemon answered {other:?}")
            }
        }
    }

    /// What the daemon reports.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn report(&self) -> Result<TunnelReport> {
        match self.ask(&TunnelRequest::Report)? {
            TunnelReply::Report { report } => Ok(report),
            other @ (TunnelReply::Applied | TunnelReply::Refused { .. }) => {
                bail!("the tunnel daemon answered {other:?}")
            }
        }
    }

    /// The report of its first connection.
    ///
    /// # Errors
    /// When the daemon does not answer or has no connection.
    pub fn connection(&self) -> Result<ConnectionReport> {
        self.report()?
            .connections
            .into_iter()
            .next()
            .context("the tunnel daemon reports no connection")
    }

    /// Waits until its first connection is up.
    ///
    /// # Errors
    /// When it is not in the usual time: with the last state.
    pub fn wait_until_up(&self) -> Result<ConnectionReport> {
        eventually("our connection to be up", || {
            let connection = self.connection()?;
            holds(connection.state == TunnelState::Up, || {
                format!("it is {:?}", connection.state)
            })?;
            Ok(connection)
        })
        .with_context(|| self.log_tail())
    }

    /// Kills the daemon with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon
            .take()
            .context("the tunnel daemon does not run")?
            .kill()
    }

    /// Asks the daemon to delete its SAs at their peers and to end, and waits for that.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the tunnel daemon does not run")?;
        self.send(&TunnelRequest::Stop)?;
        let status = daemon.wait().with_context(|| self.log_tail())?;
        ensure!(
            status.success(),
            "the tunnel daemon ended with {status}: {}",
            self.log_tail()
        );
        Ok(())
    }

    /// The running daemon.
    pub const fn daemon(&mut self) -> Option<&mut Running> {
        self.daemon.as_mut()
    }

    /// The last lines of the daemon's log, for the report of a failure.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.len().saturating_sub(LOG_TAIL);
        format!(
            "log of the tunnel daemon in {}:\n{}",
            self.node.namespace(),
            lines[tail..].join("\n")
        )
    }

    fn prepare_gateway(&self, mtu: u16) -> Result<()> {
        let ranges: Vec<Cidr> = self
            .plan
            .gateways
            .iter()
            .flat_map(|gateway| &gateway.connections)
            .flat_map(|connection| connection.peer_cidrs.iter().copied())
            .collect();
        self.node.ip([
            format!("tuntap add dev {TUN} mode tun"),
            format!("link set {TUN} mtu {mtu} txqueuelen 2000 up"),
        ]
        .into_iter()
        .chain(ranges.iter().map(|range| format!("route add {range} dev {TUN}"))))?;
        for (family, word) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
            let set: Vec<String> = ranges
                .iter()
                .filter(|range| range.network().is_ipv4() == (family == Family::V4))
                .map(Cidr::to_string)
                .collect();
            if set.is_empty() {
                continue;
            }
            let set = set.join(", ");
            self.node.nft(&format!(
                "table {word} never_in_clear {{
                    chain forward {{
                        type filter hook forward priority filter;
                        oifname != {TUN} {word} daddr {{ {set} }} counter drop
                        iifname != {TUN} {word} saddr {{ {set} }} counter drop
                    }}
                    chain output {{
                        type filter hook output priority filter;
                        oifname != {TUN} {word} daddr {{ {set} }} counter drop
                    }}
                }}"
            ))?;
        }
        Ok(())
    }

    fn apply(&self) -> Result<()> {
        match self.ask(&TunnelRequest::Apply {
            plan: self.plan.clone(),
        })? {
            TunnelReply::Applied => Ok(()),
            other @ (TunnelReply::Report { .. } | TunnelReply::Refused { .. }) => {
                bail!("the tunnel daemon answered {other:?}: {}", self.log_tail())
            }
        }
    }

    fn ask(&self, request: &TunnelRequest) -> Result<TunnelReply> {
        let mut line = String::new();
        let length = BufReader::new(self.send(request)?).read_line(&mut line)?;
        ensure!(
            length > 0,
            "the tunnel daemon closed its socket: {}",
            self.log_tail()
        );
        Ok(serde_json::from_str(&line)?)
    }

    fn send(&self, request: &TunnelRequest) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(stretched(Duration::from_secs(20))))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        Ok(stream)
    }

    fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(self.directory.path()).join(file)
    }
}
