//! Gateways whose packets travel over IPv6 outside.

use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_client::{ConnectionChange, EstablishMode, NewConnection, PeerHost};
use isthmus_fabric::name;
use isthmus_netlab::{Lab, Node, Ping, StrongSwan, SwanConnection, eventually, transfer};
use isthmus_system::{Outside, Pair, Site, System};
use isthmus_types::{Secret, VpcId};

/// Where the strongSwan is.
const BRANCH: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 10);

/// Bytes of an echo message and its IPv4 header.
const ECHO_BYTES: u64 = 84;

#[test]
fn two_gateways_meet_over_ipv6_and_outside_there_is_only_the_tunnel() -> Result<()> {
    let mut system = System::start()?;
    let mut pair = Pair::without_connections(&system, "six")?;
    let addresses = [
        give_ipv6(&system, &pair.sites[0])?,
        give_ipv6(&system, &pair.sites[1])?,
    ];
    for index in [0, 1] {
        pair.connect_to(&system, index, addresses[1 - index].into())?;
    }
    pair.wait_until_up(&system)?;
    let outside = Outside::watch(system.internet()?, addresses)?;
    reach_each_other(&system, &pair)?;
    let counted = outside.count()?;
    ensure!(
        counted.tunnel_bytes >= 160 * ECHO_BYTES && counted.other == 0 && counted.private == 0,
        "outside was seen: {counted:?}"
    );
    let (left, right) = (pair.node(&system, 0, 0)?, pair.node(&system, 1, 1)?);
    transfer(&left, &right, pair.sites[1].addresses[1], 10_000_000)?;

    // ESP without UDP. No handshake may be under way that still has the old option.
    switch(&system, &pair, false)?;
    for site in &pair.sites {
        let connection = site.connection.as_ref().context("a connection")?;
        let connection = connection.to_string();
        system.isthmus(&[
            "vpn",
            "connection",
            "options",
            &connection,
            "--encapsulation",
            "automatic",
        ])?;
    }
    switch(&system, &pair, true)?;
    pair.wait_until_up(&system)?;
    eventually("ESP without UDP", || {
        let before = outside.count()?.native;
        Ping::until_answered(&left, pair.sites[1].addresses[0])?;
        let after = outside.count()?.native;
        ensure!(after > before, "no native ESP was seen outside");
        Ok(())
    })
    .with_context(|| system.output_tail())?;
    reach_each_other(&system, &pair)?;
    transfer(&left, &right, pair.sites[1].addresses[1], 10_000_000)?;

    drift_is_repaired(&system, &pair, addresses[0])?;

    // One after the other to IPv4, and then IPv6 is off again.
    for index in [0, 1] {
        let (site, peer) = (&pair.sites[index], pair.sites[1 - index].public_address);
        let connection = site.connection.as_ref().context("a connection")?;
        let refused = system.call(|client| client.set_ipv6(&site.gateway, false));
        ensure!(refused.is_err(), "IPv6 was taken from a gateway that needs it");
        let change = ConnectionChange {
            peer: Some(PeerHost::Address(peer.into())),
            ..ConnectionChange::default()
        };
        system.call(|client| client.change_connection(&site.gateway, connection, &change))?;
    }
    for site in &pair.sites {
        system.call(|client| client.set_ipv6(&site.gateway, false))?;
        eventually("an uplink without IPv6", || {
            let left = router(&system, site)?.command("ip", &["-6", "-o", "address"])?;
            ensure!(left.is_empty(), "still there: {left}");
            Ok(())
        })?;
    }
    // The gateways' sockets are opened anew, some time after that.
    eventually("two gateways that meet over IPv4", || {
        pair.wait_until_up(&system)?;
        reach_each_other(&system, &pair)
    })
    .with_context(|| system.output_tail())?;
    let counted = outside.count()?;
    ensure!(
        counted.private == 0,
        "private addresses were outside: {counted:?}"
    );
    pair.delete(&system)?;
    system.stop()
}

/// Switches both connections on, or off and waits until the host has carried that out.
fn switch(system: &System, pair: &Pair, on: bool) -> Result<()> {
    let change = ConnectionChange {
        admin_state_up: Some(on),
        ..ConnectionChange::default()
    };
    for site in &pair.sites {
        let connection = site.connection.as_ref().context("a connection")?;
        system.call(|client| client.change_connection(&site.gateway, connection, &change))?;
        if !on {
            eventually("a connection that is off", || {
                let told = system.call(|client| client.connection_doctor(&site.gateway, connection))?;
                let state = &told["report"]["state"]["kind"];
                ensure!(state == "admin_down", "the host says {state}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// Whatever somebody does to the objects of IPv6, the host has them again.
fn drift_is_repaired(system: &System, pair: &Pair, address: Ipv6Addr) -> Result<()> {
    let router = router(system, &pair.sites[0])?;
    let from = pair.node(system, 0, 0)?;
    for command in [
        format!("address del {address}/128 dev uplink"),
        "route del default".to_owned(),
        "link set uplink down".to_owned(),
    ] {
        let words: Vec<&str> = ["-6"].into_iter().chain(command.split(' ')).collect();
        router.command("ip", &words)?;
        eventually("repaired IPv6", || {
            let held = router.command("ip", &["-6", "-o", "address"])?;
            let routes = router.command("ip", &["-6", "route", "show", "default"])?;
            ensure!(
                held.contains(&address.to_string()) && routes.contains("uplink"),
                "after {command}: {held} {routes}"
            );
            Ok(())
        })
        .with_context(|| system.output_tail())?;
        Ping::until_answered(&from, pair.sites[1].addresses[0])?;
    }
    Ok(())
}

#[test]
fn a_strongswan_over_ipv6_and_a_gateway_over_ipv4_share_a_gateway() -> Result<()> {
    let mut system = System::start()?;
    let pair = Pair::joined(&system, "swan6")?;
    let site = &pair.sites[0];
    let branch = Branch::new(&system.internet()?)?;
    let new = |peer: String, remote: &str| -> Result<NewConnection> {
        Ok(NewConnection {
            name: None,
            psk: Secret::new(pair.psk().to_owned()),
            peer,
            local_cidrs: site.cidrs.clone(),
            peer_cidrs: vec![remote.parse()?],
            ike_policy: None,
            ipsec_policy: None,
            admin_state_up: true,
            establish_mode: EstablishMode::Bidirectional,
        })
    };
    let over_ipv6 = new(BRANCH.to_string(), "10.50.0.0/24")?;
    let refused = system.call(|client| client.create_connection(&site.gateway, &over_ipv6));
    let text = refused.err().context("a refusal")?.to_string();
    ensure!(text.contains("option ipv6 on first"), "the refusal says: {text}");

    let address = give_ipv6(&system, site)?;
    let made = system.call(|client| client.create_connection(&site.gateway, &over_ipv6))?;
    let peer_config = system.isthmus(&[
        "vpn",
        "peer-config",
        &made.id.to_string(),
        "--for",
        "strongswan",
        "--show-key",
    ])?;
    ensure!(
        peer_config.contains(&address.to_string()) && !peer_config.contains(&site.public_address.to_string()),
        "the peer's configuration is\n{peer_config}"
    );
    let swan = branch.swan(address)?;
    swan.load_file(&peer_config)?;
    eventually("a connection over IPv6", || {
        let seen = system.call(|client| client.connection(&site.gateway, &made.id))?;
        ensure!(seen.is_up(), "down: {}", seen.reasons());
        Ok(())
    })
    .with_context(|| format!("{}{}", system.output_tail(), swan.log_tail()))?;
    let inside = pair.node(&system, 0, 0)?;
    for (from, to) in [
        (&branch.host, site.addresses[0]),
        (&inside, "10.50.0.10".parse()?),
        (&branch.host, site.addresses[1]),
    ] {
        Ping::until_answered(from, to)?;
        let count = Ping::exactly(from, to, Duration::from_millis(10), 20)?;
        ensure!(count.lost() == 0, "to {to}: {count:?}");
    }
    // The tunnel over IPv4 was there before, and still is.
    pair.wait_until_up(&system)?;
    reach_each_other(&system, &pair)?;

    // A narrow place on the way: its router tells, and the gateway hears.
    system.internet()?.ip(["link set branch6 mtu 1300"])?;
    transfer(
        &inside,
        &branch.host,
        std::net::Ipv4Addr::new(10, 50, 0, 10),
        2_000_000,
    )
    .with_context(|| format!("{}{}", system.output_tail(), swan.log_tail()))?;

    // Nothing but the tunnel gets in over IPv6.
    let echoes = Ping::exactly(&branch.gateway, address, Duration::from_millis(5), 20)?;
    ensure!(
        echoes.received == 0,
        "the gateway answers echo requests: {echoes:?}"
    );

    let gateway = site.gateway.to_string();
    let shown = system.isthmus(&["vpn", "gateway", "show", &gateway])?;
    ensure!(
        shown.contains(&format!("{}, {address}", site.public_address)),
        "show prints {shown}"
    );
    let told = system.call(|client| client.connection_doctor(&site.gateway, &made.id))?;
    let at = told["report"]["diagnosis"]["ike"]["peer"]
        .as_str()
        .unwrap_or_default();
    ensure!(at.starts_with(&format!("[{BRANCH}]:")), "the doctor says {told}");
    drop(swan);
    drop(branch);
    system.stop()
}

/// Switches IPv6 on, as a person does.
fn give_ipv6(system: &System, site: &Site) -> Result<Ipv6Addr> {
    system.isthmus(&["vpn", "gateway", "ipv6", &site.gateway.to_string(), "on"])?;
    let options = system.call(|client| client.gateway_options(&site.gateway))?;
    options.ipv6_address.context("an IPv6 address")
}

fn router(system: &System, site: &Site) -> Result<Node> {
    let vpc = VpcId(site.vpc.bits().context("an id of ours")?);
    Node::existing(&name::router_namespace(system.realm(), vpc))
}

fn reach_each_other(system: &System, pair: &Pair) -> Result<()> {
    for (from, to) in [(0, 1), (1, 0)] {
        for (from_tier, to_tier) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let node = pair.node(system, from, from_tier)?;
            let target = pair.sites[to].addresses[to_tier];
            Ping::until_answered(&node, target)?;
            let count = Ping::exactly(&node, target, Duration::from_millis(10), 20)?;
            ensure!(count.lost() == 0, "site {from} to {target}: {count:?}");
        }
    }
    Ok(())
}

/// A gateway at an IPv6 address of the internet, with a host behind it.
struct Branch {
    gateway: Node,
    host: Node,
    // Last: the namespaces go after everything that was opened in them.
    _lab: Lab,
}

impl Branch {
    fn new(internet: &Node) -> Result<Self> {
        let mut lab = Lab::new();
        let (gateway, host) = (lab.router("branch6")?, lab.node("host6")?);
        internet.ip([format!(
            "link add branch6 type veth peer name wan netns {}",
            gateway.namespace()
        )])?;
        internet.sysctl("ipv6/conf/branch6/disable_ipv6", "0")?;
        gateway.sysctl("ipv6/conf/wan/disable_ipv6", "0")?;
        internet.ip([
            "address add 2001:db8:b::1/64 dev branch6 nodad",
            "link set branch6 up",
        ])?;
        gateway.ip([
            format!("address add {BRANCH}/64 dev wan nodad"),
            "link set wan up".to_owned(),
            "route add default via 2001:db8:b::1".to_owned(),
            format!("link add lan type veth peer name eth0 netns {}", host.namespace()),
            "address add 10.50.0.1/24 dev lan".to_owned(),
            "link set lan up".to_owned(),
        ])?;
        host.ip([
            "address add 10.50.0.10/24 dev eth0",
            "link set eth0 up",
            "route add default via 10.50.0.1",
        ])?;
        Ok(Self {
            gateway,
            host,
            _lab: lab,
        })
    }

    /// A strongSwan in the gateway, told of no real connection yet.
    fn swan(&self, remote: Ipv6Addr) -> Result<StrongSwan> {
        let nowhere = SwanConnection::to_nowhere(BRANCH.into(), remote.into());
        StrongSwan::start(&self.gateway, nowhere)
    }
}
