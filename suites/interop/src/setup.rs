//! The stage of a case: two sites, our daemon at one, the peer's at the other.

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::ConnectionPlan;
use isthmus_netlab::isthmus::{Program, connection_between};
use isthmus_netlab::patience::{eventually_within, holds};
use isthmus_netlab::strongswan::{SwanChildSa, SwanIkeSa};
use isthmus_netlab::{
    Isthmus, LinkCounters, Nat, Ping, Site, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions,
};

use crate::table::{Case, Role, Translated};

/// The shared key of every case but one.
pub const KEY: &str = "one key for both, and for nobody else";

/// The stage of a case.
pub struct Stage {
    /// Our daemon.
    pub isthmus: Isthmus,
    /// The peer.
    pub peer: StrongSwan,
    /// Our site.
    pub ours: Site,
    /// The peer's site.
    pub theirs: Site,
    /// What crosses the internet.
    pub counters: LinkCounters,
    role: Role,
    // Last: the namespaces go after the daemons.
    sites: TwoSites,
}

impl Stage {
    /// Sets it up with both daemons running; nothing is negotiated before [`Stage::begin`] in the peer's role, and at once
    /// in ours. `change` alters what each side is told.
    pub fn new(
        case: &Case,
        change: impl FnOnce(&mut ConnectionPlan, &mut SwanConnection) -> Result<()>,
    ) -> Result<Self> {
        let sites = TwoSites::new(TwoSitesOptions {
            subnets: case.pairs,
            left_nat: match case.translated {
                Translated::Nobody => Nat::Absent,
                Translated::Ours | Translated::Peer => Nat::Masquerade,
            },
            ..TwoSitesOptions::default()
        })?;
        let (ours, theirs) = match case.translated {
            Translated::Nobody | Translated::Ours => (sites.left.clone(), sites.right.clone()),
            Translated::Peer => (sites.right.clone(), sites.left.clone()),
        };
        let counters = LinkCounters::new(&sites)?;
        if case.role == Role::Respond {
            refuse_our_beginnings(&sites, &ours)?;
        }
        let mut plan = connection_between(&ours, &theirs, KEY, &case.ike, &case.esp)?;
        let mut connection = SwanConnection::between(&theirs, &ours, KEY, &case.ike, &case.esp);
        change(&mut plan, &mut connection)?;
        let peer = StrongSwan::start(&theirs.gateway, connection)?;
        let isthmus = Isthmus::start(program()?, &ours, vec![plan])?;
        Ok(Self {
            isthmus,
            peer,
            ours,
            theirs,
            counters,
            role: case.role,
            sites,
        })
    }

    /// Lets the negotiation begin, where the peer is to begin it. A refusal shows in our report, not here.
    pub fn begin(&self) -> Result<()> {
        match self.role {
            Role::Initiate => Ok(()),
            Role::Respond => self.peer.start_initiating(),
        }
    }

    /// Waits until the tunnel is up on both sides with one IKE SA and one Child SA, and every pair of hosts answers.
    pub fn until_joined(&self) -> Result<(SwanIkeSa, SwanChildSa)> {
        self.isthmus
            .wait_until_up()
            .with_context(|| self.peer.log_tail())?;
        for near in &self.ours.hosts {
            for far in &self.theirs.hosts {
                Ping::until_answered(&near.node, far.address)?;
                Ping::until_answered(&far.node, near.address)?;
            }
        }
        self.until_settled(Duration::from_secs(20), "one IKE SA with one Child SA", |_, _| {
            true
        })
    }

    /// Waits until the peer has one IKE SA with one Child SA, and they are such as `wanted` says.
    pub fn until_settled(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&SwanIkeSa, &SwanChildSa) -> bool,
    ) -> Result<(SwanIkeSa, SwanChildSa)> {
        eventually_within(limit, what, || {
            let (ike, child) = self.peer.settled()?;
            holds(wanted(&ike, &child), || format!("the peer still has {ike:?}"))?;
            Ok((ike, child))
        })
        .with_context(|| format!("{}\n{}", self.isthmus.log_tail(), self.peer.log_tail()))
    }

    /// Makes the internet lose `percent` of the packets.
    pub fn lose(&self, percent: u8) -> Result<()> {
        self.sites.lose(percent)
    }

    /// Makes sure that nothing has crossed the internet but IKE and ESP.
    pub fn nothing_in_clear(&self) -> Result<()> {
        let count = self.counters.read()?;
        ensure!(
            count.clear == 0,
            "packets in clear between the gateways: {count:?}"
        );
        Ok(())
    }
}

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

/// Drops each IKE_SA_INIT request of ours on its way: exchange type 34 without the response flag, after the UDP header,
/// and after the marker of four zero bytes on port 4500 (RFC 7296 section 3.1, RFC 3948 section 2.2).
fn refuse_our_beginnings(sites: &TwoSites, ours: &Site) -> Result<()> {
    sites.internet.nft(&format!(
        "table ip beginnings {{
            chain forward {{
                type filter hook forward priority filter;
                ip saddr {address} udp dport 500 @th,208,8 34 @th,216,8 & 0x20 == 0 drop
                ip saddr {address} udp dport 4500 @th,64,32 0 @th,240,8 34 @th,248,8 & 0x20 == 0 drop
            }}
        }}",
        address = ours.public_address
    ))
}
