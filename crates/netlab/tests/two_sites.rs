//! The laboratory proves itself: plain routing and strongSwan on both sides, before anything of ours is measured in it.

use std::time::Duration;

use isthmus_netlab::{
    LinkCounters, Nat, Ping, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions, eventually, iperf,
    transfer,
};
use isthmus_netlink::namespace;

const KEY: &str = "correct horse battery staple";

#[test]
fn plain_routing_carries_everything_and_ends_when_told() {
    let sites = TwoSites::new(TwoSitesOptions {
        subnets: 2,
        ..TwoSitesOptions::default()
    })
    .unwrap();
    let names = [
        sites.internet.namespace().to_owned(),
        sites.right.hosts[1].node.namespace().to_owned(),
    ];
    let (from, to) = (&sites.left.hosts[1], &sites.right.hosts[0]);
    let counters = LinkCounters::new(&sites).unwrap();

    let silent = Ping::exactly(&from.node, to.address, Duration::from_millis(5), 20).unwrap();
    assert_eq!((silent.sent, silent.received), (20, 0));
    // A router without a route answers that; what it saw is counted all the same.
    assert_eq!(counters.read().unwrap().clear, 20);

    sites.route_in_clear().unwrap();
    let count = Ping::exactly(&from.node, to.address, Duration::from_millis(1), 500).unwrap();
    assert_eq!((count.sent, count.lost(), count.duplicates), (500, 0, 0));
    assert_eq!(counters.read().unwrap().clear, 20 + 2 * 500);
    transfer(&from.node, &to.node, to.address, 10_000_000).unwrap();
    let rate = iperf::run(
        &from.node,
        &to.node,
        to.address,
        1,
        Duration::from_secs(1),
        Duration::ZERO,
    )
    .unwrap();
    assert!(rate.bits_per_second > 1e8, "{rate:?}");

    sites.lose(30).unwrap();
    let count = Ping::exactly(&from.node, to.address, Duration::from_millis(1), 500).unwrap();
    // Half of the round trips are expected; ten standard deviations are left on either side.
    assert!((140..370).contains(&count.lost()), "{count:?}");
    sites.lose_no_more().unwrap();

    sites.stop_routing_in_clear().unwrap();
    let silent = Ping::exactly(&from.node, to.address, Duration::from_millis(5), 5).unwrap();
    assert_eq!(silent.lost(), 5);

    drop(sites);
    for name in names {
        assert!(!namespace::exists(&name), "{name} is left");
    }
}

#[test]
fn strongswan_pair_rekeys_without_loss_and_ends_clean() {
    let sites = TwoSites::new(TwoSitesOptions::default()).unwrap();
    let counters = LinkCounters::new(&sites).unwrap();
    let (ike, esp) = ("aes128gcm16-prfsha256-x25519", "aes128gcm16-x25519");
    let left = StrongSwan::start(
        &sites.left.gateway,
        SwanConnection::between(&sites.left, &sites.right, KEY, ike, esp),
    )
    .unwrap();
    let mut right = StrongSwan::start(
        &sites.right.gateway,
        SwanConnection::between(&sites.right, &sites.left, KEY, ike, esp),
    )
    .unwrap();
    left.initiate().unwrap();
    let (from, to) = (&sites.left.hosts[0], &sites.right.hosts[0]);
    Ping::until_answered(&from.node, to.address).unwrap();
    let (ike_before, child_before) = eventually("settled SAs", || right.settled()).unwrap();

    let ping = Ping::start(&from.node, to.address, Duration::from_millis(5)).unwrap();
    left.rekey_child().unwrap();
    eventually("another child SA", || {
        let (_, child) = right.settled()?;
        anyhow::ensure!(child.inbound_spi != child_before.inbound_spi, "{child:?}");
        Ok(())
    })
    .unwrap();
    right.rekey_ike().unwrap();
    eventually("another IKE SA", || {
        let (sa, _) = left.settled()?;
        anyhow::ensure!(sa.initiator_spi != ike_before.initiator_spi, "{sa:?}");
        Ok(())
    })
    .unwrap();
    ping.wait_for_more(50).unwrap();
    let count = ping.finish().unwrap();
    assert!(count.sent > 100, "{count:?}");
    assert_eq!(count.lost(), 0, "{count:?}");

    transfer(&from.node, &to.node, to.address, 10_000_000).unwrap();
    left.terminate().unwrap();
    left.wait_for_none().unwrap();
    right.wait_for_none().unwrap();
    let crossed = counters.read().unwrap();
    assert!(
        crossed.udp > 1000 && crossed.clear == 0 && crossed.esp == 0,
        "{crossed:?}"
    );
    right.kill().unwrap();
    let silent = Ping::exactly(&from.node, to.address, Duration::from_millis(5), 5).unwrap();
    assert_eq!(silent.received, 0);
    right.restart().unwrap();
    left.initiate().unwrap();
    Ping::until_answered(&to.node, from.address).unwrap();
}

#[test]
fn translated_gateway_reaches_out_and_cannot_be_reached() {
    let sites = TwoSites::new(TwoSitesOptions {
        left_nat: Nat::Masquerade,
        ..TwoSitesOptions::default()
    })
    .unwrap();
    let ms = Duration::from_millis(5);
    let out = Ping::exactly(&sites.left.gateway, sites.right.address, ms, 10).unwrap();
    assert_eq!(out.lost(), 0);
    // The translator answers echo requests itself; the gateway behind it cannot be addressed from outside.
    let inward = Ping::exactly(&sites.right.gateway, sites.left.address, ms, 10).unwrap();
    assert_eq!(inward.received, 0);

    let (ike, esp) = ("aes256-sha256-ecp256", "aes256-sha256");
    let left = StrongSwan::start(
        &sites.left.gateway,
        SwanConnection::between(&sites.left, &sites.right, KEY, ike, esp),
    )
    .unwrap();
    let right = StrongSwan::start(
        &sites.right.gateway,
        SwanConnection::between(&sites.right, &sites.left, KEY, ike, esp),
    )
    .unwrap();
    left.initiate().unwrap();
    Ping::until_answered(&sites.left.hosts[0].node, sites.right.hosts[0].address).unwrap();
    assert_eq!(right.sas().unwrap().len(), 1);
}
