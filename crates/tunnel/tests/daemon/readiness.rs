//! What is told to be up takes the first packet.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};
use isthmus_hostplan::{TunnelPlan, TunnelState};
use isthmus_netlab::patience::stretched;
use isthmus_netlab::{Site, TwoSites, TwoSitesOptions, eventually};

use crate::harness::{Daemon, plan, prepare};

/// How often both gateways are made anew.
const ROUNDS: u32 = 200;
const PORT: u16 = 7777;

fn socket(site: &Site) -> Result<(UdpSocket, SocketAddr)> {
    let host = &site.hosts[0];
    let address = SocketAddr::new(host.address.into(), PORT);
    let socket = host.node.run(|| UdpSocket::bind(address))??;
    socket.set_read_timeout(Some(stretched(Duration::from_secs(2))))?;
    Ok((socket, address))
}

/// Reads reports as they come until one says that everything is up.
fn until_told_up(daemon: &Daemon) -> Result<()> {
    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(stretched(Duration::from_secs(20))))?;
    let mut request = serde_json::to_vec(&TunnelRequest::Watch)?;
    request.push(b'\n');
    stream.write_all(&request)?;
    for line in BufReader::new(stream).lines() {
        let TunnelReply::Report { report } = serde_json::from_str(&line?)? else {
            continue;
        };
        let mut states = report.connections.iter().map(|connection| &connection.state);
        if states.len() == 2 && states.all(|state| *state == TunnelState::Up) {
            return Ok(());
        }
    }
    bail!("the daemon says no more")
}

#[test]
fn the_first_packet_after_up_was_told_arrives() -> Result<()> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let daemon = Daemon::start()?;
    let [(left, left_at), (right, right_at)] = [socket(&sites.left)?, socket(&sites.right)?];
    let wanted = plan(&sites)?;
    for round in 0..ROUNDS {
        // New devices: none has a queue yet.
        for (site, remote) in [(&sites.left, "10.2.0.0/16"), (&sites.right, "10.1.0.0/16")] {
            eventually("the old device to go", || {
                if round > 0 {
                    site.gateway.ip(["link delete tun0"])?;
                }
                Ok(())
            })?;
            prepare(site, remote)?;
        }
        if round == 0 {
            sites.meet_neighbours()?;
        }
        daemon.apply(&wanted)?;
        until_told_up(&daemon)?;
        for (from, to, at) in [(&left, &right, right_at), (&right, &left, left_at)] {
            from.send_to(&round.to_be_bytes(), at)?;
            let mut buffer = [0; 16];
            let (length, _) = to
                .recv_from(&mut buffer)
                .with_context(|| format!("the first packet to {at} was lost in round {round}"))?;
            ensure!(buffer[..length] == round.to_be_bytes(), "round {round}");
        }
        daemon.apply(&TunnelPlan::default())?;
    }
    daemon.stop()
}

#[test]
fn what_is_negotiated_over_a_device_that_takes_no_packets_is_not_up() -> Result<()> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let daemon = Daemon::start()?;
    prepare(&sites.left, "10.2.0.0/16")?;
    prepare(&sites.right, "10.1.0.0/16")?;
    for site in [&sites.left, &sites.right] {
        site.gateway.ip(["link set tun0 down"])?;
    }
    daemon.apply(&plan(&sites)?)?;
    eventually("both ends to have negotiated in vain", || {
        for report in daemon.connections()? {
            ensure!(report.diagnosis.children.len() == 1, "{report:?}");
            ensure!(report.state != TunnelState::Up, "told to be up: {report:?}");
        }
        Ok(())
    })?;
    for (site, remote) in [(&sites.left, "10.2.0.0/16"), (&sites.right, "10.1.0.0/16")] {
        site.gateway.ip([
            "link set tun0 up".to_owned(),
            format!("route replace {remote} dev tun0"),
        ])?;
    }
    daemon.wait_until_up()?;
    daemon.stop()
}
