//! IKEv2 with a peer that was authenticated and says anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use isthmus_crypto::cipher::Sealer;
use isthmus_ike::{ChildId, ConnectionState, Endpoint, Event, IKE_PORT, IkeSaKeys, Transmit};
use isthmus_simnet::{Pair, Side, pki};
use isthmus_wire::ike::{
    ExchangeType, FRAGMENT_NUMBER_LEN, FragmentNumber, GENERIC_HEADER_LEN, HEADER_LEN, IkeFlags, IkeHeader,
    IkeSpi, PayloadType, encode_fragment_number, encode_generic_header,
};

use crate::input::Input;

/// More children than one IKE SA may have, in all that may be open: see `MAX_CHILDREN` of the endpoint.
const MOST_CHILDREN: usize = 1024;
/// Longer than everything that waits for an answer.
const EVERYTHING_TIMED_OUT: Duration = Duration::from_secs(600);

/// Messages of an authenticated peer, sealed with the real keys: any exchange, flags, message id and content, and
/// between them our own requests and time. No panic, at most one answer each, every child that is removed was
/// installed, and after the end nothing is left.
pub fn ike_peer(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let ours = if choice & 1 == 0 { Side::Left } else { Side::Right };
    let mut end = End::established(ours);
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        let flags = input.byte();
        match flags >> 6 {
            0 => end.act(input.byte()),
            1 => end.wait(Duration::from_millis(u64::from(input.half()))),
            _ => {
                let message = end.sealed(flags, &mut input);
                end.receive(flags, &message);
            }
        }
    }
    end.close();
}

/// One IKE SA as the peer knows it.
struct Sa {
    keys: IkeSaKeys,
    /// Id of the peer's next request.
    next_id: u32,
    /// Id of our newest request.
    asked: u32,
    sealed: u64,
}

struct End {
    endpoint: Endpoint,
    ours: Side,
    now: Instant,
    /// Our SPIs.
    spis: BTreeSet<u64>,
    /// In the order in which their keys were agreed.
    sas: Vec<Sa>,
    children: BTreeSet<ChildId>,
    up: bool,
}

impl End {
    fn new(ours: Side, now: Instant) -> Self {
        let mut endpoint = Endpoint::new(ours.address(), [ours as u8 + 1; 32], now);
        endpoint.set_date(pki::DATE, now);
        endpoint.tell_keys(true);
        Self {
            endpoint,
            ours,
            now,
            spis: BTreeSet::new(),
            sas: Vec::new(),
            children: BTreeSet::new(),
            up: false,
        }
    }

    /// An end whose handshake with a real peer is over; the left one began it.
    fn established(ours: Side) -> Self {
        let now = Instant::now();
        let mut ends = BTreeMap::from([
            (Side::Left, Self::new(Side::Left, now)),
            (Side::Right, Self::new(Side::Right, now)),
        ]);
        let mut flights = Vec::new();
        for side in [Side::Right, Side::Left] {
            let end = ends.get_mut(&side).expect("both are there");
            let mut config = Pair::config(side);
            if side == Side::Right {
                config.establish = isthmus_ike::EstablishMode::PeerOnly;
            }
            end.endpoint.upsert_connection(config, now);
            flights.extend(end.drain().into_iter().map(|transmit| (side, transmit)));
        }
        while !flights.is_empty() {
            for (from, transmit) in std::mem::take(&mut flights) {
                let end = ends.get_mut(&from.other()).expect("both are there");
                let remote = SocketAddr::new(from.address(), transmit.local_port);
                end.endpoint
                    .handle_datagram(transmit.destination.port(), remote, &transmit.payload, now);
                flights.extend(end.drain().into_iter().map(|transmit| (from.other(), transmit)));
            }
        }
        let mut end = ends.remove(&ours).expect("both are there");
        assert!(
            end.up && end.sas.len() == 1 && end.children.len() == 1,
            "the handshake worked"
        );
        // The responder has read IKE_SA_INIT and IKE_AUTH.
        end.sas[0].next_id = if ours == Side::Right { 2 } else { 0 };
        end
    }

    /// Something that the shell asks for.
    fn act(&mut self, what: u8) {
        let now = self.now;
        let child = self.children.iter().nth(usize::from(what >> 4)).copied();
        let connection = self.ours.connection();
        match (what & 0x0f, child) {
            (0, Some(child)) => self.endpoint.rekey_child(child, now),
            (1, Some(child)) => self.endpoint.delete_child(child, now),
            (2, Some(child)) => self.endpoint.note_inbound(child, now),
            (3, _) => self.endpoint.acquire(connection, now),
            (4, _) => self.endpoint.remove_connection(connection, now),
            (5, _) => self.endpoint.upsert_connection(Pair::config(self.ours), now),
            _ => self.endpoint.rekey_ike(connection, now),
        }
        self.drain();
    }

    /// The peer's next message. `flags`: 1 a response, 2 an id that is wrong, 4 a fragment, 8 an older IKE SA, 16 the
    /// content in clear.
    fn sealed(&mut self, flags: u8, input: &mut Input<'_>) -> Vec<u8> {
        let exchange = ExchangeType(input.byte());
        let first = PayloadType(input.byte());
        let newest = self.sas.len() - 1;
        let index = if flags & 8 == 0 {
            newest
        } else {
            usize::from(input.byte()) % self.sas.len()
        };
        let sa = &mut self.sas[index];
        let ours_began = self.spis.contains(&sa.keys.initiator_spi);
        let response = flags & 1 != 0;
        let mut message_id = if response { sa.asked } else { sa.next_id };
        if flags & 2 != 0 {
            message_id = message_id.wrapping_add(u32::from(input.byte())).wrapping_sub(2);
        }
        let mut header = IkeHeader {
            initiator_spi: IkeSpi(sa.keys.initiator_spi),
            responder_spi: IkeSpi(sa.keys.responder_spi),
            next_payload: first,
            minor_version: 0,
            exchange,
            flags: if response {
                IkeFlags::RESPONSE
            } else {
                IkeFlags::NONE
            },
            message_id,
            length: 0,
        };
        if !ours_began {
            header.flags = header.flags.with(IkeFlags::INITIATOR);
        }
        let fragment = (flags & 4 != 0).then(|| FragmentNumber {
            number: u16::from(input.byte()),
            total: u16::from(input.byte()),
        });
        let content = input.block();
        if flags & 16 != 0 {
            header.length = u32::try_from(HEADER_LEN + content.len()).expect("a block is short");
            let mut out = Vec::new();
            header.encode(&mut out);
            out.extend_from_slice(content);
            return out;
        }
        sa.seal(header, ours_began, first, fragment, content)
    }

    fn receive(&mut self, flags: u8, message: &[u8]) {
        let port = IKE_PORT;
        let remote = SocketAddr::new(self.ours.other().address(), port);
        self.endpoint.handle_datagram(port, remote, message, self.now);
        let is_response = flags & 1 != 0;
        let answers: Vec<IkeHeader> = self
            .drain()
            .iter()
            .filter_map(|transmit| IkeHeader::decode(&transmit.payload).ok())
            .filter(|header| header.flags.contains(IkeFlags::RESPONSE))
            .collect();
        let ids: BTreeSet<(IkeSpi, u32)> = answers
            .iter()
            .map(|header| (header.initiator_spi, header.message_id))
            .collect();
        assert!(ids.len() <= usize::from(!is_response), "answers to {ids:?}");
        for header in answers {
            if let Some(sa) = self
                .sas
                .iter_mut()
                .find(|sa| sa.keys.initiator_spi == header.initiator_spi.0)
            {
                sa.next_id = sa.next_id.max(header.message_id.wrapping_add(1));
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((at, _)) = self.endpoint.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn drain(&mut self) -> Vec<Transmit> {
        while let Some(event) = self.endpoint.poll_event() {
            self.note(event);
        }
        assert!(
            self.children.len() <= MOST_CHILDREN,
            "{} children",
            self.children.len()
        );
        while self.endpoint.poll_note().is_some() {}
        let transmits: Vec<Transmit> = std::iter::from_fn(|| self.endpoint.poll_transmit()).collect();
        for transmit in &transmits {
            let Ok(header) = IkeHeader::decode(&transmit.payload) else {
                continue;
            };
            if !header.flags.contains(IkeFlags::RESPONSE)
                && let Some(sa) = self
                    .sas
                    .iter_mut()
                    .find(|sa| sa.keys.initiator_spi == header.initiator_spi.0)
            {
                sa.asked = header.message_id;
            }
        }
        transmits
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::ChildInstalled(sa) => assert!(self.children.insert(sa.child), "installed twice"),
            Event::ChildRemoved { child, .. } => assert!(self.children.remove(&child), "was not installed"),
            Event::ChildOutboundReady { child, .. } | Event::ChildRetired { child, .. } => {
                assert!(self.children.contains(&child), "is not installed");
            }
            Event::ConnectionStateChanged { state, .. } => self.up = state == ConnectionState::Up,
            Event::IkeKeysAgreed(keys) => self.sas.push(Sa {
                keys: *keys,
                next_id: 0,
                asked: 0,
                sealed: 0,
            }),
            Event::SpiOpened { spi } => assert!(self.spis.insert(spi), "opened twice"),
            // Kept: the peer may go on with an SA that is gone.
            Event::SpiClosed { spi } => assert!(self.spis.contains(&spi), "was not open"),
            Event::PeerMoved { .. } | Event::ResolvePeer { .. } => {}
        }
    }

    /// Without connections everything ends, also if the peer never answers.
    fn close(&mut self) {
        self.endpoint.close(self.now);
        self.drain();
        self.wait(EVERYTHING_TIMED_OUT);
        assert!(self.endpoint.is_idle(), "an IKE SA is left");
        assert!(self.children.is_empty(), "a Child SA is left");
    }
}

impl Sa {
    fn seal(
        &mut self,
        header: IkeHeader,
        ours_began: bool,
        first_inside: PayloadType,
        fragment: Option<FragmentNumber>,
        content: &[u8],
    ) -> Vec<u8> {
        let suite = self.keys.cipher;
        let keys = if ours_began {
            &self.keys.responder
        } else {
            &self.keys.initiator
        };
        let sealer = Sealer::new(suite, keys).expect("they are the keys of the suite");
        let padded = (content.len() + 1).next_multiple_of(suite.block_len());
        let mut data = content.to_vec();
        data.resize(padded, 0);
        data[padded - 1] = u8::try_from(padded - 1 - content.len()).expect("a block is short");
        let number_len = if fragment.is_some() {
            FRAGMENT_NUMBER_LEN
        } else {
            0
        };
        let body = number_len + suite.iv_len() + data.len() + suite.icv_len();
        let length = HEADER_LEN + GENERIC_HEADER_LEN + body;
        let mut out = Vec::with_capacity(length);
        IkeHeader {
            next_payload: if fragment.is_some() {
                PayloadType::SKF
            } else {
                PayloadType::SK
            },
            length: u32::try_from(length).expect("a block is short"),
            ..header
        }
        .encode(&mut out);
        encode_generic_header(first_inside, body, &mut out);
        if let Some(fragment) = fragment {
            encode_fragment_number(fragment, &mut out);
        }
        self.sealed += 1;
        let mut iv = vec![0; suite.iv_len()];
        // Far from what the real peer has used.
        sealer
            .make_iv(1 << 40 | self.sealed, &mut iv)
            .expect("the length is right");
        let mut icv = vec![0; suite.icv_len()];
        sealer
            .seal(&out, &iv, &mut data, &mut icv)
            .expect("the lengths are right");
        out.extend_from_slice(&iv);
        out.extend_from_slice(&data);
        out.extend_from_slice(&icv);
        out
    }
}
