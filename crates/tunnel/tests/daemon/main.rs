//! The daemon between two real namespaces: keys are negotiated, packets pass, devices come and go.

mod certificates;
mod cores;
mod harness;
mod lanes;
mod parallel;
mod paths;
mod readiness;
mod totals;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use isthmus_hostplan::tunnel::TunnelReply;
use isthmus_hostplan::{ObjectState, TunnelReport, TunnelState};
use isthmus_netlab::patience::stretched;
use isthmus_netlab::{Ping, TwoSites, TwoSitesOptions, eventually, transfer};

use harness::{Daemon, INTERVAL, joined, joined_after, ping, plan, prepare};

#[test]
fn two_gateways_join_and_carry_pings_and_ten_megabytes() -> Result<()> {
    let (sites, daemon, plan) = joined()?;
    ping(&sites, 50)?;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    transfer(&left.node, &right.node, right.address, 10 << 20)?;
    transfer(&right.node, &left.node, left.address, 10 << 20)?;

    let before = daemon.connections()?;
    daemon.apply(&plan)?;
    ping(&sites, 20)?;
    let after = daemon.connections()?;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.since, after.since, "an equal plan touched a connection");
        assert_eq!(after.esp_suite, "aes256gcm16-esn");
        assert!(
            after.bytes_in > 10 << 20 && after.bytes_out > 10 << 20,
            "{after:?}"
        );
        assert!(after.packets_out >= before.packets_out + 40, "{after:?}");
        assert_eq!(after.drops, [], "{after:?}");
    }
    daemon.stop()
}

#[test]
fn a_gateway_waits_for_its_devices_and_survives_their_loss() -> Result<()> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let daemon = Daemon::start()?;
    daemon.apply(&plan(&sites)?)?;
    for gateway in daemon.report()?.gateways {
        let ObjectState::Blocked { on } = gateway.state else {
            bail!("{gateway:?}");
        };
        assert!(on.contains("tun0"), "{on}");
    }
    prepare(&sites.left, "10.2.0.0/16")?;
    prepare(&sites.right, "10.1.0.0/16")?;
    daemon.wait_until_up()?;
    ping(&sites, 10)?;
    let since: Vec<_> = daemon.connections()?.iter().map(|found| found.since).collect();

    sites.left.gateway.ip(["link del tun0"])?;
    prepare(&sites.left, "10.2.0.0/16")?;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let outage = Ping::until_answered(&left.node, right.address)?;
    assert!(outage < stretched(Duration::from_secs(5)), "{outage:?}");
    ping(&sites, 10)?;
    let again: Vec<_> = daemon.connections()?.iter().map(|found| found.since).collect();
    assert_eq!(since, again, "the SAs did not survive");
    daemon.stop()
}

#[test]
fn a_connection_goes_down_and_up_on_request_and_nothing_leaks() -> Result<()> {
    let (sites, daemon, mut plan) = joined()?;
    plan.gateways[0].connections[0].admin_up = false;
    daemon.apply(&plan)?;
    eventually("the connection to be down", || {
        let state = daemon.connections()?[0].state.clone();
        ensure!(state == TunnelState::AdminDown, "{state:?}");
        Ok(())
    })?;
    let account = Ping::exactly(
        &sites.left.hosts[0].node,
        sites.right.hosts[0].address,
        INTERVAL,
        5,
    )?;
    assert_eq!(account.lost(), 5, "{account:?}");
    let drops = &daemon.connections()?[0].drops;
    assert!(
        drops
            .iter()
            .any(|(reason, count)| reason == "admin_down" && *count >= 5),
        "{drops:?}"
    );
    plan.gateways[0].connections[0].admin_up = true;
    daemon.apply(&plan)?;
    daemon.wait_until_up()?;
    ping(&sites, 10)?;
    daemon.stop()
}

#[test]
fn no_packet_is_lost_while_short_lived_sas_are_replaced() -> Result<()> {
    let lifetime = 4;
    let (sites, daemon, _) = joined_after(|connection| connection.esp_lifetime_seconds = lifetime)?;
    let count = u64::from(lifetime) * 2_500 / 5;
    let (left, right) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    let account = Ping::exactly(&left.node, right.address, INTERVAL, count)?;
    assert_eq!(account.lost(), 0, "{account:?}");
    daemon.stop()
}

#[test]
fn a_watcher_hears_of_changes_and_nonsense_is_refused() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut watcher = UnixStream::connect(daemon.socket())?;
    watcher.write_all(b"{\"request\":\"watch\"}\n")?;
    let mut reports = BufReader::new(watcher).lines();
    let first: TunnelReply = serde_json::from_str(&reports.next().context("a first report")??)?;
    assert_eq!(
        first,
        TunnelReply::Report {
            report: TunnelReport::default()
        }
    );
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    daemon.apply(&plan(&sites)?)?;
    let next: TunnelReply = serde_json::from_str(&reports.next().context("another report")??)?;
    let TunnelReply::Report { report } = next else {
        bail!("{next:?}");
    };
    assert_eq!(report.gateways.len(), 2);

    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.write_all(b"{\"request\":\"dance\"}\n{\"request\":\"report\"}\n")?;
    let mut answers = BufReader::new(stream).lines();
    let refused: TunnelReply = serde_json::from_str(&answers.next().context("an answer")??)?;
    assert!(matches!(refused, TunnelReply::Refused { .. }), "{refused:?}");
    let report: TunnelReply = serde_json::from_str(&answers.next().context("an answer")??)?;
    assert!(matches!(report, TunnelReply::Report { .. }), "{report:?}");
    daemon.stop()
}
