//! IKEv2 with somebody who has no keys.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use isthmus_ike::{Endpoint, EstablishMode, Event, IKE_PORT, NAT_PORT, PeerEndpoint, Transmit};
use isthmus_simnet::{Pair, Side, pki};
use isthmus_wire::ike::{ExchangeType, HEADER_LEN, IkeFlags, IkeHeader, IkeSpi, PayloadType};

use crate::input::Input;

/// More IKE SAs than an endpoint may keep for strangers, whatever they send: see `MAX_HALF_OPEN` of the endpoint.
const MOST_SPIS: usize = 512 + 4;
/// Longer than everything that waits for an answer.
const EVERYTHING_TIMED_OUT: Duration = Duration::from_secs(600);

/// A first message of a peer whose proposals fit.
static FIRST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let now = Instant::now();
    let mut peer = Endpoint::new(Side::Left.address(), [3; 32], now);
    peer.upsert_connection(Pair::config(Side::Left), now);
    peer.poll_transmit().expect("an initiator begins").payload
});

/// Datagrams from expected and unexpected addresses: anything, a first message with bytes changed, or an answer to our
/// own first message. No panic, at most one answer each, nobody unexpected is answered, nothing is kept for long.
pub fn ike_stranger(data: &[u8]) {
    let mut input = Input::new(data);
    let mut end = End::new(input.byte());
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
            1 => changed(&mut input),
            _ => end.response(&mut input),
        };
        end.receive(kind, &bytes);
    }
    end.close();
}

/// The first message with an SPI of its own and bytes replaced.
fn changed(input: &mut Input<'_>) -> Vec<u8> {
    let mut message = FIRST.clone();
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
    /// Header of our newest request.
    asked: Option<IkeHeader>,
}

impl End {
    fn new(choice: u8) -> Self {
        let now = Instant::now();
        let mut end = Self {
            endpoint: Endpoint::new(Side::Right.address(), [5; 32], now),
            now,
            spis: 0,
            asked: None,
        };
        let mut config = Pair::config(Side::Right);
        if choice & 1 == 0 {
            config.establish = EstablishMode::PeerOnly;
        }
        if choice & 2 != 0 {
            config.peer = PeerEndpoint::Anywhere;
        }
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
            IkeHeader {
                responder_spi: if asked.exchange == ExchangeType::IKE_SA_INIT {
                    IkeSpi(u64::from(spi))
                } else {
                    asked.responder_spi
                },
                next_payload: first,
                flags: IkeFlags::RESPONSE,
                length: u32::try_from(HEADER_LEN + chain.len()).expect("a block is short"),
                ..asked
            }
            .encode(&mut out);
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
            if let Ok(header) = IkeHeader::decode(&transmit.payload)
                && !header.flags.contains(IkeFlags::RESPONSE)
            {
                self.asked = Some(header);
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
