//! IKEv1 with a peer that was authenticated and says anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use isthmus_crypto::cipher::BareCbc;
use isthmus_crypto::dh::PrivateKey;
use isthmus_crypto::prf::{hash, prf};
use isthmus_ike::{ChildId, ConnectionConfig, Endpoint, EstablishMode, Event, IKE_PORT};
use isthmus_simnet::{Pair, Side, pki};
use isthmus_types::{DhGroup, Encryption, IkeVersion, Prf};
use isthmus_wire::ike::{HEADER_LEN, IkeSpi};
use isthmus_wire::isakmp::{
    Chain, ExchangeType, IdType, Identification, IsakmpFlags, IsakmpHeader, Payload, PayloadType,
    encode_chain, encode_message,
};

use crate::input::Input;
use crate::stranger::config;

const FUNCTION: Prf = Prf::HmacSha2_256;
const BLOCK_LEN: usize = 16;
/// More datagrams than one of the peer leads to: an answer, and what is deleted because of it.
const MOST_ANSWERS: usize = 4;
/// More Child SAs than a few dozen messages can make.
const MOST_CHILDREN: usize = 64;
/// Longer than everything that waits for an answer.
const EVERYTHING_TIMED_OUT: Duration = Duration::from_secs(600);

/// Messages of an authenticated peer, hashed and encrypted with the real keys: any exchange and content, also as the
/// third message of quick mode, and between them our own requests and time. Laws as for [`crate::ike_peer`].
pub fn isakmp_peer(data: &[u8]) {
    let mut input = Input::new(data);
    let mut end = End::new();
    let mut peer = end.establish();
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        let flags = input.byte();
        match flags >> 6 {
            0 => end.act(input.byte()),
            1 => end.wait(Duration::from_millis(u64::from(input.half()))),
            _ => {
                let message = peer.message(flags, &mut input);
                for answer in end.receive(&message) {
                    peer.read(&answer);
                }
            }
        }
    }
    end.close();
}

/// Our end.
struct End {
    endpoint: Endpoint,
    now: Instant,
    children: BTreeSet<ChildId>,
}

impl End {
    fn new() -> Self {
        let now = Instant::now();
        let mut end = Self {
            endpoint: Endpoint::new(Side::Right.address(), [5; 32], now),
            now,
            children: BTreeSet::new(),
        };
        end.endpoint.set_date(pki::DATE, now);
        end.endpoint.upsert_connection(connection(), now);
        end
    }

    /// Main mode, which the peer begins (RFC 2409 section 5).
    fn establish(&mut self) -> Peer {
        let mut real = Endpoint::new(Side::Left.address(), [3; 32], self.now);
        real.upsert_connection(config(Side::Left, IkeVersion::V1), self.now);
        let first = real.poll_transmit().expect("an initiator begins").payload;
        let header = IsakmpHeader::decode(&first).expect("it is a message");
        let chain = Chain::decode(header.next_payload, &first[HEADER_LEN..]).expect("it is a chain");
        let sa = chain.body(0, &first[HEADER_LEN..]).expect("it is an SA").to_vec();
        let answer = self.one_answer(&first);
        let header = IsakmpHeader::decode(&answer).expect("it is a message");

        let private = PrivateKey::generate(DhGroup::X25519).expect("the system gives random bytes");
        let nonce = vec![6; 32];
        let payloads = [
            Payload::Ke(private.public().to_vec()),
            Payload::Nonce(nonce.clone()),
        ];
        let answer = self.one_answer(&encode_message(header, &payloads));
        let read = IsakmpHeader::decode(&answer).expect("it is a message");
        let chain = Chain::decode(read.next_payload, &answer[HEADER_LEN..]).expect("it is a chain");
        let mut theirs = None;
        let mut their_nonce = None;
        for payload in &chain.payloads {
            if let Payload::Ke(value) = payload {
                theirs = Some(value.clone());
            } else if let Payload::Nonce(value) = payload {
                their_nonce = Some(value.clone());
            }
        }
        let (theirs, their_nonce) = (theirs.expect("a public value"), their_nonce.expect("a nonce"));
        let secret = private.agree(&theirs).expect("a good public value");

        let psk = connection().psk;
        let initiator = header.initiator_cookie.0.to_be_bytes();
        let responder = header.responder_cookie.0.to_be_bytes();
        let skeyid = prf(FUNCTION, psk.reveal().as_bytes(), &[&nonce, &their_nonce]);
        let next = |before: &[u8], number: u8| {
            prf(
                FUNCTION,
                &skeyid,
                &[before, &secret, &initiator, &responder, &[number]],
            )
        };
        let derive = next(&[], 0);
        let authenticate = next(&derive, 1);
        let encrypt = next(&authenticate, 2);
        let mut peer = Peer {
            header,
            cipher: BareCbc::new(Encryption::Aes256Cbc, &encrypt).expect("the key fits"),
            authenticate: authenticate.to_vec(),
            last_block: Vec::new(),
            ivs: BTreeMap::new(),
            message_id: 0,
            nonces: [Vec::new(), Vec::new()],
        };
        let id = Payload::Id(Identification {
            id_type: IdType::IPV4_ADDR,
            protocol: 0,
            port: 0,
            data: vec![192, 0, 2, 1],
        });
        let mut id_body = Vec::new();
        id.encode_body(&mut id_body);
        let proof = prf(
            FUNCTION,
            &skeyid,
            &[private.public(), &theirs, &initiator, &responder, &sa, &id_body],
        );
        let mut content = Vec::new();
        let first = encode_chain(&[id, Payload::Hash(proof.to_vec())], &mut content);
        let mut iv = hash(FUNCTION, &[private.public(), &theirs]);
        iv.truncate(BLOCK_LEN);
        peer.ivs.insert(0, iv);
        let message = peer.encrypted(ExchangeType::MAIN, 0, first, content);
        let answer = self.one_answer(&message);
        peer.last_block = answer[answer.len() - BLOCK_LEN..].to_vec();
        peer
    }

    fn one_answer(&mut self, message: &[u8]) -> Vec<u8> {
        let answers = self.receive(message);
        assert_eq!(answers.len(), 1, "the handshake goes on");
        answers.into_iter().next().expect("there is one")
    }

    fn act(&mut self, what: u8) {
        let now = self.now;
        let child = self.children.iter().nth(usize::from(what >> 4)).copied();
        let connection = Side::Right.connection();
        match (what & 0x0f, child) {
            (0, Some(child)) => self.endpoint.rekey_child(child, now),
            (1, Some(child)) => self.endpoint.delete_child(child, now),
            (2, Some(child)) => self.endpoint.note_inbound(child, now),
            (3, _) => self.endpoint.acquire(connection, now),
            (4, _) => self.endpoint.remove_connection(connection, now),
            (5, _) => self.endpoint.upsert_connection(self::connection(), now),
            _ => self.endpoint.rekey_ike(connection, now),
        }
        self.drain();
    }

    fn receive(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let remote = SocketAddr::new(Side::Left.address(), IKE_PORT);
        self.endpoint.handle_datagram(IKE_PORT, remote, message, self.now);
        let answers = self.drain();
        assert!(answers.len() <= MOST_ANSWERS, "{} answers", answers.len());
        answers
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

    fn drain(&mut self) -> Vec<Vec<u8>> {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::ChildInstalled(sa) => assert!(self.children.insert(sa.child), "installed twice"),
                Event::ChildRemoved { child, .. } => {
                    assert!(self.children.remove(&child), "was not installed");
                }
                Event::ChildOutboundReady { child, .. } | Event::ChildRetired { child, .. } => {
                    assert!(self.children.contains(&child), "is not installed");
                }
                Event::ConnectionStateChanged { .. }
                | Event::IkeKeysAgreed(_)
                | Event::PeerMoved { .. }
                | Event::ResolvePeer { .. }
                | Event::SpiClosed { .. }
                | Event::SpiOpened { .. } => {}
            }
        }
        assert!(
            self.children.len() <= MOST_CHILDREN,
            "{} children",
            self.children.len()
        );
        while self.endpoint.poll_note().is_some() {}
        std::iter::from_fn(|| self.endpoint.poll_transmit())
            .map(|transmit| transmit.payload)
            .collect()
    }

    /// Without connections everything ends.
    fn close(&mut self) {
        self.endpoint.close(self.now);
        self.drain();
        self.wait(EVERYTHING_TIMED_OUT);
        assert!(self.endpoint.is_idle(), "an ISAKMP SA is left");
        assert!(self.children.is_empty(), "a Child SA is left");
    }
}

fn connection() -> ConnectionConfig {
    ConnectionConfig {
        establish: EstablishMode::PeerOnly,
        psk: Pair::config(Side::Right).psk,
        ..config(Side::Right, IkeVersion::V1)
    }
}

/// The peer's side of phase 1, and of the exchanges under it.
struct Peer {
    /// With both cookies.
    header: IsakmpHeader,
    cipher: BareCbc,
    /// SKEYID_a.
    authenticate: Vec<u8>,
    /// Of the last message of phase 1.
    last_block: Vec<u8>,
    /// The next IV of each exchange.
    ivs: BTreeMap<u32, Vec<u8>>,
    /// Of the newest exchange.
    message_id: u32,
    /// Of the newest quick mode: the initiator's and the responder's.
    nonces: [Vec<u8>; 2],
}

impl Peer {
    /// `flags`: 1 goes on with the newest exchange, 2 with the hash of the third message, 4 without a hash, 8 in clear.
    fn message(&mut self, flags: u8, input: &mut Input<'_>) -> Vec<u8> {
        let exchange = ExchangeType(input.byte());
        let first = PayloadType(input.byte());
        let rest = input.block();
        if flags & 1 == 0 {
            self.message_id += 1;
        }
        let id = self.message_id;
        if flags & 8 != 0 {
            let mut out = Vec::new();
            IsakmpHeader {
                next_payload: first,
                exchange,
                flags: IsakmpFlags::NONE,
                message_id: id,
                ..self.header
            }
            .encode(HEADER_LEN + rest.len(), &mut out);
            out.extend_from_slice(rest);
            return out;
        }
        if let Some(nonce) = nonce(first, rest) {
            self.nonces[0] = nonce;
        }
        if flags & 4 != 0 {
            return self.encrypted(exchange, id, first, rest.to_vec());
        }
        let [initiator, responder] = &self.nonces;
        let hash = if flags & 2 == 0 {
            prf(FUNCTION, &self.authenticate, &[&id.to_be_bytes(), rest])
        } else {
            let parts = [&[0][..], &id.to_be_bytes(), initiator, responder];
            prf(FUNCTION, &self.authenticate, &parts)
        };
        let mut content = Vec::new();
        encode_chain(&[Payload::Hash(hash.to_vec())], &mut content);
        content[0] = first.0;
        content.extend_from_slice(rest);
        self.encrypted(exchange, id, PayloadType::HASH, content)
    }

    fn iv(&self, id: u32) -> Vec<u8> {
        self.ivs.get(&id).cloned().unwrap_or_else(|| {
            let mut iv = hash(FUNCTION, &[&self.last_block, &id.to_be_bytes()]);
            iv.truncate(BLOCK_LEN);
            iv
        })
    }

    fn encrypted(
        &mut self,
        exchange: ExchangeType,
        id: u32,
        first: PayloadType,
        content: Vec<u8>,
    ) -> Vec<u8> {
        let mut data = content;
        data.resize(data.len().next_multiple_of(BLOCK_LEN), 0);
        self.cipher
            .encrypt(&self.iv(id), &mut data)
            .expect("the content is whole blocks");
        if let Some(block) = data.last_chunk::<BLOCK_LEN>() {
            self.ivs.insert(id, block.to_vec());
        }
        let mut out = Vec::new();
        IsakmpHeader {
            next_payload: first,
            exchange,
            flags: IsakmpFlags::ENCRYPTION,
            message_id: id,
            ..self.header
        }
        .encode(HEADER_LEN + data.len(), &mut out);
        out.extend_from_slice(&data);
        out
    }

    /// Learns the nonce and the next IV from an answer.
    fn read(&mut self, answer: &[u8]) {
        let Ok(header) = IsakmpHeader::decode(answer) else {
            return;
        };
        let mut data = answer[HEADER_LEN..].to_vec();
        let cookies = (header.initiator_cookie, header.responder_cookie);
        if cookies != (self.header.initiator_cookie, self.header.responder_cookie)
            || cookies.1 == IkeSpi::ZERO
            || !header.flags.contains(IsakmpFlags::ENCRYPTION)
        {
            return;
        }
        let last = data.last_chunk::<BLOCK_LEN>().map(|block| block.to_vec());
        if self
            .cipher
            .decrypt(&self.iv(header.message_id), &mut data)
            .is_err()
        {
            return;
        }
        self.ivs.extend(last.map(|block| (header.message_id, block)));
        if let Some(nonce) = nonce(header.next_payload, &data) {
            self.nonces[1] = nonce;
        }
    }
}

fn nonce(first: PayloadType, bytes: &[u8]) -> Option<Vec<u8>> {
    let chain = Chain::decode(first, bytes).ok()?;
    chain.payloads.into_iter().find_map(|payload| {
        if let Payload::Nonce(nonce) = payload {
            Some(nonce)
        } else {
            None
        }
    })
}
