//! Many peers in one process: each has an address of its own, and an endpoint of our engine that speaks IKE and nothing
//! else. It is the same crowd whoever stands at the other end, so that only the other end is compared.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use isthmus_ike::{
    ConnectionConfig, ConnectionState, DpdAction, Endpoint, EstablishMode, Event, Framing, IKE_PORT,
    IkeIdentity, NAT_PORT, PeerEndpoint,
};
use isthmus_netlab::proposal;
use isthmus_runtime::random;
use isthmus_types::{IkeVersion, ResourceBits, Secret, TunnelOptions, VpnConnectionId};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use serde::{Deserialize, Serialize};

use crate::layout;

/// Largest IKE message that is taken.
const LONGEST: usize = 65_536;
/// Events of one look.
const EVENTS: usize = 256;

/// What the crowd is told.
#[derive(Args, Clone, Debug)]
pub struct Orders {
    /// Peers.
    #[arg(long)]
    pub peers: u16,
    /// Address of the gateway that they talk to.
    #[arg(long)]
    pub gateway: Ipv4Addr,
    /// IKE proposal.
    #[arg(long)]
    pub ike: String,
    /// ESP proposal.
    #[arg(long)]
    pub esp: String,
    /// Seconds of handshakes, one after the other for each peer; without it each peer waits for the gateway to begin,
    /// keeps its tunnel and ends when the standard input does.
    #[arg(long)]
    pub seconds: Option<u64>,
}

/// What the crowd tells at its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Account {
    /// Handshakes that ended with a Child SA within the time.
    pub handshakes: u64,
    /// The time, seconds.
    pub seconds: f64,
    /// Peers that had a tunnel at the end.
    pub up: usize,
}

struct Peer {
    endpoint: Endpoint,
    config: ConnectionConfig,
    sockets: [UdpSocket; 2],
    is_up: bool,
}

/// Runs the crowd and writes its [`Account`] to the standard output.
pub fn run(orders: &Orders) -> Result<()> {
    let mut crowd = Crowd::new(orders)?;
    let account = match orders.seconds {
        Some(seconds) => crowd.shake_hands(Duration::from_secs(seconds))?,
        None => crowd.wait_for_end()?,
    };
    let mut out = io::stdout();
    serde_json::to_writer(&mut out, &account)?;
    writeln!(out)?;
    Ok(())
}

struct Crowd {
    epoll: Epoll,
    peers: Vec<Peer>,
    buffer: Vec<u8>,
    /// When each peer wants to be called, and the reverse.
    timers: BTreeMap<(Instant, usize), ()>,
    due: Vec<Option<Instant>>,
    handshakes: u64,
    repeating: bool,
}

impl Crowd {
    fn new(orders: &Orders) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let now = Instant::now();
        let mut peers = Vec::new();
        for number in 0..orders.peers {
            let address = layout::address(number);
            let mut sockets = Vec::new();
            for (place, port) in [IKE_PORT, NAT_PORT].into_iter().enumerate() {
                let socket = UdpSocket::bind((address, port)).with_context(|| format!("{address}:{port}"))?;
                socket.set_nonblocking(true)?;
                let key = u64::from(number) * 2 + place as u64;
                epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
                sockets.push(socket);
            }
            let Ok(sockets) = <[UdpSocket; 2]>::try_from(sockets) else {
                bail!("two sockets were made");
            };
            peers.push(Peer {
                endpoint: Endpoint::new(IpAddr::V4(address), random::bytes(), now),
                config: config(orders, number)?,
                sockets,
                is_up: false,
            });
        }
        Ok(Self {
            epoll,
            due: vec![None; peers.len()],
            peers,
            buffer: vec![0; LONGEST],
            timers: BTreeMap::new(),
            handshakes: 0,
            repeating: orders.seconds.is_some(),
        })
    }

    fn shake_hands(&mut self, duration: Duration) -> Result<Account> {
        let start = Instant::now();
        self.begin(start)?;
        while start.elapsed() < duration {
            self.turn(start + duration)?;
        }
        Ok(Account {
            handshakes: self.handshakes,
            seconds: start.elapsed().as_secs_f64(),
            up: self.up(),
        })
    }

    fn wait_for_end(&mut self) -> Result<Account> {
        let start = Instant::now();
        self.begin(start)?;
        self.epoll.add(
            io::stdin().as_fd(),
            EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP, u64::MAX),
        )?;
        while self.turn(Instant::now() + Duration::from_secs(60))? {}
        let mut line = String::new();
        // Whatever it was that came, it means the end.
        let _ = io::stdin().lock().read_line(&mut line);
        Ok(Account {
            handshakes: self.handshakes,
            seconds: start.elapsed().as_secs_f64(),
            up: self.up(),
        })
    }

    fn up(&self) -> usize {
        self.peers.iter().filter(|peer| peer.is_up).count()
    }

    fn begin(&mut self, now: Instant) -> Result<()> {
        for number in 0..self.peers.len() {
            let peer = &mut self.peers[number];
            peer.endpoint.upsert_connection(peer.config.clone(), now);
            self.drain(number, now)?;
        }
        Ok(())
    }

    /// Waits for one thing to do, at most until `until`, and does it; false if the standard input had something.
    fn turn(&mut self, until: Instant) -> Result<bool> {
        let now = Instant::now();
        let wake = self
            .timers
            .first_key_value()
            .map_or(until, |((at, _), ())| until.min(*at));
        let patience = wake.saturating_duration_since(now);
        let mut events = [EpollEvent::empty(); EVENTS];
        let timeout = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
        let timeout = if patience.is_zero() { 0 } else { timeout.max(1) };
        let found = self.epoll.wait(&mut events, EpollTimeout::from(timeout))?;
        let mut goes_on = true;
        for event in &events[..found] {
            if event.data() == u64::MAX {
                goes_on = false;
                continue;
            }
            let number = usize::try_from(event.data() / 2)?;
            self.receive(number, usize::from(event.data() % 2 == 1))?;
        }
        let now = Instant::now();
        let due: Vec<usize> = self
            .timers
            .keys()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, number)| *number)
            .collect();
        for number in due {
            self.peers[number].endpoint.handle_timeout(now);
            self.drain(number, now)?;
        }
        Ok(goes_on)
    }

    fn receive(&mut self, number: usize, place: usize) -> Result<()> {
        loop {
            let peer = &mut self.peers[number];
            let (length, from) = match peer.sockets[place].recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Such as a port that is not open yet at the other end.
                Err(_) => continue,
            };
            let bytes = &self.buffer[..length];
            let now = Instant::now();
            match place {
                0 => peer.endpoint.handle_datagram(IKE_PORT, from, bytes, now),
                _ => match bytes.strip_prefix(&[0; 4]) {
                    Some(message) => peer.endpoint.handle_datagram(NAT_PORT, from, message, now),
                    None => continue,
                },
            }
            self.drain(number, now)?;
        }
    }

    fn drain(&mut self, number: usize, now: Instant) -> Result<()> {
        let peer = &mut self.peers[number];
        loop {
            while let Some(event) = peer.endpoint.poll_event() {
                if let Event::ConnectionStateChanged { state, .. } = event {
                    let was_up = std::mem::replace(&mut peer.is_up, state == ConnectionState::Up);
                    self.handshakes += u64::from(peer.is_up && !was_up);
                }
            }
            while let Some(transmit) = peer.endpoint.poll_transmit() {
                peer.send(
                    transmit.local_port,
                    transmit.destination,
                    transmit.framing,
                    &transmit.payload,
                );
            }
            if !self.repeating {
                break;
            }
            if peer.is_up {
                peer.is_up = false;
                peer.endpoint.remove_connection(peer.config.connection, now);
            } else if peer.endpoint.is_idle() && peer.endpoint.state(peer.config.connection).is_none() {
                peer.endpoint.upsert_connection(peer.config.clone(), now);
            } else {
                break;
            }
        }
        let next = peer.endpoint.poll_timeout().map(|(at, _)| at);
        if let Some(old) = std::mem::replace(&mut self.due[number], next) {
            self.timers.remove(&(old, number));
        }
        if let Some(at) = next {
            self.timers.insert((at, number), ());
        }
        Ok(())
    }
}

impl Peer {
    fn send(&self, local_port: u16, destination: SocketAddr, framing: Framing, payload: &[u8]) {
        // What is not sent is sent again.
        let _ = match (local_port, framing) {
            (NAT_PORT, Framing::Ike) => {
                let marked = [&[0; 4], payload].concat();
                self.sockets[1].send_to(&marked, destination)
            }
            (NAT_PORT, Framing::Keepalive) => self.sockets[1].send_to(payload, destination),
            _ => self.sockets[0].send_to(payload, destination),
        };
    }
}

fn config(orders: &Orders, number: u16) -> Result<ConnectionConfig> {
    let address = layout::address(number);
    Ok(ConnectionConfig {
        connection: VpnConnectionId(ResourceBits::from_random(u128::from(number) + 1)),
        name: format!("peer {number}"),
        admin_up: true,
        reset_count: 0,
        version: IkeVersion::V2,
        peer: PeerEndpoint::Address(orders.gateway.into()),
        local_identity: IkeIdentity::Address(address.into()),
        peer_identity: IkeIdentity::Address(orders.gateway.into()),
        psk: Secret::new(layout::KEY.to_owned()),
        establish: if orders.seconds.is_some() {
            EstablishMode::Bidirectional
        } else {
            EstablishMode::PeerOnly
        },
        ike_proposals: vec![proposal::ike(&orders.ike)?],
        esp_proposals: vec![proposal::esp(&orders.esp)?],
        local_cidrs: vec![layout::range(number)?],
        peer_cidrs: vec![layout::near_range()?],
        ike_lifetime_seconds: 86_400,
        esp_lifetime_seconds: 28_800,
        dpd_action: DpdAction::Clear,
        dpd_interval_seconds: layout::DPD_INTERVAL,
        dpd_timeout_seconds: layout::DPD_TIMEOUT,
        force_encapsulation: true,
        options: TunnelOptions::default(),
    })
}
