//! One history, made from its seed.

use std::time::Duration;

use isthmus_ike::{ConnectionConfig, DpdAction, EstablishMode, PeerEndpoint};
use isthmus_simnet::{Link, Nat, Pair, Side};
use isthmus_types::{DhGroup, Encryption, IkeProposal, IkeVersion, Integrity, Prf, SelectorLayout};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::difference::Difference;

/// The ends have so long to agree once the network is clean.
const PATIENCE: Duration = Duration::from_secs(150);
/// Most IKE SAs that an end may hold at any moment.
const MAX_IKE_SAS: usize = 24;
/// Most children that an end may hold for each pair at any moment.
const MAX_CHILDREN_PER_PAIR: usize = 24;

pub struct History {
    rng: ChaCha20Rng,
    pair: Pair,
    configs: [ConnectionConfig; 2],
    /// No datagram is lost and nobody restarts: then no packet may be lost either.
    gentle: bool,
    /// The tunnel cannot come up before it is removed.
    difference: Option<Difference>,
    narrates: bool,
    pairs: usize,
}

impl History {
    pub fn new(seed: u64, version: IkeVersion) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x6973_7468_6d75_7300);
        let difference = Difference::of(seed, version);
        let gentle = rng.next_u32().is_multiple_of(5) && difference.is_none();
        let mut pair = Pair::new(seed, Link::clean());
        let behind_nat = !gentle && rng.next_u32().is_multiple_of(4);
        let configs = configs(&mut rng, version, behind_nat);
        if behind_nat {
            pair.put_nat(
                Side::Left,
                Nat::new("198.51.100.1".parse().expect("a constant address")),
            );
        }
        if !gentle {
            pair.traffic_interval = Duration::from_millis(300);
        }
        let pairs = configs[0].local_cidrs.len() * configs[0].peer_cidrs.len();
        Self {
            rng,
            pair,
            configs,
            gentle,
            difference,
            narrates: false,
            pairs,
        }
    }

    /// Prints what happens.
    pub fn narrate(&mut self) {
        self.narrates = true;
        self.pair.journal = Some(Vec::new());
    }

    pub fn print_journal(&mut self) {
        for line in self.pair.journal.take().unwrap_or_default() {
            print_line(&line);
        }
    }

    pub fn run(&mut self) -> Result<(), String> {
        self.start()?;
        let steps = 5 + self.below(25);
        for _ in 0..steps {
            self.change_network();
            self.act();
            let pause = self.pause();
            self.pair.run_for(pause);
            self.check_bounds()?;
        }
        if let Some(difference) = self.difference {
            self.explain(difference)?;
            if self.below(2) == 0 {
                return self.close();
            }
            self.tell("the difference is removed");
            self.difference = None;
        }
        self.agree()?;
        self.stay()?;
        self.close()
    }

    fn start(&mut self) -> Result<(), String> {
        if self.gentle {
            self.tell("gentle");
            for side in [Side::Left, Side::Right] {
                self.upsert(side);
            }
            let up = self.pair.run_until(PATIENCE, Pair::is_settled);
            self.pair.set_traffic(true);
            return up.then_some(()).ok_or_else(|| self.evidence("did not come up"));
        }
        let first = self.side();
        self.upsert(first);
        let pause = self.pause();
        self.pair.run_for(pause);
        self.upsert(first.other());
        self.pair.set_traffic(true);
        Ok(())
    }

    fn change_network(&mut self) {
        let jitter = Duration::from_millis(self.below(if self.gentle { 2 } else { 600 }));
        let (loss, duplicates) = match self.below(4) {
            _ if self.gentle => (0, 0),
            0 => (0, 0),
            1 => (60, 10),
            _ => (self.below(30) as u32, self.below(30) as u32),
        };
        let delay = Duration::from_millis(1 + self.below(if self.gentle { 40 } else { 250 }));
        self.pair.link = Link {
            delay,
            jitter,
            loss_percent: loss,
            duplicate_percent: duplicates,
            ..Link::clean()
        };
    }

    fn act(&mut self) {
        let side = self.side();
        let connection = side.connection();
        match self.below(if self.gentle { 10 } else { 20 }) {
            0..=2 => {
                self.tell(&format!("{side:?} rekeys a child"));
                self.rekey_child(side);
            }
            3..=5 => {
                self.tell(&format!("{side:?} rekeys IKE"));
                self.pair
                    .act(side, |endpoint, now| endpoint.rekey_ike(connection, now));
            }
            6 => {
                self.tell("both rekey a child");
                self.rekey_child(side);
                let gap = Duration::from_millis(self.below(30));
                self.pair.run_for(gap);
                self.rekey_child(side.other());
            }
            7 => {
                self.tell("both rekey IKE");
                for side in [side, side.other()] {
                    self.pair
                        .act(side, |endpoint, now| endpoint.rekey_ike(side.connection(), now));
                    let gap = Duration::from_millis(self.below(30));
                    self.pair.run_for(gap);
                }
            }
            8 => self
                .pair
                .act(side, |endpoint, now| endpoint.acquire(connection, now)),
            9 => self.upsert(side),
            10 | 11 => {
                self.tell(&format!("{side:?} restarts"));
                self.pair.restart(side);
                let pause = self.pause();
                self.pair.run_for(pause);
                self.upsert(side);
            }
            12 | 13 => {
                let time = Duration::from_secs(1 + self.below(90));
                self.tell(&format!("{side:?} sleeps for {time:?}"));
                self.pair.sleep(side, time);
            }
            14 => {
                self.tell("the NAT forgets");
                if let Some(nat) = self.pair.nat_mut() {
                    nat.rebind();
                }
            }
            15 => {
                self.tell(&format!("{side:?} resets"));
                self.configs[side as usize].reset_count += 1;
                self.upsert(side);
            }
            16 => {
                self.tell(&format!("{side:?} is put down and up"));
                self.configs[side as usize].admin_up = false;
                self.upsert(side);
                let pause = self.pause();
                self.pair.run_for(pause);
                self.configs[side as usize].admin_up = true;
                self.upsert(side);
            }
            17 => self.toggle_range(),
            18 => {
                let dh = match self.below(2) {
                    0 => vec![],
                    _ => vec![DhGroup::X25519],
                };
                self.tell("PFS changes");
                for side in [side, side.other()] {
                    self.configs[side as usize].esp_proposals[0].pfs.clone_from(&dh);
                    self.upsert(side);
                    let gap = Duration::from_millis(self.below(2000));
                    self.pair.run_for(gap);
                }
            }
            _ => {
                self.tell(&format!("{side:?} is removed and added"));
                self.pair
                    .act(side, |endpoint, now| endpoint.remove_connection(connection, now));
                let pause = self.pause();
                self.pair.run_for(pause);
                self.upsert(side);
            }
        }
    }

    /// A range of the left end is added at both ends, or taken away.
    fn toggle_range(&mut self) {
        let range = "10.111.0.0/16".parse().expect("a constant range");
        self.tell("a range comes or goes");
        let there = self.configs[0].local_cidrs.contains(&range);
        let first = self.side();
        for side in [first, first.other()] {
            let config = &mut self.configs[side as usize];
            let ranges = match side {
                Side::Left => &mut config.local_cidrs,
                Side::Right => &mut config.peer_cidrs,
            };
            ranges.retain(|other| *other != range);
            if !there {
                ranges.push(range);
            }
            self.upsert(side);
            let gap = Duration::from_millis(self.below(3000));
            self.pair.run_for(gap);
        }
    }

    /// The network is clean from now on, and the ends have time.
    fn calm_down(&mut self) {
        self.tell("the network is clean");
        self.pair.link = Link::clean();
        for config in &mut self.configs {
            lengthen(config);
        }
        for side in [Side::Left, Side::Right] {
            self.upsert(side);
        }
        // Whoever sleeps wakes up.
        self.pair.run_for(Duration::from_secs(100));
        for side in [Side::Left, Side::Right] {
            self.pair
                .act(side, |endpoint, now| endpoint.acquire(side.connection(), now));
        }
    }

    /// Each end must say why the tunnel is down, and one of them must know the field.
    fn explain(&mut self, difference: Difference) -> Result<(), String> {
        self.calm_down();
        let told = |pair: &Pair| {
            let statuses = [Side::Left, Side::Right].map(|side| {
                pair.peer(side)
                    .endpoint
                    .status(side.connection())
                    .expect("a connection")
            });
            let untold = [Side::Left, Side::Right]
                .iter()
                .zip(&statuses)
                .find_map(|(side, status)| difference.untold_by(*side, status));
            let holds_child = |side: Side| !pair.peer(side).children.is_empty();
            let child = holds_child(Side::Left) || holds_child(Side::Right);
            untold
                .or_else(|| child.then(|| "an end has a child".into()))
                .or_else(|| {
                    let named = statuses.iter().any(|status| difference.is_named_by(status));
                    (!named).then(|| "no end names the field".into())
                })
        };
        if !self.pair.run_until(PATIENCE, |pair| told(pair).is_none()) {
            let untold = told(&self.pair);
            return Err(self.evidence(&format!("{difference:?} is not told: {untold:?}")));
        }
        // Attempts go on, but not as a flood, and the ends go on telling.
        let sent = self.pair.sent;
        self.pair.run_for(Duration::from_secs(60));
        let sent = self.pair.sent - sent;
        if sent == 0 || sent > 240 + 40 * self.pairs {
            return Err(self.evidence(&format!("{difference:?}: {sent} datagrams in a minute")));
        }
        if let Some(untold) = told(&self.pair) {
            return Err(self.evidence(&format!("{difference:?} is told no more: {untold}")));
        }
        self.check_bounds()
    }

    fn agree(&mut self) -> Result<(), String> {
        self.calm_down();
        if !self.pair.run_until(PATIENCE, Pair::is_settled) {
            return Err(self.evidence("does not settle"));
        }
        if self.gentle {
            let lost = [Side::Left, Side::Right].map(|side| {
                let peer = self.pair.peer(side);
                (peer.lost, peer.unsent)
            });
            if lost != [(0, 0); 2] {
                return Err(self.evidence(&format!("lost packets: {lost:?}")));
            }
        }
        Ok(())
    }

    /// What was agreed on lasts, without noise.
    fn stay(&mut self) -> Result<(), String> {
        let (sent, received) = (self.pair.sent, self.received());
        self.pair.run_for(Duration::from_secs(30));
        if !self.pair.run_until(Duration::from_secs(15), Pair::is_settled) {
            return Err(self.evidence("does not stay settled"));
        }
        let sent = self.pair.sent - sent;
        // Probes, and a few rekeys.
        let bound = 80 + 10 * self.pairs;
        if sent > bound {
            return Err(self.evidence(&format!("{sent} datagrams in 30 s")));
        }
        let now = self.received();
        if now[0] <= received[0] || now[1] <= received[1] {
            return Err(self.evidence("no traffic"));
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.pair.set_traffic(false);
        for side in [Side::Left, Side::Right] {
            self.pair.act(side, |endpoint, now| endpoint.close(now));
        }
        self.pair.run_for(Duration::from_secs(40));
        for side in [Side::Left, Side::Right] {
            let peer = self.pair.peer(side);
            let footprint = peer.endpoint.footprint();
            if footprint != isthmus_ike::Footprint::default() {
                return Err(self.evidence(&format!("{side:?} leaks: {footprint:?}")));
            }
            if !peer.children.is_empty() || !peer.ike_spis.is_empty() {
                return Err(self.evidence(&format!("{side:?} leaves children or IKE SPIs")));
            }
            if let Some((_, why)) = peer.endpoint.poll_timeout() {
                return Err(self.evidence(&format!("{side:?} still waits for: {why}")));
            }
        }
        Ok(())
    }

    fn check_bounds(&self) -> Result<(), String> {
        for side in [Side::Left, Side::Right] {
            let peer = self.pair.peer(side);
            let footprint = peer.endpoint.footprint();
            if let Some(difference) = self.difference
                && !difference.allows_child(side)
                && !peer.children.is_empty()
            {
                return Err(self.evidence(&format!("{side:?} has a child in spite of {difference:?}")));
            }
            let most = MAX_CHILDREN_PER_PAIR * (self.pairs + 4);
            let leak = footprint.ike_sas > MAX_IKE_SAS
                || footprint.esp_spis > most
                || footprint.ike_spis > 2 * MAX_IKE_SAS
                || peer.children.len() != footprint.children + footprint.retired_children;
            if leak {
                let installed = peer.children.len();
                return Err(self.evidence(&format!("{side:?} holds {footprint:?} and {installed} installed")));
            }
        }
        Ok(())
    }

    fn rekey_child(&mut self, side: Side) {
        let children: Vec<_> = self.pair.peer(side).children.keys().copied().collect();
        if children.is_empty() {
            return;
        }
        let index = usize::try_from(self.below(children.len() as u64)).unwrap_or(0);
        self.pair.act(side, |endpoint, now| {
            endpoint.rekey_child(children[index], now);
        });
    }

    fn upsert(&mut self, side: Side) {
        let mut config = self.configs[side as usize].clone();
        if let Some(difference) = self.difference {
            difference.spoil(side, &mut config);
        }
        self.pair.upsert(side, config);
    }

    fn received(&self) -> [u64; 2] {
        [Side::Left, Side::Right].map(|side| self.pair.peer(side).received)
    }

    fn below(&mut self, most: u64) -> u64 {
        u64::from(self.rng.next_u32()) % most.max(1)
    }

    fn side(&mut self) -> Side {
        if self.rng.next_u32().is_multiple_of(2) {
            Side::Left
        } else {
            Side::Right
        }
    }

    fn pause(&mut self) -> Duration {
        let most = match self.below(5) {
            0 => 40,
            1 | 2 => 500,
            3 => 5_000,
            _ => 20_000,
        };
        Duration::from_millis(self.below(most))
    }

    fn tell(&mut self, what: &str) {
        self.pair.note(Side::Left, &format!("-- {what}"));
    }

    fn evidence(&self, what: &str) -> String {
        let mut text = format!("{what} at {:?}: {:?}", self.pair.elapsed(), self.pair.discord());
        if self.narrates {
            for side in [Side::Left, Side::Right] {
                let peer = self.pair.peer(side);
                text.push_str(&format!(
                    "\n{side:?}: {:#?}\n{:?}",
                    peer.endpoint.status(side.connection()),
                    peer.endpoint.footprint()
                ));
            }
        }
        text
    }
}

/// Configurations that fit each other.
fn configs(rng: &mut ChaCha20Rng, version: IkeVersion, behind_nat: bool) -> [ConnectionConfig; 2] {
    let mut below = |most: u32| rng.next_u32() % most;
    let ranges = [1 + below(2), 1 + below(3)];

    let layouts = [
        SelectorLayout::Automatic,
        SelectorLayout::Together,
        SelectorLayout::PerPair,
    ];
    let (only, lanes) = (below(4), if below(5) == 0 { 2 + below(2) } else { 1 });
    let (ike_lifetime, esp_lifetime) = (40 + below(200), 25 + below(100));
    let pfs = below(2) == 0;
    let mut make = |side: Side| {
        let mut config = Pair::config(side);
        let cidrs = |net: u32, count: u32| {
            (0..count)
                .map(|third| format!("10.{net}.{third}.0/24").parse().expect("a range"))
                .collect::<Vec<_>>()
        };
        let (left, right) = (cidrs(1, ranges[0]), cidrs(2, ranges[1]));
        (config.local_cidrs, config.peer_cidrs) = match side {
            Side::Left => (left, right),
            Side::Right => (right, left),
        };
        config.version = version;
        if version == IkeVersion::V1 {
            config.ike_proposals = vec![IkeProposal {
                encryption: vec![Encryption::Aes256Cbc],
                integrity: vec![Integrity::HmacSha2_256_128],
                prf: vec![Prf::HmacSha2_256],
                dh: vec![DhGroup::X25519],
                additional: Vec::new(),
            }];
        }
        config.options.selectors = layouts[below(3) as usize];
        config.options.parallel_child_sas = match version {
            IkeVersion::V1 => 1,
            IkeVersion::V2 => u8::try_from(lanes).unwrap_or(1),
        };
        config.ike_lifetime_seconds = ike_lifetime + below(20);
        config.esp_lifetime_seconds = esp_lifetime + below(20);
        if pfs {
            config.esp_proposals[0].pfs = vec![DhGroup::X25519];
        }
        config.dpd_action = match below(6) {
            0 => DpdAction::Clear,
            1 => DpdAction::Hold,
            _ => DpdAction::Restart,
        };
        config
    };
    let (mut left, mut right) = (make(Side::Left), make(Side::Right));
    if behind_nat {
        lengthen(&mut right);
        right.peer = PeerEndpoint::Address("198.51.100.1".parse().expect("a constant address"));
        right.establish = EstablishMode::PeerOnly;
        left.dpd_action = DpdAction::Restart;
    } else if only == 0 {
        // It leaves rekeys to the other end, and must not come to its own end first.
        lengthen(&mut left);
        left.establish = EstablishMode::PeerOnly;
        right.dpd_action = DpdAction::Restart;
    }
    [left, right]
}

fn lengthen(config: &mut ConnectionConfig) {
    config.ike_lifetime_seconds += 3_000;
    config.esp_lifetime_seconds += 2_000;
}

#[expect(clippy::print_stdout, reason = "a replayed history is told to people")]
fn print_line(line: &str) {
    println!("{line}");
}
