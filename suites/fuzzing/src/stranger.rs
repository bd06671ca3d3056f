//! IKE with somebody who has no keys.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use isthmus_ike::{
    ConnectionConfig, Endpoint, EstablishMode, Event, IKE_PORT, NAT_PORT, PeerEndpoint, Transmit,
};
use isthmus_simnet::{Pair, Side, pki};
use isthmus_types::{Encryption, IkeVersion, Integrity};
use isthmus_wire::ike::{HEADER_LEN, IkeFlags, PayloadType};

use crate::input::Input;

/// More IKE SAs than an endpoint may keep for strangers, whatever they send: see `MAX_HALF_OPEN` of the endpoint.
const MOST_SPIS: usize = 512 + 4;
/// Longer than everything that waits for an answer.
const EVERYTHING_TIMED_OUT: Duration = Duration::from_secs(600);

/// The first message of a peer whose proposals fit, of each version.
static FIRST: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    [IkeVersion::V1, IkeVersion::V2].map(|version| {
        let now = Instant::now();
        let mut peer = Endpoint::new(Side::Left.address(), [3; 32], now);
        peer.upsert_connection(config(Side::Left, version), now);
        peer.poll_transmit().expect("an initiator begins").payload
    })
});

/// Datagrams from expected and unexpected addresses: anything, a first message with bytes changed, or an answer to our
/// own first message. No panic, at most one answer each, nobody unexpected is answered, nothing is kept for long.
pub fn ike_stranger(data: &[u8]) {
    stranger(data, IkeVersion::V2);
}

/// As [`ike_stranger`] with a connection of IKEv1.
pub fn isakmp_stranger(data: &[u8]) {
    stranger(data, IkeVersion::V1);
}

fn stranger(data: &[u8], version: IkeVersion) {
    let mut input = Input::new(data);
    let mut end = End::new(input.byte(), version);
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        let kind = input.byte();
        if kind & 0x20 != 0 {
            end.wait(Duration::from_millis(u64::from(input.half())));
        }
        let bytes = match kind % 3 {
            0 => input.block().to_vec(),
            1 => changed(&mut input, version),
            _ => end.response(&mut input),
        };
        end.receive(kind, &bytes);
    }
    end.close();
}

/// A connection with proposals that fit the version.
pub fn config(side: Side, version: IkeVersion) -> ConnectionConfig {
    let mut config = Pair::config(side);
    config.version = version;
    if version == IkeVersion::V1 {
        for proposal in &mut config.ike_proposals {
            proposal.encryption = vec![Encryption::Aes256Cbc];
            proposal.integrity = vec![Integrity::HmacSha2_256_128];
        }
    }
    config
}

/// The first message with an SPI of its own and bytes replaced.
fn changed(input: &mut Input<'_>, version: IkeVersion) -> Vec<u8> {
    let [first, second] = &*FIRST;
    let mut message = match version {
        IkeVersion::V1 => first.clone(),
        IkeVersion::V2 => second.clone(),
    };
    message[0] = input.byte();
    for change in input.block().chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % message.len();
        message[at] = change[2];
    }
    message
}

struct End {
    endpoint: Endpoint,
    now: Instant,
    spis: usize,
    /// Header of the newest message that we began an exchange with.
    asked: Option<[u8; HEADER_LEN]>,
}

impl End {
    fn new(choice: u8, version: IkeVersion) -> Self {
        let now = Instant::now();
        let mut end = Self {
            endpoint: Endpoint::new(Side::Right.address(), [5; 32], now),
            now,
            spis: 0,
            asked: None,
        };
        let mut config = config(Side::Right, version);
        if choice & 1 == 0 {
            config.establish = EstablishMode::PeerOnly;
        }
        if choice & 2 != 0 {
            config.peer = PeerEndpoint::Anywhere;
        }
        config.options.aggressive_mode = choice & 4 != 0;
        end.endpoint.set_date(pki::DATE, now);
        end.endpoint.upsert_connection(config, now);
        end.drain();
        end
    }

    /// An answer to our newest request: the header is right but for the responder's SPI.
    fn response(&self, input: &mut Input<'_>) -> Vec<u8> {
        let spi = input.byte();
        let first = PayloadType(input.byte());
        let chain = input.block();
        let mut out = Vec::new();
        if let Some(asked) = self.asked {
            let length = u32::try_from(HEADER_LEN + chain.len()).expect("a block is short");
            out.extend_from_slice(&asked);
            if asked[8..16] == [0; 8] {
                out[15] = spi;
            }
            out[16] = first.0;
            // Initiator becomes response; IKEv1 has neither.
            if asked[19] == IkeFlags::INITIATOR.0 {
                out[19] = IkeFlags::RESPONSE.0;
            }
            out[24..28].copy_from_slice(&length.to_be_bytes());
        }
        out.extend_from_slice(chain);
        out
    }

    fn receive(&mut self, kind: u8, bytes: &[u8]) {
        let port = if kind & 0x40 == 0 { IKE_PORT } else { NAT_PORT };
        let address = if kind & 0x80 == 0 {
            Side::Left.address()
        } else {
            IpAddr::from([198, 51, 100, kind & 0x1f])
        };
        let expected = {
            let (addresses, anywhere) = self.endpoint.expected_peers();
            anywhere || addresses.contains(&address)
        };
        let remote = SocketAddr::new(address, port);
        self.endpoint.handle_datagram(port, remote, bytes, self.now);
        let answers = self.drain();
        assert!(answers.len() <= 1, "{} answers to one datagram", answers.len());
        assert!(expected || answers.is_empty(), "an answer to somebody unexpected");
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
            match event {
                Event::SpiOpened { .. } => self.spis += 1,
                Event::SpiClosed { .. } => {
                    self.spis = self.spis.checked_sub(1).expect("what is closed was open");
                }
                Event::ChildInstalled(_) => panic!("a stranger got a Child SA"),
                Event::ChildOutboundReady { .. }
                | Event::ChildRemoved { .. }
                | Event::ChildRetired { .. }
                | Event::ConnectionStateChanged { .. }
                | Event::IkeKeysAgreed(_)
                | Event::PeerMoved { .. }
                | Event::ResolvePeer { .. } => {}
            }
        }
        assert!(self.spis <= MOST_SPIS, "{} SPIs are kept", self.spis);
        while self.endpoint.poll_note().is_some() {}
        let transmits: Vec<Transmit> = std::iter::from_fn(|| self.endpoint.poll_transmit()).collect();
        for transmit in &transmits {
            if let Some(header) = transmit.payload.first_chunk()
                && !IkeFlags(header[19]).contains(IkeFlags::RESPONSE)
            {
                self.asked = Some(*header);
            }
        }
        transmits
    }

    /// Without connections everything ends.
    fn close(&mut self) {
        self.endpoint.close(self.now);
        self.drain();
        self.wait(EVERYTHING_TIMED_OUT);
        assert!(self.endpoint.is_idle(), "an IKE SA is left");
        assert_eq!(self.spis, 0, "an SPI is left");
    }
}
