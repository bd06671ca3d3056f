//! Quick mode (RFC 2409 section 5.5): one pair of ranges, three messages, each encrypted and with a hash. The end that asks sends
//! the first and the third one, the end that answers the second one.

mod answer;
mod ask;
mod install;

use std::time::{Duration, Instant};

use isthmus_crypto::dh::PrivateKey;
use isthmus_types::DhGroup;

pub(super) use self::ask::{describe_groups, groups_of, start};
use self::install::Agreement;
use super::attributes::{Chosen, Mode};
use super::fault::Fault;
use super::message::decrypt;
use super::sa::{Answered, Established, Request, Sa};
use super::tunnel::Pair;
use super::{Datagram, Machine, Scope};
use crate::algorithm::EspSuite;
use crate::event::ChildId;
use crate::host::RESERVED_SPIS;
use crate::keys::Nonces;

/// How long the message ids of exchanges that are over are remembered together with the last message.
const REMEMBER: Duration = Duration::from_secs(60);
/// How long after the last message it goes out again while the child waits.
pub(super) const REPEAT_AFTER: Duration = Duration::from_millis(160);

/// A quick mode that is under way, or was.
pub(super) enum Quick {
    /// We are the responder and wait for the third message.
    Answered(Box<AnsweredQuick>),
    /// We are the initiator and wait for the second message.
    Asked(Box<Asked>),
    /// Over: the same message again gets the same answer.
    Done {
        last: Option<Answered>,
        until: Instant,
        commit: Option<Commit>,
    },
}

/// A child that we do not send on yet, as its responder may not have it.
#[derive(Clone, Copy)]
pub(super) struct Commit {
    pub(super) child: ChildId,
    /// When we send on it without word of the responder.
    pub(super) until: Instant,
    /// When the last message goes out again, in case it was lost: nobody answers it.
    pub(super) again: Option<Instant>,
}

pub(super) struct Asked {
    pub(super) pair: Pair,
    pub(super) replaces: Vec<ChildId>,
    pub(super) request: Request,
    spi: u32,
    group: Option<PrivateKey>,
    nonce: Vec<u8>,
    iv: Vec<u8>,
}

pub(super) struct AnsweredQuick {
    pub(super) child: ChildId,
    pub(super) request: Request,
    first: Answered,
    nonce_initiator: Vec<u8>,
    nonce_responder: Vec<u8>,
    iv: Vec<u8>,
}

impl Quick {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        Some(match self {
            Self::Answered(answered) => answered.request.at,
            Self::Asked(asked) => asked.request.at,
            Self::Done { until, commit, .. } => commit.as_ref().map_or(*until, |commit| {
                commit.again.unwrap_or(commit.until).min(commit.until).min(*until)
            }),
        })
    }

    pub(super) const fn asks_for(&self) -> Option<&Pair> {
        match self {
            Self::Asked(asked) => Some(&asked.pair),
            Self::Answered(_) | Self::Done { .. } => None,
        }
    }

    /// The group that it asks with; none inside if it goes without.
    pub(super) fn asked_group(&self) -> Option<Option<DhGroup>> {
        match self {
            Self::Asked(asked) => Some(asked.group.as_ref().map(PrivateKey::group)),
            Self::Answered(_) | Self::Done { .. } => None,
        }
    }

    /// Gives up what it holds of the host.
    pub(super) fn abandon(self, host: &mut crate::host::Host) {
        if let Self::Asked(asked) = self {
            host.free_esp_spi(asked.spi);
        }
    }
}

/// A message id that was not used on this SA.
pub(super) fn new_message_id(host: &mut crate::host::Host, established: &mut Established) -> u32 {
    loop {
        let id = rand::Rng::next_u32(&mut host.rng);
        if id != 0 && established.used.insert(id) {
            return id;
        }
    }
}

const fn mode(sa: &Sa) -> Mode {
    if sa.path.nat.encapsulates() && sa.features.nat_traversal {
        Mode::UdpTunnel
    } else {
        Mode::Tunnel
    }
}

/// A message of quick mode.
pub(super) fn on_message(
    machine: &mut Machine,
    scope: &mut Scope<'_>,
    sa: &mut Sa,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    let id = datagram.header.message_id;
    let path = sa.path;
    let Some(established) = sa.established_mut() else {
        return Ok(());
    };
    if !datagram.is_encrypted() || id == 0 {
        return Ok(());
    }
    match established.quick.remove(&id) {
        None if established.used.contains(&id) => Ok(()),
        None => answer::on_first(machine, scope, sa, datagram),
        Some(Quick::Asked(asked)) => match ask::on_second(machine, scope, sa, &asked, datagram) {
            Ok(done) => {
                if let Some(established) = sa.established_mut() {
                    established.quick.insert(id, done);
                }
                Ok(())
            }
            Err(Fault::Found(notify, kind)) => {
                // Authentic: there is no sense in asking again.
                scope.host.free_esp_spi(asked.spi);
                Err(Fault::Found(notify, kind))
            }
            Err(fault) => {
                if let Some(established) = sa.established_mut() {
                    established.quick.insert(id, Quick::Asked(asked));
                }
                Err(fault)
            }
        },
        Some(Quick::Answered(mut answered)) => {
            if let Some(reply) = answered.first.repeat(&datagram.digest) {
                scope.host.send(&path, reply);
            } else if check_third(established, &answered, datagram).is_ok() {
                established.last_heard = scope.now;
                established.quick.insert(
                    id,
                    Quick::Done {
                        last: None,
                        until: scope.now + REMEMBER,
                        commit: None,
                    },
                );
                let connection = sa.connection;
                machine.make_ready(scope, connection, answered.child);
                return Ok(());
            }
            established.quick.insert(id, Quick::Answered(answered));
            Ok(())
        }
        Some(Quick::Done {
            mut last,
            until,
            commit,
        }) => {
            if let Some(reply) = last.as_mut().and_then(|last| last.repeat(&datagram.digest)) {
                scope.host.send(&path, reply);
            }
            established.quick.insert(id, Quick::Done { last, until, commit });
            Ok(())
        }
    }
}

fn check_third(
    established: &Established,
    answered: &AnsweredQuick,
    datagram: &Datagram<'_>,
) -> Result<(), Fault> {
    let keys = &established.keys;
    let (parts, _) = decrypt(keys, &answered.iv, datagram.header, datagram.bytes)?;
    let nonces = Nonces {
        initiator: &answered.nonce_initiator,
        responder: &answered.nonce_responder,
    };
    parts.check_hash(|_| keys.hash_3(datagram.header.message_id, &nonces))
}

fn chosen_spi(chosen: &Chosen<EspSuite>) -> Result<u32, Fault> {
    <[u8; 4]>::try_from(chosen.answer.spi.as_slice())
        .ok()
        .map(u32::from_be_bytes)
        .filter(|spi| *spi > RESERVED_SPIS)
        .ok_or(Fault::Invalid("the SPI"))
}
