//! What is measured: one way to join the two sites of a topology.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use isthmus_netlab::isthmus::{Program, connection_between};
use isthmus_netlab::{
    Isthmus, LinkCounters, Ping, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions, iperf,
};

use crate::packets;
use crate::wireguard::WireGuard;

const IKE: &str = "aes128gcm16-prfsha256-x25519";
const ESP: &str = "aes128gcm16-x25519";
/// Tells the tunnel daemon how many threads to use in each direction.
const LANES_VARIABLE: &str = "ISTHMUS_PACKET_LANES";
const KEY: &str = "the key of a tunnel that only this benchmark sees";

const WARM_UP: Duration = Duration::from_secs(1);
/// Pause between two echo requests: long enough for each to find everything asleep.
const ECHO_INTERVAL: Duration = Duration::from_micros(500);
/// Echo requests for each second of measuring.
const ECHOES_PER_SECOND: u64 = 1000;

/// A way to join the two sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Routers and nothing else.
    Plain,
    /// Our tunnel daemon at both gateways.
    Isthmus,
    /// Another build of our tunnel daemon at both gateways.
    Other,
    /// wireguard-go at both gateways.
    WireguardGo,
    /// strongSwan with userspace ESP at both gateways.
    Strongswan,
}

impl Kind {
    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain routing",
            Self::Isthmus => "Isthmus",
            Self::Other => "Isthmus, other build",
            Self::WireguardGo => "wireguard-go",
            Self::Strongswan => "strongSwan userspace ESP",
        }
    }
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Measure {
    /// TCP, one connection.
    Tcp,
    /// TCP, four connections.
    Tcp4,
    /// Small UDP packets that arrive each second, out of a flood.
    Packets,
    /// Median time from an echo request to its reply.
    RoundTrip,
}

impl Measure {
    /// All of them, in the order of measuring.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Tcp4, Self::Packets, Self::RoundTrip];

    /// A figure of this measure, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Tcp | Self::Tcp4 => format!("{value:.2} Gbit/s"),
            Self::Packets => format!("{:.0} kpps", value / 1e3),
            Self::RoundTrip => format!("{value:.0} µs"),
        }
    }

    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP, 1 flow",
            Self::Tcp4 => "TCP, 4 flows",
            Self::Packets => "64-byte UDP",
            Self::RoundTrip => "round trip",
        }
    }
}

/// Programs that are not the system's own, and how the hosts are set up.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Congestion control of the hosts' TCP, instead of the system's default.
    pub congestion_control: Option<String>,
    /// For [`Kind::Isthmus`]: Child SAs for the same traffic, and packet threads in each direction.
    pub lanes: u8,
    /// For [`Kind::Other`]: a build of this benchmark.
    pub other: Option<PathBuf>,
    /// For [`Kind::WireguardGo`].
    pub wireguard_go: PathBuf,
}

/// Two sites joined in one way.
pub struct Contender {
    kind: Kind,
    // Before the sites: daemons end before their namespaces go.
    #[expect(dead_code, reason = "held for their end")]
    daemons: Daemons,
    counters: LinkCounters,
    sites: TwoSites,
}

#[expect(dead_code, reason = "held for their end")]
enum Daemons {
    None,
    Isthmus(Box<[Isthmus; 2]>),
    StrongSwan(Box<[StrongSwan; 2]>),
    WireGuard(Box<WireGuard>),
}

impl Contender {
    /// Builds the topology and joins the sites.
    pub fn start(kind: Kind, programs: &Programs) -> Result<Self> {
        let sites = TwoSites::new(TwoSitesOptions::default())?;
        let counters = LinkCounters::new(&sites)?;
        let (left, right) = (&sites.left, &sites.right);
        if let Some(name) = &programs.congestion_control {
            for host in left.hosts.iter().chain(&right.hosts) {
                host.node.sysctl("ipv4/tcp_congestion_control", name)?;
            }
        }
        let daemons = match kind {
            Kind::Plain => {
                sites.route_in_clear()?;
                Daemons::None
            }
            Kind::Isthmus => start_isthmus(&sites, &own_program()?, programs.lanes)?,
            Kind::Other => {
                let other = programs.other.as_deref();
                start_isthmus(&sites, other.context("--other names no build")?, 1)?
            }
            Kind::WireguardGo => {
                Daemons::WireGuard(Box::new(WireGuard::start(&programs.wireguard_go, &sites)?))
            }
            Kind::Strongswan => {
                let start = |here, there| StrongSwan::start(here, there);
                let near = start(&left.gateway, SwanConnection::between(left, right, KEY, IKE, ESP))?;
                let far = start(
                    &right.gateway,
                    SwanConnection::between(right, left, KEY, IKE, ESP),
                )?;
                near.initiate()?;
                Daemons::StrongSwan(Box::new([near, far]))
            }
        };
        let contender = Self {
            kind,
            daemons,
            counters,
            sites,
        };
        let (from, to) = (&contender.sites.left.hosts[0], &contender.sites.right.hosts[0]);
        Ping::until_answered(&from.node, to.address)
            .with_context(|| format!("{} does not join the sites", kind.title()))?;
        Ok(contender)
    }

    /// Which way it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// One measurement from left to right: Gbit/s, packets per second, or microseconds. What happens while it warms up
    /// does not count.
    pub fn measure(&self, measure: Measure, duration: Duration) -> Result<f64> {
        match measure {
            Measure::Tcp => self.throughput(1, duration),
            Measure::Tcp4 => self.throughput(4, duration),
            Measure::Packets => {
                let (from, to) = (&self.sites.left.hosts[0], &self.sites.right.hosts[0]);
                packets::flood(&from.node, &to.node, to.address, WARM_UP / 4, duration)
            }
            Measure::RoundTrip => self.round_trip(duration),
        }
        .with_context(|| format!("measuring {} of {}", measure.title(), self.kind.title()))
    }

    /// Makes sure that the traffic went the way that was to be measured.
    pub fn verify(&self) -> Result<()> {
        let count = self.counters.read()?;
        let right = match self.kind {
            Kind::Plain => count.clear > 0 && count.udp == 0,
            Kind::Isthmus | Kind::Other | Kind::Strongswan => count.clear == 0 && count.udp > 0,
            Kind::WireguardGo => count.clear == 0 && count.other > 0,
        };
        ensure!(right, "{} sent {count:?} between the gateways", self.kind.title());
        Ok(())
    }

    fn throughput(&self, flows: u8, duration: Duration) -> Result<f64> {
        let (from, to) = (&self.sites.left.hosts[0], &self.sites.right.hosts[0]);
        let throughput = iperf::run(&from.node, &to.node, to.address, flows, duration, WARM_UP)?;
        Ok(throughput.bits_per_second / 1e9)
    }

    fn round_trip(&self, duration: Duration) -> Result<f64> {
        let (from, to) = (&self.sites.left.hosts[0], &self.sites.right.hosts[0]);
        let requests = duration.as_secs().max(1) * ECHOES_PER_SECOND;
        let count = Ping::exactly(&from.node, to.address, ECHO_INTERVAL, requests)?;
        ensure!(count.received > 0, "no echo reply");
        Ok(count.median_round_trip.as_secs_f64() * 1e6)
    }
}

fn start_isthmus(sites: &TwoSites, path: &Path, lanes: u8) -> Result<Daemons> {
    let start = |here, there| {
        let mut connection = connection_between(here, there, KEY, IKE, ESP)?;
        connection.options.parallel_child_sas = lanes;
        let program = match lanes {
            1 => Program {
                path: path.to_owned(),
                arguments: vec![crate::TUNNELD.to_owned()],
            },
            _ => Program {
                path: PathBuf::from("env"),
                arguments: vec![
                    format!("{LANES_VARIABLE}={lanes}"),
                    path.to_string_lossy().into_owned(),
                    crate::TUNNELD.to_owned(),
                ],
            },
        };
        Isthmus::start(program, here, vec![connection])
    };
    let both = [
        start(&sites.left, &sites.right)?,
        start(&sites.right, &sites.left)?,
    ];
    both[0].wait_until_up()?;
    Ok(Daemons::Isthmus(Box::new(both)))
}

/// This program again, as a tunnel daemon; or the one that `ISTHMUS_BIN` names.
fn own_program() -> Result<PathBuf> {
    Ok(match env::var_os("ISTHMUS_BIN") {
        Some(path) => path.into(),
        None => env::current_exe()?,
    })
}
