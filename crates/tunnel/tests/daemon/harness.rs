//! Two sites, and a daemon that runs both gateways.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};
use isthmus_hostplan::{
    ConnectionPlan, ConnectionReport, GatewayTunnels, TunnelPlan, TunnelReport, TunnelState,
};
use isthmus_netlab::isthmus::connection_between;
use isthmus_netlab::{Ping, Site, TwoSites, TwoSitesOptions, eventually};
use isthmus_types::{ResourceBits, VpnConnectionId, VpnGatewayId};

pub(crate) const MTU: u16 = 1438;
pub(crate) const INTERVAL: Duration = Duration::from_millis(5);

pub(crate) struct Daemon {
    directory: tempfile::TempDir,
    thread: Option<JoinHandle<Result<(), isthmus_tunnel::RunError>>>,
}

impl Daemon {
    pub(crate) fn start() -> Result<Self> {
        Self::start_as(isthmus_tunnel::run)
    }

    /// Starts the daemon by `run`, which gets the path of its socket.
    pub(crate) fn start_as(
        run: impl FnOnce(&Path) -> Result<(), isthmus_tunnel::RunError> + Send + 'static,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tunneld-").tempdir()?;
        let socket = directory.path().join("socket");
        let thread = thread::spawn(move || run(&socket));
        let daemon = Self {
            directory,
            thread: Some(thread),
        };
        eventually("the daemon's socket", || {
            Ok(UnixStream::connect(daemon.socket())?)
        })?;
        Ok(daemon)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn ask(&self, request: &TunnelRequest) -> Result<TunnelReply> {
        let mut stream = UnixStream::connect(self.socket())?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    pub(crate) fn apply(&self, plan: &TunnelPlan) -> Result<()> {
        let reply = self.ask(&TunnelRequest::Apply { plan: plan.clone() })?;
        ensure!(reply == TunnelReply::Applied, "{reply:?}");
        Ok(())
    }

    pub(crate) fn report(&self) -> Result<TunnelReport> {
        match self.ask(&TunnelRequest::Report)? {
            TunnelReply::Report { report } => Ok(report),
            other @ (TunnelReply::Applied | TunnelReply::Refused { .. }) => bail!("{other:?}"),
        }
    }

    pub(crate) fn connections(&self) -> Result<Vec<ConnectionReport>> {
        Ok(self.report()?.connections)
    }

    pub(crate) fn wait_until_up(&self) -> Result<()> {
        eventually("every connection to be up", || {
            let connections = self.connections()?;
            ensure!(
                !connections.is_empty()
                    && connections
                        .iter()
                        .all(|connection| connection.state == TunnelState::Up),
                "{connections:?}"
            );
            Ok(())
        })
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.ask(&TunnelRequest::Stop)?;
        let thread = self.thread.take().context("runs")?;
        thread.join().expect("the daemon panicked")?;
        ensure!(!self.socket().exists(), "the socket is still there");
        Ok(())
    }
}

pub(crate) fn prepare(site: &Site, remote: &str) -> Result<()> {
    site.gateway.ip([
        "tuntap add dev tun0 mode tun vnet_hdr".to_owned(),
        format!("link set tun0 mtu {MTU} txqueuelen 2000 up"),
        format!("route replace {remote} dev tun0"),
    ])
}

pub(crate) fn gateway(site: &Site, number: u128, connections: Vec<ConnectionPlan>) -> GatewayTunnels {
    GatewayTunnels {
        gateway: VpnGatewayId::from(ResourceBits::from_random(number)),
        name: format!("gateway {number}"),
        namespace: site.gateway.namespace().to_owned(),
        tun: "tun0".to_owned(),
        public_address: site.address.into(),
        other_address: None,
        key_log: None,
        mtu: MTU,
        connections,
    }
}

pub(crate) fn plan(sites: &TwoSites) -> Result<TunnelPlan> {
    let ike = "aes128gcm16-prfsha256-x25519";
    let esp = "aes256gcm16";
    let left = connection_between(&sites.left, &sites.right, "a shared key", ike, esp)?;
    let mut right = connection_between(&sites.right, &sites.left, "a shared key", ike, esp)?;
    right.connection = VpnConnectionId::from(ResourceBits::from_random(2));
    Ok(TunnelPlan {
        gateways: vec![
            gateway(&sites.left, 1, vec![left]),
            gateway(&sites.right, 2, vec![right]),
        ],
    })
}

pub(crate) fn ping(sites: &TwoSites, count: u64) -> Result<()> {
    for (from, to) in [(&sites.left, &sites.right), (&sites.right, &sites.left)] {
        let account = Ping::exactly(&from.hosts[0].node, to.hosts[0].address, INTERVAL, count)?;
        ensure!(account.lost() == 0, "{account:?}");
    }
    Ok(())
}

pub(crate) fn joined() -> Result<(TwoSites, Daemon, TunnelPlan)> {
    joined_after(|_| {})
}

pub(crate) fn joined_after(change: impl Fn(&mut ConnectionPlan)) -> Result<(TwoSites, Daemon, TunnelPlan)> {
    joined_by(Daemon::start()?, change)
}

/// Two sites whose gateways `daemon` joins.
pub(crate) fn joined_by(
    daemon: Daemon,
    change: impl Fn(&mut ConnectionPlan),
) -> Result<(TwoSites, Daemon, TunnelPlan)> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    prepare(&sites.left, "10.2.0.0/16")?;
    prepare(&sites.right, "10.1.0.0/16")?;
    let mut plan = plan(&sites)?;
    for gateway in &mut plan.gateways {
        gateway.connections.iter_mut().for_each(&change);
    }
    daemon.apply(&plan)?;
    daemon.wait_until_up()?;
    Ok((sites, daemon, plan))
}
