//! What is measured: one way to join the two sites of a topology.

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_netlab::isthmus::{Program, connection_between};
use isthmus_netlab::{
    Isthmus, LinkCounters, Ping, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions, iperf,
};

const IKE: &str = "aes128gcm16-prfsha256-x25519";
const ESP: &str = "aes128gcm16-x25519";
const KEY: &str = "the key of a tunnel that only this benchmark sees";

/// A way to join the two sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Routers and nothing else.
    Plain,
    /// Our tunnel daemon at both gateways.
    Isthmus,
    /// strongSwan with userspace ESP at both gateways.
    StrongSwan,
}

impl Kind {
    /// Every kind, in the order of measuring.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Isthmus, Self::StrongSwan];

    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Plain => "plain routing",
            Self::Isthmus => "Isthmus",
            Self::StrongSwan => "strongSwan userspace ESP",
        }
    }
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
}

impl Contender {
    /// Builds the topology and joins the sites.
    pub fn start(kind: Kind) -> Result<Self> {
        let sites = TwoSites::new(TwoSitesOptions::default())?;
        let counters = LinkCounters::new(&sites)?;
        let (left, right) = (&sites.left, &sites.right);
        let daemons = match kind {
            Kind::Plain => {
                sites.route_in_clear()?;
                Daemons::None
            }
            Kind::Isthmus => {
                let start = |here, there| {
                    let connection = connection_between(here, there, KEY, IKE, ESP)?;
                    Isthmus::start(program()?, here, vec![connection])
                };
                let both = [start(left, right)?, start(right, left)?];
                both[0].wait_until_up()?;
                Daemons::Isthmus(Box::new(both))
            }
            Kind::StrongSwan => {
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

    /// One TCP test from left to right, Gbit/s. The first second is not counted.
    pub fn measure(&self, flows: u8, duration: Duration) -> Result<f64> {
        let (from, to) = (&self.sites.left.hosts[0], &self.sites.right.hosts[0]);
        let warm_up = Duration::from_secs(1);
        let throughput = iperf::run(&from.node, &to.node, to.address, flows, duration, warm_up)
            .with_context(|| format!("measuring {}", self.kind.title()))?;
        Ok(throughput.bits_per_second / 1e9)
    }

    /// Makes sure that the traffic went the way that was to be measured.
    pub fn verify(&self) -> Result<()> {
        let count = self.counters.read()?;
        let right = match self.kind {
            Kind::Plain => count.clear > 0 && count.udp == 0,
            Kind::Isthmus | Kind::StrongSwan => count.clear == 0 && count.udp > 0,
        };
        ensure!(right, "{} sent {count:?} between the gateways", self.kind.title());
        Ok(())
    }
}

/// This program again, as a tunnel daemon; or the one that `ISTHMUS_BIN` names.
fn program() -> Result<Program> {
    let path = match env::var_os("ISTHMUS_BIN") {
        Some(path) => path.into(),
        None => env::current_exe()?,
    };
    Ok(Program {
        path,
        arguments: vec![crate::TUNNELD.to_owned()],
    })
}
