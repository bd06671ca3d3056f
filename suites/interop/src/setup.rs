//! The stage of a case: two sites, our daemon at one, the peer's at the other.

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_hostplan::{ConnectionPlan, IkeIdentity, PeerEndpoint};
use isthmus_netlab::isthmus::{Program, connection_between};
use isthmus_netlab::patience::{eventually_within, holds, stretched};
use isthmus_netlab::strongswan::{SwanChildren, SwanIkeSa};
use isthmus_netlab::{
    Distribution, Family, Isthmus, LinkCounters, Nat, Ping, Site, StrongSwan, SwanConnection, TwoSites,
    TwoSitesOptions,
};
use isthmus_plan::proposal;
use isthmus_types::{Cidr, IkeVersion, SelectorLayout};

use crate::certificates;
use crate::table::{Authentication, Case, Encapsulation, Offer, PeerKind, Role, Selectors, Translated};

/// The shared key of every case but one.
pub const KEY: &str = "one key for both, and for nobody else";
/// How long SAs may take to be what they should, once asked.
const SETTLING: Duration = Duration::from_secs(30);

/// The stage of a case.
pub struct Stage {
    /// The case.
    pub case: Case,
    /// Our daemon.
    pub isthmus: Isthmus,
    /// The peer.
    pub peer: StrongSwan,
    /// Our site.
    pub ours: Site,
    /// The peer's site.
    pub theirs: Site,
    counters: LinkCounters,
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
        let (sites, ours, theirs) = sites(case)?;
        let counters = LinkCounters::new(&sites)?;
        if case.role == Role::Respond {
            refuse_our_beginnings(&sites, uplink_of(&ours, &sites))?;
        }
        let mut plan = our_side(case, &ours, &theirs)?;
        let mut connection = their_side(case, &ours, &theirs);
        if case.authentication != Authentication::Psk {
            certificates::equip(&mut plan, &mut connection, case.authentication, None)?;
        }
        change(&mut plan, &mut connection)?;
        guard(&theirs, &ours)?;
        let distribution = match case.peer {
            PeerKind::StrongSwan5 => Distribution::Installed,
            PeerKind::StrongSwan6 => Distribution::Release6,
            PeerKind::Libreswan => {
                bail!("libreswan has no ESP here: only a handshake and refusals can be tried")
            }
            PeerKind::Isthmus => bail!("this peer is none of strongSwan's"),
        };
        let peer = StrongSwan::start_release(distribution, &theirs.gateway, connection)?;
        let isthmus = Isthmus::start(program()?, &ours, vec![plan])?;
        Ok(Self {
            case: case.clone(),
            isthmus,
            peer,
            ours,
            theirs,
            counters,
            sites,
        })
    }

    /// Lets the negotiation begin, where the peer is to begin it. A refusal shows in our report, not here.
    pub fn begin(&self) -> Result<()> {
        match self.case.role {
            Role::Initiate => Ok(()),
            Role::Respond => self.peer.start_initiating(),
        }
    }

    /// Waits until the tunnel is up on both sides with one IKE SA and the right number of Child SAs, and every pair of
    /// hosts answers.
    pub fn until_joined(&self) -> Result<SwanIkeSa> {
        self.isthmus
            .wait_until_up()
            .with_context(|| self.peer.log_tail())?;
        if self.case.role == Role::Respond && self.case.version == IkeVersion::V1 {
            // Phase 1 is replaced by messages that look like a beginning.
            self.sites
                .internet
                .nft("table inet beginnings {}\ndelete table inet beginnings")?;
        }
        let family = self.case.inner;
        for near in &self.ours.hosts {
            for far in &self.theirs.hosts {
                Ping::until_answered(&near.node, far.address_of(family))
                    .and_then(|_| Ping::until_answered(&far.node, near.address_of(family)))
                    .with_context(|| self.logs())?;
            }
        }
        self.until_settled("one IKE SA with the right Child SAs", |_| true)
    }

    /// Waits until the peer has one IKE SA with the right number of Child SAs, and they are such as `wanted` says.
    pub fn until_settled(&self, what: &str, wanted: impl Fn(&SwanIkeSa) -> bool) -> Result<SwanIkeSa> {
        self.until_settled_within(stretched(SETTLING), what, wanted)
    }

    /// As [`Stage::until_settled`], at most for `limit`.
    pub fn until_settled_within(
        &self,
        limit: Duration,
        what: &str,
        wanted: impl Fn(&SwanIkeSa) -> bool,
    ) -> Result<SwanIkeSa> {
        eventually_within(limit, what, || {
            let ike = self.peer.settled_with(self.case.child_sas())?;
            holds(wanted(&ike), || format!("the peer still has {ike:?}"))?;
            Ok(ike)
        })
        .with_context(|| self.logs())
    }

    /// Makes the internet lose `percent` of the packets.
    pub fn lose(&self, percent: u8) -> Result<()> {
        self.sites.lose(percent)
    }

    /// Makes sure that nothing has crossed the internet but IKE, and ESP in the form that the case wants.
    pub fn only_what_belongs_outside(&self) -> Result<()> {
        let count = self.counters.read()?;
        ensure!(
            count.clear == 0,
            "packets in clear between the gateways: {count:?}"
        );
        // The kernel refuses raw ESP, by ICMP, when the peer's daemon does not read it fast enough.
        ensure!(
            count.other == 0 || self.case.is_native(),
            "packets of an unknown kind between the gateways: {count:?}"
        );
        ensure!(
            (count.esp > count.udp) == self.case.is_native() && (self.case.is_native() || count.esp == 0),
            "ESP is {} native: {count:?}",
            if self.case.is_native() { "not" } else { "also" }
        );
        Ok(())
    }

    /// Makes sure that nothing has crossed the internet but IKE.
    pub fn nothing_in_clear(&self) -> Result<()> {
        let count = self.counters.read()?;
        ensure!(
            count.clear == 0,
            "packets in clear between the gateways: {count:?}"
        );
        Ok(())
    }

    /// The ends of both daemons' logs.
    pub fn logs(&self) -> String {
        format!("{}\n{}", self.isthmus.log_tail(), self.peer.log_tail())
    }
}

/// The networks of a case: all of them, our site, and the peer's. A site behind a translator is the left one; where both are,
/// whoever begins.
pub fn sites(case: &Case) -> Result<(TwoSites, Site, Site)> {
    let (near, far) = subnets(case.pairs)?;
    let sites = TwoSites::new(TwoSitesOptions {
        subnets: near.max(far),
        left_nat: match case.translated {
            Translated::Nobody => Nat::Absent,
            Translated::Ours | Translated::Peer | Translated::Both => Nat::Masquerade,
        },
        right_nat: match case.translated {
            Translated::Nobody | Translated::Ours | Translated::Peer => Nat::Absent,
            Translated::Both => Nat::Forward,
        },
        ..TwoSitesOptions::default()
    })?;
    let peer_is_left = match case.translated {
        Translated::Nobody | Translated::Ours => false,
        Translated::Peer => true,
        Translated::Both => case.role == Role::Respond,
    };
    let (mut ours, mut theirs) = (sites.left.clone(), sites.right.clone());
    if peer_is_left {
        std::mem::swap(&mut ours, &mut theirs);
    }
    ours.hosts.truncate(near.into());
    theirs.hosts.truncate(far.into());
    Ok((sites, ours, theirs))
}

/// The internet's interface to a site.
fn uplink_of(site: &Site, sites: &TwoSites) -> &'static str {
    if site.public_address == sites.left.public_address {
        "left"
    } else {
        "right"
    }
}

/// How many subnets at our and at the peer's site make so many pairs.
fn subnets(pairs: u8) -> Result<(u8, u8)> {
    match pairs {
        1 => Ok((1, 1)),
        2 => Ok((1, 2)),
        4 => Ok((2, 2)),
        6 => Ok((2, 3)),
        other => bail!("there is no stage for {other} pairs"),
    }
}

/// What we are told.
pub fn our_side(case: &Case, ours: &Site, theirs: &Site) -> Result<ConnectionPlan> {
    let mut plan = connection_between(ours, theirs, KEY, &case.ike, &case.esp)?;
    plan.version = case.version;
    plan.peer = PeerEndpoint::Address {
        address: theirs.public_address_of(case.outer),
    };
    plan.local_identity = IkeIdentity::Address(ours.address_of(case.outer));
    plan.peer_identity = IkeIdentity::Address(theirs.address_of(case.outer));
    plan.local_cidrs = ours.subnets_of(case.inner);
    plan.peer_cidrs = theirs.subnets_of(case.inner);
    plan.force_encapsulation = case.encapsulation == Encapsulation::Forced;
    plan.options.selectors = match case.selectors {
        Selectors::Together => SelectorLayout::Together,
        Selectors::PerPair => SelectorLayout::PerPair,
    };
    plan.options.childless = case.childless;
    plan.options.parallel_child_sas = case.parallel;
    match case.offer {
        Offer::Exact => {}
        Offer::Automatic | Offer::AutomaticObsolete => {
            let obsolete = case.offer == Offer::AutomaticObsolete;
            plan.ike_proposals = proposal::auto_ike(obsolete);
            plan.esp_proposals = proposal::auto_esp(obsolete);
        }
    }
    Ok(plan)
}

/// What the peer is told.
pub fn their_side(case: &Case, ours: &Site, theirs: &Site) -> SwanConnection {
    let mut connection = SwanConnection::between(theirs, ours, KEY, &case.ike, &case.peer_esp);
    connection.version = case.version;
    connection.local = theirs.address_of(case.outer);
    connection.remote = ours.public_address_of(case.outer);
    connection.local_id = theirs.address_of(case.outer).to_string();
    connection.remote_id = ours.address_of(case.outer).to_string();
    connection.local_ranges = theirs.subnets_of(case.inner);
    connection.remote_ranges = ours.subnets_of(case.inner);
    connection.force_encapsulation = case.encapsulation == Encapsulation::Forced;
    connection.childless = case.childless;
    connection.children = match (case.selectors, case.version) {
        (Selectors::Together, IkeVersion::V2) => SwanChildren::Together,
        (Selectors::PerPair, _) | (Selectors::Together, IkeVersion::V1) => SwanChildren::PerPair,
    };
    connection
}

/// Keeps the peer's gateway from sending in clear, since strongSwan takes packets from a Child SA before its own routes
/// are there: what is seen in clear is ours.
fn guard(theirs: &Site, ours: &Site) -> Result<()> {
    let set = |family| {
        let ranges = ours.subnets_of(family);
        let ranges: Vec<String> = ranges.iter().map(Cidr::to_string).collect();
        ranges.join(", ")
    };
    theirs.gateway.nft(&format!(
        "table inet guard {{
            chain postrouting {{
                type filter hook postrouting priority filter;
                oifname wan ip daddr {{ {} }} drop
                oifname wan ip6 daddr {{ {} }} drop
            }}
        }}",
        set(Family::V4),
        set(Family::V6)
    ))
}

/// Our daemon.
pub fn program() -> Result<Program> {
    let path = match env::var_os("ISTHMUS_BIN") {
        Some(path) => path.into(),
        None => env::current_exe()?,
    };
    Ok(Program {
        path,
        arguments: vec![crate::TUNNELD.to_owned()],
    })
}

/// Drops each message of ours that begins a negotiation, on its way: after the UDP header, and after the marker of four
/// zero bytes on port 4500 (RFC 3948 section 2.2), exchange type 34 without the response flag (RFC 7296 section 3.1), and
/// types 2 and 4 without a responder's cookie (RFC 2408 section 3.1).
pub fn refuse_our_beginnings(sites: &TwoSites, our_uplink: &str) -> Result<()> {
    sites.internet.nft(&format!(
        "table inet beginnings {{
            chain forward {{
                type filter hook forward priority filter;
                iifname {our_uplink} udp dport 500 @th,208,8 34 @th,216,8 & 0x20 == 0 drop
                iifname {our_uplink} udp dport 500 @th,208,8 {{ 2, 4 }} @th,128,64 0 drop
                iifname {our_uplink} udp dport 4500 @th,64,32 0 @th,240,8 34 @th,248,8 & 0x20 == 0 drop
                iifname {our_uplink} udp dport 4500 @th,64,32 0 @th,240,8 {{ 2, 4 }} @th,160,64 0 drop
            }}
        }}"
    ))
}
