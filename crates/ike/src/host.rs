//! What all IKE SAs of an endpoint share: randomness, SPIs, ids and the queues to the shell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_crypto::suite::CipherSuite;
use isthmus_types::{Timestamp, VpnConnectionId};
use isthmus_wire::ike::IkeSpi;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::channel::Sealed;
use crate::child::Child;
use crate::connection::Connection;
use crate::event::{ChildId, Event, Framing, IkeSaKeys, Transmit};
use crate::finding::{EventKind, FindingKind, Note};
use crate::keys::{IkeKeys, SpiPair};
use crate::nat::Path;
use crate::sa::{IkeSa, SaId};
use crate::status::DownReason;

/// How long a child that was replaced or deleted still receives packets in flight.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// ESP SPIs up to this are reserved (RFC 4303 section 2.1).
pub(crate) const RESERVED_SPIS: u32 = 255;
/// Notes that wait for the shell; it may never ask for them.
const MAX_NOTES: usize = 256;
/// Bytes of our nonces.
const NONCE_LEN: usize = 32;

pub(crate) struct Host {
    local: IpAddr,
    other_local: Option<IpAddr>,
    /// The date at some moment, if the shell told it.
    pub(crate) date: Option<(Timestamp, Instant)>,
    pub(crate) rng: ChaCha20Rng,
    pub(crate) transmits: VecDeque<Transmit>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) followups: VecDeque<Followup>,
    notes: VecDeque<Note>,
    /// Our inbound ESP SPIs in use, also of attempts and of children in their grace.
    esp_spis: BTreeSet<u32>,
    /// Our IKE SPIs.
    ike_spis: BTreeMap<IkeSpi, SaId>,
    /// Which IKE SA a child belongs to.
    pub(crate) owners: BTreeMap<ChildId, (VpnConnectionId, SaId)>,
    graves: Vec<Grave>,
    next_sa: u64,
    next_child: u64,
    /// Whether keys of IKE SAs are told.
    pub(crate) tells_keys: bool,
}

/// A child that only receives, until its time is over.
struct Grave {
    at: Instant,
    connection: VpnConnectionId,
    child: ChildId,
    spi: u32,
}

/// What the endpoint must do after an exchange, because it concerns more than one IKE SA.
pub(crate) enum Followup {
    /// Children of an IKE SA that was replaced move to its successor.
    Adopt {
        /// The children.
        children: Vec<Child>,
        /// The successor.
        to: SaId,
    },
    /// A new IKE SA, from a rekey.
    Insert(Box<IkeSa>),
    /// The peer is expected to remove this IKE SA soon.
    AwaitRemoval(SaId),
    /// This IKE SA was authenticated.
    Established(SaId),
    /// All older IKE SAs of the connection are gone at the peer (INITIAL_CONTACT).
    ForgetOlder {
        /// The connection.
        connection: VpnConnectionId,
        /// The IKE SA that told so.
        keep: SaId,
        /// IKE SAs established before this moment are older.
        before: Instant,
    },
}

/// What an exchange works with beside its IKE SA.
pub(crate) struct Context<'a> {
    pub(crate) host: &'a mut Host,
    /// None if the IKE SA belongs to no connection (any more).
    pub(crate) connection: Option<&'a mut Connection>,
    pub(crate) now: Instant,
}

impl Context<'_> {
    /// Records what went wrong for the connection's status.
    pub(crate) fn complain(&mut self, reason: DownReason, detail: String) {
        if let Some(connection) = &mut self.connection {
            connection.complain(reason, detail);
        }
    }

    /// Records evidence of what is wrong, for the connection's status.
    pub(crate) fn find(&mut self, kind: FindingKind) {
        if let Some(connection) = &mut self.connection {
            connection.diary.find(kind);
        }
    }

    /// Records what happened to the connection.
    pub(crate) fn note(&mut self, kind: EventKind) {
        if let Some(connection) = &mut self.connection {
            connection.diary.note(kind);
        }
    }
}

impl Host {
    /// The date at `now`; none if the shell never told it.
    pub(crate) fn date_at(&self, now: Instant) -> Option<Timestamp> {
        let (date, told_at) = self.date?;
        let since = u64::try_from(now.saturating_duration_since(told_at).as_millis()).ok()?;
        Some(Timestamp(date.0.saturating_add(since)))
    }

    pub(crate) fn new(local: IpAddr, seed: [u8; 32]) -> Self {
        Self {
            local,
            other_local: None,
            date: None,
            rng: ChaCha20Rng::from_seed(seed),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            followups: VecDeque::new(),
            notes: VecDeque::new(),
            esp_spis: BTreeSet::new(),
            ike_spis: BTreeMap::new(),
            owners: BTreeMap::new(),
            graves: Vec::new(),
            next_sa: 0,
            next_child: 0,
            tells_keys: false,
        }
    }

    /// The address that the endpoint was made with.
    pub(crate) const fn local(&self) -> IpAddr {
        self.local
    }

    /// An address of the other IP version than the first one; none takes it away.
    pub(crate) const fn set_other_local(&mut self, address: Option<IpAddr>) {
        self.other_local = address;
    }

    /// The address of ours that messages to `remote` come from, and that those from there were sent to.
    pub(crate) fn local_for(&self, remote: IpAddr) -> IpAddr {
        self.other_local
            .filter(|other| other.is_ipv4() == remote.is_ipv4() && self.local.is_ipv4() != remote.is_ipv4())
            .unwrap_or(self.local)
    }

    /// Keeps a note for the shell; the oldest goes if nobody asks for them.
    pub(crate) fn note(&mut self, note: Note) {
        if self.notes.len() >= MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    pub(crate) fn next_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// A new IKE SA's id and SPI.
    pub(crate) fn new_sa(&mut self) -> (SaId, IkeSpi) {
        let id = SaId(self.next_sa);
        self.next_sa += 1;
        loop {
            let spi = IkeSpi(self.rng.next_u64());
            if spi != IkeSpi::ZERO && !self.ike_spis.contains_key(&spi) {
                self.ike_spis.insert(spi, id);
                self.events.push_back(Event::SpiOpened { spi: spi.0 });
                return (id, spi);
            }
        }
    }

    pub(crate) fn sa_of(&self, spi: IkeSpi) -> Option<SaId> {
        self.ike_spis.get(&spi).copied()
    }

    pub(crate) fn free_ike_spi(&mut self, spi: IkeSpi) {
        if self.ike_spis.remove(&spi).is_some() {
            self.events.push_back(Event::SpiClosed { spi: spi.0 });
        }
    }

    pub(crate) fn new_child(&mut self) -> ChildId {
        let id = ChildId(self.next_child);
        self.next_child += 1;
        id
    }

    /// An inbound ESP SPI that is not in use.
    pub(crate) fn new_esp_spi(&mut self) -> u32 {
        loop {
            let spi = self.rng.next_u32();
            if spi > RESERVED_SPIS && self.esp_spis.insert(spi) {
                return spi;
            }
        }
    }

    pub(crate) fn free_esp_spi(&mut self, spi: u32) {
        self.esp_spis.remove(&spi);
    }

    pub(crate) fn nonce(&mut self) -> Vec<u8> {
        let mut nonce = vec![0; NONCE_LEN];
        self.rng.fill_bytes(&mut nonce);
        nonce
    }

    pub(crate) fn jitter(&mut self) -> u8 {
        let [byte, ..] = self.rng.next_u32().to_be_bytes();
        byte
    }

    /// A random duration below `most`.
    pub(crate) fn random_below(&mut self, most: Duration) -> Duration {
        most * u32::from(self.jitter()) / 256
    }

    pub(crate) fn send(&mut self, path: &Path, message: impl Into<Sealed>) {
        self.send_to(path.local_port, path.remote, message);
    }

    /// Tells the shell the keys of an IKE SA, if it wants to know them.
    pub(crate) fn tell_keys(&mut self, spis: SpiPair, cipher: CipherSuite, keys: &IkeKeys) {
        if self.tells_keys {
            self.events.push_back(Event::IkeKeysAgreed(Box::new(IkeSaKeys {
                initiator_spi: spis.initiator.0,
                responder_spi: spis.responder.0,
                cipher,
                initiator: keys.initiator.clone(),
                responder: keys.responder.clone(),
            })));
        }
    }

    pub(crate) fn send_to(&mut self, local_port: u16, destination: SocketAddr, message: impl Into<Sealed>) {
        for payload in message.into().0 {
            self.transmits.push_back(Transmit {
                local_port,
                destination,
                payload,
                framing: Framing::Ike,
            });
        }
    }

    pub(crate) fn send_keepalive(&mut self, path: &Path) {
        self.transmits.push_back(Transmit {
            local_port: path.local_port,
            destination: path.remote,
            payload: vec![0xff],
            framing: Framing::Keepalive,
        });
    }

    /// Lets a child receive for `grace` more, then removes it.
    pub(crate) fn bury(&mut self, connection: VpnConnectionId, child: ChildId, spi: u32, at: Instant) {
        self.owners.remove(&child);
        self.graves.push(Grave {
            at,
            connection,
            child,
            spi,
        });
    }

    /// Removes children whose grace is over.
    pub(crate) fn clear_graves(&mut self, now: Instant) {
        let (over, left): (Vec<Grave>, Vec<Grave>) = std::mem::take(&mut self.graves)
            .into_iter()
            .partition(|grave| grave.at <= now);
        self.graves = left;
        for grave in over {
            self.free_esp_spi(grave.spi);
            self.events.push_back(Event::ChildRemoved {
                connection: grave.connection,
                child: grave.child,
            });
        }
    }

    /// IKE SPIs and inbound ESP SPIs in use, and children in their grace.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.ike_spis.len(), self.esp_spis.len(), self.graves.len())
    }

    pub(crate) fn next_grave(&self) -> Option<Instant> {
        self.graves.iter().map(|grave| grave.at).min()
    }
}
