//! Peers whose addresses nobody knows: two strongSwans behind one translator, whose address changes.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_client::{Id, VpnConnection, VpnGateway};
use isthmus_netlab::{Lab, Node, Ping, StrongSwan, SwanConnection, eventually};
use isthmus_system::{Outside, Pair, Site, System};
use serde_json::Value;

/// Addresses that the translator has, one after the other.
const PLACES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(192, 0, 2, 10),
    Ipv4Addr::new(192, 0, 2, 77),
    Ipv4Addr::new(192, 0, 2, 99),
];

#[test]
fn peers_from_anywhere_are_told_apart_by_name_and_key_and_followed_where_they_go() -> Result<()> {
    let mut system = System::start()?;
    let pair = Pair::without_connections(&system, "anywhere")?;
    let site = &pair.sites[0];
    let office = Office::new(system.internet()?, site.public_address)?;
    let connections = [1, 2].map(|number| Awaited::new(&system, site, number));
    let [first, second] = connections;
    let (first, second) = (first?, second?);

    nobody_is_gone_to(&system, &pair, &office, &first)?;

    // Somebody who calls himself otherwise: both connections tell of it, and still wait.
    let mut swans = [office.swan(1)?, office.swan(2)?];
    swans[0].load_file(&first.peer_config.replace(&first.name, "stranger.example"))?;
    for awaited in [&first, &second] {
        let told = eventually("the doctor to tell of the stranger", || {
            awaited.finding(&system, "unknown_peer")
        })
        .with_context(|| swans[0].log_tail())?;
        let expected = format!(
            "somebody at {} calls itself name stranger.example; the peer is known by name {}",
            PLACES[0], awaited.name
        );
        ensure!(told == expected, "the doctor says: {told}");
        awaited.waits(&system)?;
    }

    // Both come from one address. The key of one does not let in the other.
    swans[0].load_file(&first.peer_config)?;
    swans[1].load_file(&second.peer_config)?;
    for (number, awaited) in [(1, &first), (2, &second)] {
        awaited
            .is_up_at(&system, PLACES[0])
            .with_context(|| swans[number - 1].log_tail())?;
        ensure!(
            awaited.finding(&system, "unknown_peer").is_err(),
            "the stranger is still told of"
        );
        reach_each_other(&system, &pair, &office, number)?;
    }

    // The translator gets another address: the tunnels stay.
    office.move_to(PLACES[1])?;
    for (number, awaited) in [(1, &first), (2, &second)] {
        Ping::until_answered(&office.branches[number - 1].host, site.addresses[0])?;
        awaited.is_up_at(&system, PLACES[1])?;
        reach_each_other(&system, &pair, &office, number)?;
    }

    // One vanishes and begins anew from elsewhere.
    swans[0].kill()?;
    office.move_to(PLACES[2])?;
    swans[0].restart()?;
    swans[0].load_file(&first.peer_config)?;
    first
        .is_up_at(&system, PLACES[2])
        .with_context(|| swans[0].log_tail())?;
    reach_each_other(&system, &pair, &office, 1)?;
    Ping::until_answered(&office.branches[1].host, site.addresses[0])?;
    second.is_up_at(&system, PLACES[2])?;
    reach_each_other(&system, &pair, &office, 2)?;

    drop(swans);
    drop(office);
    system.stop()
}

/// As long as nobody came, nothing leaves, whatever is sent into the ranges of the peer.
fn nobody_is_gone_to(system: &System, pair: &Pair, office: &Office, awaited: &Awaited) -> Result<()> {
    let gateway = pair.sites[0].public_address;
    let outside = Outside::watch(system.internet()?, [gateway, gateway])?;
    awaited.waits(system)?;
    let from = pair.node(system, 0, 0)?;
    let before = outside.count()?;
    let vain = Ping::exactly(&from, office.branches[0].address, Duration::from_millis(10), 20)?;
    let after = outside.count()?;
    ensure!(vain.received == 0, "{vain:?}");
    ensure!(after == before, "outside was seen: {before:?} {after:?}");
    awaited.waits(system)
}

fn reach_each_other(system: &System, pair: &Pair, office: &Office, number: usize) -> Result<()> {
    let (site, branch) = (&pair.sites[0], &office.branches[number - 1]);
    let inside = pair.node(system, 0, 0)?;
    for (from, to) in [
        (&branch.host, site.addresses[0]),
        (&inside, branch.address),
        (&branch.host, site.addresses[1]),
    ] {
        Ping::until_answered(from, to)?;
        let count = Ping::exactly(from, to, Duration::from_millis(10), 20)?;
        ensure!(count.lost() == 0, "branch {number}, to {to}: {count:?}");
    }
    Ok(())
}

/// A connection of ours to a peer that may be anywhere.
struct Awaited {
    gateway: Id<VpnGateway>,
    connection: Id<VpnConnection>,
    /// What the peer is known by.
    name: String,
    /// What our own command prints for it.
    peer_config: String,
}

impl Awaited {
    fn new(system: &System, site: &Site, number: usize) -> Result<Self> {
        let name = format!("branch{number}.example");
        let local = format!("{},{}", site.cidrs[0], site.cidrs[1]);
        system.isthmus(&[
            "vpn",
            "connection",
            "create",
            &format!("branch{number}"),
            "--gateway",
            &site.gateway.to_string(),
            "--from-anywhere",
            &name,
            "--local",
            &local,
            "--remote",
            &format!("10.{}.0.0/24", 20 + number),
        ])?;
        let all = system.call(|client| client.connections(&site.gateway))?;
        let made = all
            .into_iter()
            .find(|connection| connection.name == format!("branch{number}"))
            .context("the connection")?;
        let peer_config = system.isthmus(&[
            "vpn",
            "peer-config",
            &made.id.to_string(),
            "--for",
            "strongswan",
            "--show-key",
        ])?;
        Ok(Self {
            gateway: site.gateway.clone(),
            connection: made.id,
            name,
            peer_config,
        })
    }

    fn doctor(&self, system: &System) -> Result<Value> {
        Ok(system.call(|client| client.connection_doctor(&self.gateway, &self.connection))?)
    }

    /// Makes sure that the status says that the peer has not come.
    fn waits(&self, system: &System) -> Result<()> {
        eventually("a connection that waits for its peer", || {
            let told = self.doctor(system)?;
            let state = &told["report"]["state"];
            let expected = format!(
                "waits for the peer, which may be anywhere and so must begin: it is known by its identity, name {}",
                self.name
            );
            ensure!(
                told["peer"]["kind"] == "anywhere"
                    && state["reason"] == "awaiting_peer"
                    && state["detail"] == expected.as_str(),
                "the doctor says {told}"
            );
            let seen = system.call(|client| client.connection(&self.gateway, &self.connection))?;
            ensure!(
                !seen.is_up() && seen.reasons().contains("The peer alone may begin, and has not."),
                "{} is {}: {}",
                seen.name,
                seen.status,
                seen.reasons()
            );
            Ok(())
        })
        .with_context(|| system.output_tail())
    }

    /// The sentence of a finding of this kind.
    fn finding(&self, system: &System, code: &str) -> Result<String> {
        let told = self.doctor(system)?;
        let findings = told["report"]["diagnosis"]["findings"]
            .as_array()
            .context("a list of findings")?;
        let found = findings.iter().find(|finding| finding["code"] == code);
        let found = found.with_context(|| format!("no {code} among {findings:?}"))?;
        Ok(found["sentence"].as_str().context("a sentence")?.to_owned())
    }

    fn is_up_at(&self, system: &System, place: Ipv4Addr) -> Result<()> {
        eventually("a peer at its new place", || {
            let seen = system.call(|client| client.connection(&self.gateway, &self.connection))?;
            ensure!(seen.is_up(), "{} is down: {}", seen.name, seen.reasons());
            let told = self.doctor(system)?;
            let peer = &told["report"]["diagnosis"]["ike"]["peer"];
            let at = peer.as_str().unwrap_or_default();
            ensure!(
                at.starts_with(&format!("{place}:")),
                "the peer of {} is at {peer}",
                seen.name
            );
            Ok(())
        })
        .with_context(|| system.output_tail())
    }
}

/// Two branches behind one translator that is joined to the internet.
struct Office {
    gateway: Ipv4Addr,
    translator: Node,
    branches: [Branch; 2],
    // Last: the namespaces go after everything that was opened in them.
    _lab: Lab,
}

struct Branch {
    gateway: Node,
    host: Node,
    address: Ipv4Addr,
}

impl Office {
    fn new(internet: Node, gateway: Ipv4Addr) -> Result<Self> {
        let mut lab = Lab::new();
        let translator = lab.router("nat")?;
        internet.ip([
            format!(
                "link add office type veth peer name out netns {}",
                translator.namespace()
            ),
            "address add 192.0.2.1/24 dev office".to_owned(),
            "link set office up".to_owned(),
        ])?;
        translator.masquerade("out")?;
        let branches = [
            branch(&mut lab, &translator, 1)?,
            branch(&mut lab, &translator, 2)?,
        ];
        let office = Self {
            gateway,
            translator,
            branches,
            _lab: lab,
        };
        office.move_to(PLACES[0])?;
        Ok(office)
    }

    /// Gives the translator another address. What it remembers of flows goes with the old one.
    fn move_to(&self, place: Ipv4Addr) -> Result<()> {
        self.translator.ip([
            "link set out down".to_owned(),
            "address flush dev out".to_owned(),
            format!("address add {place}/24 dev out"),
            "link set out up".to_owned(),
            "route add default via 192.0.2.1".to_owned(),
        ])
    }

    /// A strongSwan in the gateway of a branch, told of no real connection yet.
    fn swan(&self, number: usize) -> Result<StrongSwan> {
        let local = Ipv4Addr::new(100, 64, u8::try_from(number)?, 2);
        let nowhere = SwanConnection::to_nowhere(local.into(), self.gateway.into());
        StrongSwan::start(&self.branches[number - 1].gateway, nowhere)
    }
}

fn branch(lab: &mut Lab, translator: &Node, number: u8) -> Result<Branch> {
    let gateway = lab.router(&format!("branch{number}"))?;
    let host = lab.node(&format!("host{number}"))?;
    translator.ip([
        format!(
            "link add in{number} type veth peer name wan netns {}",
            gateway.namespace()
        ),
        format!("address add 100.64.{number}.1/24 dev in{number}"),
        format!("link set in{number} up"),
    ])?;
    let inside = 20 + number;
    gateway.ip([
        format!("address add 100.64.{number}.2/24 dev wan"),
        "link set wan up".to_owned(),
        format!("route add default via 100.64.{number}.1"),
        format!("link add lan type veth peer name eth0 netns {}", host.namespace()),
        format!("address add 10.{inside}.0.1/24 dev lan"),
        "link set lan up".to_owned(),
    ])?;
    host.ip([
        format!("address add 10.{inside}.0.10/24 dev eth0"),
        "link set eth0 up".to_owned(),
        format!("route add default via 10.{inside}.0.1"),
    ])?;
    Ok(Branch {
        gateway,
        host,
        address: Ipv4Addr::new(10, inside, 0, 10),
    })
}
