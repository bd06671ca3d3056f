//! The way of a datagram: to its SA, or to a new handshake.

use std::net::{IpAddr, SocketAddr};

use isthmus_crypto::prf::sha256;
use isthmus_types::{IkeVersion, VpnConnectionId};
use isthmus_wire::ike::IkeSpi;
use isthmus_wire::isakmp::{
    ExchangeType, IsakmpFlags, IsakmpHeader, NotifyPayload, NotifyType, Payload, PayloadType, ProtocolId,
    encode_message,
};

use super::fault::Fault;
use super::sa::{Sa, State};
use super::{Machine, Scope, aggressive, informational, main_mode, message, quick};
use crate::channel::Role;
use crate::connection::Connection;
use crate::evidence;
use crate::finding::FindingKind;
use crate::status::DownReason;

/// At this many handshakes of others no more are accepted.
const MAX_HALF_OPEN: usize = 512;
/// The same for handshakes from one address.
const MAX_HALF_OPEN_PER_ADDRESS: usize = 16;
/// Longer first messages are not read.
const MAX_FIRST_MESSAGE_LEN: usize = 16 * 1024;

/// A message as it came.
pub(super) struct Datagram<'a> {
    pub(super) local_port: u16,
    pub(super) remote: SocketAddr,
    pub(super) bytes: &'a [u8],
    pub(super) header: &'a IsakmpHeader,
    pub(super) digest: [u8; 32],
}

impl Datagram<'_> {
    pub(super) const fn is_encrypted(&self) -> bool {
        self.header.flags.contains(IsakmpFlags::ENCRYPTION)
    }
}

impl Machine {
    /// Takes a datagram whose major version is 1.
    pub(crate) fn receive(
        &mut self,
        scope: &mut Scope<'_>,
        local_port: u16,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        let Ok(header) = IsakmpHeader::decode(bytes) else {
            return;
        };
        if header.initiator_cookie == IkeSpi::ZERO {
            return;
        }
        let datagram = Datagram {
            local_port,
            remote,
            bytes,
            header: &header,
            digest: sha256(&[bytes]),
        };
        if header.responder_cookie == IkeSpi::ZERO && header.exchange != ExchangeType::INFORMATIONAL {
            self.on_first(scope, &datagram);
            return;
        }
        let Some(id) = self.find(scope, &datagram) else {
            return;
        };
        self.with_sa(scope, id, |machine, scope, sa| {
            machine.on_message(scope, sa, &datagram)
        });
    }

    /// The SA that a message is for, by the cookies of both ends.
    fn find(&self, scope: &Scope<'_>, datagram: &Datagram<'_>) -> Option<crate::sa::SaId> {
        let header = datagram.header;
        [header.initiator_cookie, header.responder_cookie]
            .into_iter()
            .filter_map(|cookie| scope.host.sa_of(cookie))
            .find(|id| {
                self.sas.get(id).is_some_and(|sa| {
                    let cookies = sa.cookies();
                    let responder_fits = header.responder_cookie == cookies.responder
                        || (sa.role == Role::Initiator && sa.remote_cookie == IkeSpi::ZERO);
                    let address_fits =
                        sa.path.remote.ip() == datagram.remote.ip() || sa.established().is_some();
                    header.initiator_cookie == cookies.initiator && responder_fits && address_fits
                })
            })
    }

    pub(super) fn on_message(&mut self, scope: &mut Scope<'_>, sa: &mut Sa, datagram: &Datagram<'_>) {
        if let Some(answered) = &mut sa.answered
            && answered.is_for(&datagram.digest)
        {
            if let Some(reply) = answered.repeat(&datagram.digest) {
                scope.host.send(&sa.path, reply);
            }
            return;
        }
        if self.postpone(scope, sa, datagram) {
            return;
        }
        let result = match datagram.header.exchange {
            ExchangeType::MAIN if datagram.header.message_id == 0 => {
                main_mode_message(self, scope, sa, datagram)
            }
            ExchangeType::AGGRESSIVE if datagram.header.message_id == 0 => {
                aggressive::on_message(self, scope, sa, datagram)
            }
            ExchangeType::QUICK => quick::on_message(self, scope, sa, datagram),
            ExchangeType::INFORMATIONAL => informational::on_message(self, scope, sa, datagram),
            _ => Ok(()),
        };
        if let Err(fault) = result {
            self.on_fault(scope, sa, datagram, fault);
        }
    }

    fn on_fault(&mut self, scope: &mut Scope<'_>, sa: &mut Sa, datagram: &Datagram<'_>, fault: Fault) {
        scope.touch(sa.connection);
        let notify = fault.notify_type();
        if sa.established().is_some() {
            if datagram.header.exchange != ExchangeType::QUICK {
                return;
            }
            match fault {
                Fault::Found(notify, kind) => {
                    if let Ok(connection) = scope.connection_of(sa) {
                        connection.diary.find(*kind);
                    }
                    informational::complain(scope.host, sa, notify, ProtocolId::ESP);
                    self.quick_failed(scope, sa.connection);
                }
                Fault::Missing(_) | Fault::Invalid(_) => {
                    if let Some(notify) = notify {
                        informational::complain(scope.host, sa, notify, ProtocolId::ESP);
                    }
                }
                Fault::Internal(error) => scope.complain(sa.connection, &error),
                Fault::Hash | Fault::Malformed => {}
            }
            return;
        }
        match fault {
            Fault::Found(notify, kind) => {
                if let Ok(connection) = scope.connection_of(sa) {
                    connection.suspect(*kind);
                }
                informational::complain(scope.host, sa, notify, ProtocolId::ISAKMP);
                self.fail_attempt(scope, sa);
            }
            Fault::Internal(error) => {
                scope.complain(sa.connection, &error);
                self.fail_attempt(scope, sa);
            }
            Fault::Hash | Fault::Malformed | Fault::Missing(_) if informational::may_be_key(sa) => {
                if !datagram.is_encrypted() && matches!(fault, Fault::Malformed | Fault::Missing(_)) {
                    return;
                }
                informational::hint_of_key(
                    scope,
                    sa,
                    "its proof is not what our key makes, or cannot be decrypted",
                );
                // The state stays: this may have come from somebody else.
                if sa.role == Role::Responder && sa.may_tell() {
                    informational::complain(
                        scope.host,
                        sa,
                        NotifyType::INVALID_HASH_INFORMATION,
                        ProtocolId::ISAKMP,
                    );
                }
            }
            Fault::Hash | Fault::Malformed | Fault::Missing(_) | Fault::Invalid(_) => {}
        }
    }

    /// A first message of a peer.
    fn on_first(&mut self, scope: &mut Scope<'_>, datagram: &Datagram<'_>) {
        let header = datagram.header;
        let address = datagram.remote.ip().to_canonical();
        if header.message_id != 0
            || datagram.is_encrypted()
            || header.next_payload != PayloadType::SA
            || datagram.bytes.len() > MAX_FIRST_MESSAGE_LEN
        {
            return;
        }
        if let Some(id) = self.begun.find(address, header.initiator_cookie) {
            // It came again: answered again, nothing else.
            self.with_sa(scope, id, |_, scope, sa| {
                if let Some(reply) = sa
                    .answered
                    .as_mut()
                    .and_then(|answered| answered.repeat(&datagram.digest))
                {
                    scope.host.send(&sa.path, reply);
                }
            });
            return;
        }
        // Our own first message, thrown back at us.
        if scope.host.sa_of(header.initiator_cookie).is_some() {
            return;
        }
        let mut candidates: Vec<VpnConnectionId> = Vec::new();
        for connection in scope.connections.values_mut() {
            if connection.may_be_at_v1(address) {
                candidates.push(connection.id());
            } else if connection.config.version == IkeVersion::V2 && connection.may_be_at(address) {
                evidence::other_version(connection, 1);
                scope.touched.insert(connection.id());
            }
        }
        if candidates.is_empty() || !self.may_begin(address) {
            return;
        }
        candidates.sort_by_key(|id| scope.connections.get(id).map(Connection::remoteness));
        let aggressive = match header.exchange {
            ExchangeType::MAIN => false,
            ExchangeType::AGGRESSIVE => true,
            _ => return,
        };
        if aggressive {
            candidates.retain(|id| {
                let Some(connection) = scope.connections.get_mut(id) else {
                    return false;
                };
                let allowed = connection.config.options.aggressive_mode;
                if !allowed {
                    connection.suspect(FindingKind::Other {
                        reason: DownReason::AuthenticationFailed,
                        detail: format!(
                            "the peer at {address} began with aggressive mode, which is not allowed here: choose main \
                             mode at the peer, or allow aggressive mode for this connection"
                        ),
                    });
                    scope.touched.insert(*id);
                }
                allowed
            });
            if candidates.is_empty() {
                refuse(scope, datagram, NotifyType::INVALID_EXCHANGE_TYPE);
                return;
            }
        }
        let begun = message::read(header, datagram.bytes).and_then(|parts| {
            if aggressive {
                aggressive::respond(scope, &candidates, datagram, &parts)
            } else {
                main_mode::respond(scope, &candidates, datagram, &parts)
            }
        });
        match begun {
            Ok(mut sa) => {
                sa.replaces = self.established_of(sa.connection);
                self.begun.insert(address, header.initiator_cookie, sa.id);
                self.put(scope, sa);
            }
            Err(fault) => {
                if let Fault::Found(_, kind) = &fault
                    && let [id] = candidates.as_slice()
                    && let Some(connection) = scope.connections.get_mut(id)
                {
                    connection.suspect((**kind).clone());
                    scope.touched.insert(*id);
                }
                if let Some(notify) = fault.notify_type() {
                    refuse(scope, datagram, notify);
                }
            }
        }
    }

    fn may_begin(&self, address: IpAddr) -> bool {
        self.half_open.all() < MAX_HALF_OPEN && self.half_open.of(&address) < MAX_HALF_OPEN_PER_ADDRESS
    }
}

fn main_mode_message(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    let encrypted = matches!(sa.state, State::KeAnswered(_) | State::IdSent(_));
    if encrypted != datagram.is_encrypted() {
        return Ok(());
    }
    scope.is_initial_contact = machine.has_nothing(sa);
    main_mode::on_message(machine, scope, sa, datagram)
}

/// Tells the sender of a first message why there is no answer; nothing is remembered.
fn refuse(scope: &mut Scope<'_>, datagram: &Datagram<'_>, notify_type: NotifyType) {
    let header = IsakmpHeader {
        exchange: ExchangeType::INFORMATIONAL,
        message_id: rand::Rng::next_u32(&mut scope.host.rng) | 1,
        flags: IsakmpFlags::NONE,
        ..*datagram.header
    };
    let notify = NotifyPayload::new(ProtocolId::ISAKMP, Vec::new(), notify_type, Vec::new());
    let message = encode_message(header, &[Payload::Notify(notify)]);
    scope.host.send_to(datagram.local_port, datagram.remote, message);
}
