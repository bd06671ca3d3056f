//! The gateway under test, and the crowd in front of it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use isthmus_hostplan::{ConnectionPlan, EstablishMode, IkeIdentity, PeerEndpoint};
use isthmus_netlab::isthmus::{Program, connection_between};
use isthmus_netlab::{Isthmus, Node, Running, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions};
use isthmus_types::{ResourceBits, VpnConnectionId};

use crate::crowd::Account;
use crate::layout;

/// A gateway and a place for a crowd.
pub struct Stage {
    sites: TwoSites,
}

/// The crowd at work.
pub struct Crowd {
    process: Running,
    input: Option<ChildStdin>,
}

impl Stage {
    /// Makes the place for up to `peers` peers.
    pub fn new(peers: u16) -> Result<Self> {
        let sites = TwoSites::new(TwoSitesOptions::default())?;
        sites
            .left
            .gateway
            .ip((0..peers).map(|number| format!("addr add {}/32 dev lo", layout::address(number))))?;
        sites
            .internet
            .ip([format!("route add {} via {}", layout::PEERS, sites.left.address)])?;
        Ok(Self { sites })
    }

    /// A connection to each of `peers` peers, from the gateway.
    pub fn plans(
        &self,
        peers: u16,
        ike: &str,
        esp: &str,
        establish: EstablishMode,
    ) -> Result<Vec<ConnectionPlan>> {
        let template = connection_between(&self.sites.right, &self.sites.left, layout::KEY, ike, esp)?;
        (0..peers)
            .map(|number| plan(&template, number, establish))
            .collect()
    }

    /// Starts our daemon with a connection to each of `peers` peers.
    pub fn isthmus(&self, peers: u16, ike: &str, esp: &str, establish: EstablishMode) -> Result<Isthmus> {
        let plans = self.plans(peers, ike, esp, establish)?;
        Isthmus::start(program()?, &self.sites.right, plans)
    }

    /// Starts strongSwan so that it takes any peer.
    pub fn strongswan(&self, ike: &str, esp: &str) -> Result<StrongSwan> {
        let mut connection =
            SwanConnection::between(&self.sites.right, &self.sites.left, layout::KEY, ike, esp);
        connection.remote = [0, 0, 0, 0].into();
        connection.remote_id = "%any".to_owned();
        connection.local_ranges = vec![layout::near_range()?];
        connection.remote_ranges = vec![layout::RANGES.parse()?];
        StrongSwan::start(&self.sites.right.gateway, connection)
    }

    /// Sends in the crowd: to shake hands for `seconds`, or to keep what the gateway begins.
    pub fn crowd(&self, peers: u16, ike: &str, esp: &str, seconds: Option<u64>) -> Result<Crowd> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg(crate::CROWD)
            .arg("--peers")
            .arg(peers.to_string())
            .arg("--gateway")
            .arg(self.sites.right.address.to_string())
            .args(["--ike", ike, "--esp", esp])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(seconds) = seconds {
            command.arg("--seconds").arg(seconds.to_string());
        }
        let node: &Node = &self.sites.left.gateway;
        let mut process = node.spawn(&mut command)?;
        let input = process.child().stdin.take();
        Ok(Crowd { process, input })
    }
}

impl Crowd {
    /// Waits for its account; a crowd that keeps its tunnels is told to end.
    pub fn account(mut self) -> Result<Account> {
        if let Some(mut input) = self.input.take() {
            // It may have ended by itself.
            let _ = input.write_all(b"end\n");
        }
        let output = self
            .process
            .child()
            .stdout
            .take()
            .context("its output is piped")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.is_empty() {
            bail!("the crowd ended without an account");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

fn plan(template: &ConnectionPlan, number: u16, establish: EstablishMode) -> Result<ConnectionPlan> {
    let address = layout::address(number).into();
    Ok(ConnectionPlan {
        connection: VpnConnectionId(ResourceBits::from_random(u128::from(number) + 1)),
        name: format!("peer {number}"),
        peer: PeerEndpoint::Address { address },
        peer_identity: IkeIdentity::Address(address),
        peer_cidrs: vec![layout::range(number)?],
        local_cidrs: vec![layout::near_range()?],
        establish,
        ike_lifetime_seconds: 86_400,
        esp_lifetime_seconds: 28_800,
        dpd_interval_seconds: layout::DPD_INTERVAL,
        dpd_timeout_seconds: layout::DPD_TIMEOUT,
        ..template.clone()
    })
}

/// This program again, as a tunnel daemon; or the one that `ISTHMUS_BIN` names.
fn program() -> Result<Program> {
    let path = match std::env::var_os("ISTHMUS_BIN") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_exe()?,
    };
    Ok(Program {
        path,
        arguments: vec![crate::TUNNELD.to_owned()],
    })
}
