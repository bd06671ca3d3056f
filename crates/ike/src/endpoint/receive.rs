//! The way of a datagram: to its IKE SA, or to a new handshake.

use std::net::SocketAddr;
use std::time::Instant;

use isthmus_types::VpnConnectionId;
use isthmus_wire::ike::{
    DecodeError, ExchangeType, HEADER_LEN, IkeFlags, IkeSpi, Message, NotifyPayload, NotifyType, PayloadType,
};

use super::Endpoint;
use crate::auth::{describe_identity, is_identity};
use crate::begun::Prefix;
use crate::channel::{Received, receiver_spi};
use crate::config::PeerEndpoint;
use crate::connection::Connection;
use crate::cookie::CookieClaim;
use crate::error::{IkeError, Violation};
use crate::evidence;
use crate::exchange::{Datagram, established, ike_auth, ike_sa_init, intermediate};
use crate::finding::{End, FindingKind};
use crate::host::Context;
use crate::parts::Parts;
use crate::sa::{SaId, State};
use crate::status::DownReason;

/// From this many handshakes of others on, each new one needs a cookie.
const COOKIE_THRESHOLD: usize = 32;
/// The same for handshakes from one prefix: see [`Prefix`].
const COOKIE_THRESHOLD_PER_PREFIX: usize = 8;
/// At this many handshakes of others no more are accepted, cookie or not.
const MAX_HALF_OPEN: usize = 512;
/// The same for one prefix: those who own one leave room to others.
const MAX_HALF_OPEN_PER_PREFIX: usize = 128;
/// Longer first messages are not read: each is kept until the handshake is over.
const MAX_FIRST_MESSAGE_LEN: usize = 3072;

impl Endpoint {
    pub(super) fn receive(&mut self, local_port: u16, remote: SocketAddr, bytes: &[u8], now: Instant) {
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                self.refuse_malformed(local_port, remote, bytes, error);
                return;
            }
        };
        let datagram = Datagram {
            local_port,
            remote,
            bytes,
            message: &message,
        };
        let header = &message.header;
        let is_first = header.exchange == ExchangeType::IKE_SA_INIT
            && header.flags.contains(IkeFlags::INITIATOR)
            && !header.flags.contains(IkeFlags::RESPONSE);
        if is_first {
            self.on_init_request(&datagram, now);
            return;
        }
        let Some(id) = self.host.sa_of(receiver_spi(header)) else {
            return;
        };
        self.on_message(id, &datagram, now);
    }

    fn on_message(&mut self, id: SaId, datagram: &Datagram<'_>, now: Instant) {
        let header = &datagram.message.header;
        let Some(sa) = self.sas.get(id) else {
            return;
        };
        let spis = sa.spis();
        let is_init = header.exchange == ExchangeType::IKE_SA_INIT;
        let known = header.initiator_spi == spis.initiator
            && (header.responder_spi == spis.responder || (is_init && sa.remote_spi == IkeSpi::ZERO));
        // Nothing proves yet who it is from, so it counts only from where the request went.
        let from_elsewhere = is_init && datagram.remote.ip() != sa.path.remote.ip();
        if !known || from_elsewhere {
            return;
        }
        match &sa.state {
            State::InitAnswered(_) => self.on_handshake_request(id, datagram, now),
            State::AuthSent(_)
            | State::Dead
            | State::Established(_)
            | State::InitSent(_)
            | State::IntermediateSent(_)
            | State::Refused(_) => {
                self.with_sa(id, now, |context, sa| {
                    on_message_of(context, sa, datagram);
                });
            }
        }
    }

    /// IKE_AUTH of a peer, whose identity tells which connection it means, or a key exchange before it.
    fn on_handshake_request(&mut self, id: SaId, datagram: &Datagram<'_>, now: Instant) {
        let header = &datagram.message.header;
        let is_auth = header.exchange == ExchangeType::IKE_AUTH;
        if header.flags.contains(IkeFlags::RESPONSE)
            || !(is_auth || header.exchange == ExchangeType::IKE_INTERMEDIATE)
        {
            return;
        }
        let mut received = None;
        self.sas.edit(id, |sa| {
            if let State::InitAnswered(init) = &mut sa.state {
                received = Some((
                    init.suite,
                    init.suite.additional.after(init.additional_done),
                    init.channel.receive(datagram.bytes, datagram.message, now),
                ));
            }
        });
        let Some((suite, awaited, received)) = received else {
            return;
        };
        let opened = match received {
            Received::New(opened) => Ok(opened),
            Received::Malformed(error) => Err(error),
            Received::Repeated(response) => {
                self.host.send_to(datagram.local_port, datagram.remote, response);
                return;
            }
            Received::Ignored => return,
        };
        if !is_auth {
            self.with_sa(id, now, |context, sa| {
                if let Some(init) = sa.take_init_answered() {
                    intermediate::respond(context, sa, init, datagram, opened);
                }
            });
            return;
        }
        let parts = match awaited {
            // The keys that authentication is to prove are not there yet.
            Some(_) => Err(IkeError::Violation(Violation::Missing(PayloadType::KE))),
            None => opened.and_then(|opened| Parts::sort(opened.payloads)),
        };
        let meant = parts.as_ref().ok().and_then(|parts| {
            self.connections
                .values()
                .filter(|connection| {
                    connection.may_be_at(datagram.remote.ip())
                        && ike_auth::is_meant(connection, &suite, parts)
                })
                .min_by_key(|connection| connection.remoteness())
                .map(Connection::id)
        });
        self.sas.edit(id, |sa| sa.connection = meant);
        if let (None, Ok(parts)) = (meant, &parts) {
            self.complain_of_identity(datagram.remote, parts);
        }
        self.with_sa(id, now, |context, sa| {
            if let Some(init) = sa.take_init_answered() {
                ike_auth::respond(context, sa, init, datagram, parts);
            }
        });
    }

    /// Tells every connection that this peer could have meant why it is not the one.
    fn complain_of_identity(&mut self, remote: SocketAddr, parts: &Parts) {
        let Some(received) = &parts.id_initiator else {
            return;
        };
        let address = remote.ip();
        for connection in self.connections.values_mut() {
            if !connection.may_be_at(address) {
                continue;
            }
            let config = &connection.config;
            let other_asked = parts
                .id_responder
                .as_ref()
                .filter(|asked| !is_identity(asked, &config.local_identity));
            let kind = if is_identity(received, &config.peer_identity) {
                match other_asked {
                    Some(asked) => FindingKind::IdentityMismatch {
                        end: End::Ours,
                        received: describe_identity(asked),
                        expected: config.local_identity.to_string(),
                    },
                    None => FindingKind::Other {
                        reason: DownReason::IkeProposalMismatch,
                        detail: format!(
                            "the peer at {address} agreed on IKE algorithms of another connection: make the IKE \
                             policies of both ends equal"
                        ),
                    },
                }
            } else if config.peer == PeerEndpoint::Anywhere {
                FindingKind::UnknownPeer {
                    from: address.to_canonical(),
                    received: describe_identity(received),
                    expected: config.peer_identity.to_string(),
                }
            } else {
                FindingKind::IdentityMismatch {
                    end: End::Peers,
                    received: describe_identity(received),
                    expected: config.peer_identity.to_string(),
                }
            };
            connection.suspect(kind);
            self.agenda.touch(connection.id());
        }
    }

    fn on_init_request(&mut self, datagram: &Datagram<'_>, now: Instant) {
        let header = &datagram.message.header;
        if header.initiator_spi == IkeSpi::ZERO
            || header.responder_spi != IkeSpi::ZERO
            || header.message_id != 0
            || datagram.bytes.len() > MAX_FIRST_MESSAGE_LEN
            || datagram.message.encrypted.is_some()
        {
            return;
        }
        let address = datagram.remote.ip();
        // Nobody whom we do not expect is answered.
        let expected: Vec<VpnConnectionId> = self
            .connections
            .values()
            .filter(|connection| connection.may_be_at(address))
            .map(Connection::id)
            .collect();
        if expected.is_empty() {
            for connection in self.connections.values_mut() {
                if connection.may_be_at_v1(address) {
                    evidence::other_version(connection, 2);
                    self.agenda.touch(connection.id());
                }
            }
            return;
        }
        let begun = self.begun_by_peers.find(address, header.initiator_spi);
        if let Some(sa) = begun.and_then(|id| self.sas.get(id)) {
            if let State::InitAnswered(init) = &sa.state
                && init.request == datagram.bytes
            {
                let response = init.response.clone();
                self.host.send_to(datagram.local_port, datagram.remote, response);
            }
            return;
        }
        let parts = match Parts::sort(datagram.message.payloads.clone()) {
            Ok(parts) => parts,
            Err(error) => {
                self.refuse(datagram, &error);
                return;
            }
        };
        if !self.may_begin(datagram, &parts, now) {
            return;
        }
        let mut candidates: Vec<&mut Connection> = self
            .connections
            .values_mut()
            .filter(|connection| expected.contains(&connection.id()))
            .collect();
        candidates.sort_by_key(|connection| connection.remoteness());
        match ike_sa_init::respond(&mut self.host, &mut candidates, datagram, parts, now) {
            Ok(sa) => {
                self.begun_by_peers.insert(address, header.initiator_spi, sa.id);
                self.sas.put(sa);
            }
            Err(error) => {
                for id in expected {
                    self.agenda.touch(id);
                }
                self.refuse(datagram, &error);
            }
        }
    }

    /// Whether a new handshake may take memory: under load only with a cookie.
    fn may_begin(&mut self, datagram: &Datagram<'_>, parts: &Parts, now: Instant) -> bool {
        let half_open = self.sas.half_open();
        let (all, same) = (half_open.all(), half_open.of(&Prefix::of(datagram.remote.ip())));
        if all >= MAX_HALF_OPEN || same >= MAX_HALF_OPEN_PER_PREFIX {
            return false;
        }
        if all < COOKIE_THRESHOLD && same < COOKIE_THRESHOLD_PER_PREFIX {
            return true;
        }
        let Some(nonce) = &parts.nonce else {
            return false;
        };
        let claim = CookieClaim {
            nonce,
            spi: datagram.message.header.initiator_spi,
            remote: datagram.remote,
        };
        let rng = &mut self.host.rng;
        if let Some(cookie) = parts.notify(NotifyType::COOKIE)
            && self.cookies.check(&cookie.data, &claim, rng, now)
        {
            return true;
        }
        let cookie = self.cookies.make(&claim, rng, now);
        let notify = NotifyPayload::new(NotifyType::COOKIE, cookie);
        ike_sa_init::refuse(&mut self.host, datagram, notify);
        false
    }

    fn refuse(&mut self, datagram: &Datagram<'_>, error: &IkeError) {
        if let Some(notify) = error.notify() {
            ike_sa_init::refuse(&mut self.host, datagram, notify);
        }
    }

    /// A first message of a higher major version is told the one that we speak; other malformed bytes are not answered.
    fn refuse_malformed(&mut self, local_port: u16, remote: SocketAddr, bytes: &[u8], error: DecodeError) {
        let expected = self
            .connections
            .values()
            .any(|connection| connection.may_be_at(remote.ip()));
        let DecodeError::Version(version) = error else {
            return;
        };
        for connection in self.connections.values_mut() {
            if connection.may_be_at(remote.ip()) {
                evidence::other_version(connection, version);
                self.agenda.touch(connection.id());
            }
        }
        if !expected || version < 3 {
            return;
        }
        // Read again as our own version, for the fields that the answer repeats.
        let mut readable = bytes.to_vec();
        if let Some(byte) = readable.get_mut(17) {
            *byte = isthmus_wire::ike::VERSION_2;
        }
        let Some(header) = readable
            .get(..HEADER_LEN)
            .map(<[u8]>::to_vec)
            .and_then(|mut header| {
                let length = u32::try_from(HEADER_LEN).ok()?;
                header.get_mut(24..28)?.copy_from_slice(&length.to_be_bytes());
                isthmus_wire::ike::IkeHeader::decode(&header).ok()
            })
        else {
            return;
        };
        let is_first =
            header.flags.contains(IkeFlags::INITIATOR) && !header.flags.contains(IkeFlags::RESPONSE);
        if !is_first || header.responder_spi != IkeSpi::ZERO {
            return;
        }
        let message = Message {
            header,
            payloads: Vec::new(),
            encrypted: None,
        };
        let datagram = Datagram {
            local_port,
            remote,
            bytes,
            message: &message,
        };
        let notify = NotifyPayload::new(NotifyType::INVALID_MAJOR_VERSION, Vec::new());
        ike_sa_init::refuse(&mut self.host, &datagram, notify);
    }
}

fn on_message_of(context: &mut Context<'_>, sa: &mut crate::sa::IkeSa, datagram: &Datagram<'_>) {
    let is_response = datagram.message.header.flags.contains(IkeFlags::RESPONSE);
    match std::mem::replace(&mut sa.state, State::Dead) {
        State::InitSent(init)
            if is_response && datagram.message.header.exchange == ExchangeType::IKE_SA_INIT =>
        {
            ike_sa_init::on_response(context, sa, init, datagram);
        }
        State::AuthSent(auth) if is_response => ike_auth::on_response(context, sa, auth, datagram),
        State::IntermediateSent(sent) if is_response => {
            intermediate::on_response(context, sa, sent, datagram);
        }
        State::Established(inner) => established::on_message(context, sa, inner, datagram),
        State::Refused(mut channel) => {
            let received = channel.receive(datagram.bytes, datagram.message, context.now);
            if let Received::Repeated(response) = received {
                context
                    .host
                    .send_to(datagram.local_port, datagram.remote, response);
            }
            sa.state = State::Refused(channel);
        }
        other @ (State::AuthSent(_)
        | State::Dead
        | State::InitAnswered(_)
        | State::InitSent(_)
        | State::IntermediateSent(_)) => {
            sa.state = other;
        }
    }
}
