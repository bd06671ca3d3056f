//! The exchanges: one file each, with what either end does in it.

pub(crate) mod create_child;
pub(crate) mod established;
pub(crate) mod followup_ke;
pub(crate) mod ike_auth;
pub(crate) mod ike_sa_init;
pub(crate) mod informational;
pub(crate) mod intermediate;
pub(crate) mod rekey_ike;
pub(crate) mod request;
pub(crate) mod timeout;

use std::net::SocketAddr;
use std::time::Duration;

use isthmus_wire::ike::Message;

use crate::error::IkeError;
use crate::host::Context;
use crate::sa::{IkeSa, State};

/// A datagram that was decoded.
pub(crate) struct Datagram<'a> {
    pub(crate) local_port: u16,
    pub(crate) remote: SocketAddr,
    pub(crate) bytes: &'a [u8],
    pub(crate) message: &'a Message,
}

/// Ends an attempt of ours that failed for the time being.
pub(crate) fn give_up_attempt(context: &mut Context<'_>, sa: &mut IkeSa, error: &IkeError, detail: String) {
    context.complain(error.down_reason(), detail);
    if let Some(connection) = &mut context.connection {
        connection.ike_pause.after_failure(context.host, context.now);
    }
    sa.state = State::Dead;
}

/// What becomes of an IKE SA after a message or a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is gone; its children receive for so long.
    Dies {
        /// The time.
        grace: Duration,
    },
    /// It stays.
    Lives,
}
