//! IKE_INTERMEDIATE (RFC 9242) with one additional key exchange each (RFC 9370 section 2.2.2), between IKE_SA_INIT and
//! IKE_AUTH.

use isthmus_crypto::kem::{DecapsulationKey, encapsulate};
use isthmus_crypto::prf::prf;
use isthmus_types::AdditionalKeyExchange;
use isthmus_wire::ike::{ExchangeType, KePayload, Payload, PayloadType};
use zeroize::Zeroizing;

use crate::algorithm::{IkeSuite, additional_id};
use crate::channel::Opened;
use crate::error::{IkeError, Violation};
use crate::exchange::ike_auth::{self, Handshake};
use crate::exchange::{Datagram, give_up_attempt};
use crate::host::{Context, Host};
use crate::keys::{IkeKeys, Nonces, SpiPair, ike_keys, rekey_seed};
use crate::parts::{Parts, required};
use crate::sa::{IkeSa, InitAnswered, IntermediateSent, State};
use crate::timer::Timer;

/// What authenticates the exchanges done so far: a chain for each direction. Empty before the first.
#[derive(Default)]
pub(crate) struct Transcript {
    initiator: Vec<u8>,
    responder: Vec<u8>,
}

impl Transcript {
    /// What enters AUTH. `message_id` is that of IKE_AUTH.
    pub(crate) fn octets(&self, message_id: u32) -> Vec<u8> {
        if self.initiator.is_empty() {
            return Vec::new();
        }
        [
            self.initiator.as_slice(),
            &self.responder,
            &message_id.to_be_bytes(),
        ]
        .concat()
    }

    /// Adds an exchange; `keys` are those that protected it.
    fn add(&mut self, suite: &IkeSuite, keys: &IkeKeys, request: &[u8], response: &[u8]) {
        self.initiator = prf(suite.prf, &keys.prove_initiator, &[&self.initiator, request]).to_vec();
        self.responder = prf(suite.prf, &keys.prove_responder, &[&self.responder, response]).to_vec();
    }
}

/// What comes after IKE_SA_INIT or an IKE_INTERMEDIATE: the next key exchange, or IKE_AUTH.
pub(crate) fn proceed(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut handshake: Handshake,
) -> Result<State, IkeError> {
    let Some(method) = handshake.suite.additional.after(handshake.additional_done) else {
        return ike_auth::start(context, sa, handshake);
    };
    let key = generate(method)?;
    let ke = Payload::Ke(KePayload {
        method: additional_id(method),
        data: key.public().to_vec(),
    });
    let (message_id, message) = handshake.channel.request(ExchangeType::IKE_INTERMEDIATE, &[ke])?;
    let retransmission = sa.send_request(context, message);
    Ok(State::IntermediateSent(Box::new(IntermediateSent {
        request: handshake.channel.sent_plain().to_vec(),
        handshake,
        key,
        message_id,
        retransmission,
    })))
}

/// Takes the answer to our IKE_INTERMEDIATE.
pub(crate) fn on_response(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut sent: Box<IntermediateSent>,
    datagram: &Datagram<'_>,
) {
    let header = &datagram.message.header;
    if header.exchange != ExchangeType::IKE_INTERMEDIATE || header.message_id != sent.message_id {
        sa.state = State::IntermediateSent(sent);
        return;
    }
    let channel = &mut sent.handshake.channel;
    let Some(opened) = channel.receive_response(datagram.bytes, datagram.message, context.now) else {
        sa.state = State::IntermediateSent(sent);
        return;
    };
    sa.timers.clear(Timer::Retransmit);
    let spis = sa.spis();
    let next = opened
        .and_then(|opened| accept(context.host, *sent, spis, opened))
        .and_then(|handshake| proceed(context, sa, handshake));
    match next {
        Ok(state) => sa.state = state,
        Err(error) => {
            let detail = format!("the additional key exchange failed: {error}");
            give_up_attempt(context, sa, &error, detail);
        }
    }
}

fn accept(
    host: &mut Host,
    sent: IntermediateSent,
    spis: SpiPair,
    opened: Opened,
) -> Result<Handshake, IkeError> {
    let IntermediateSent {
        mut handshake,
        key,
        request,
        ..
    } = sent;
    let parts = Parts::sort(opened.payloads)?;
    let ke = required(parts.ke, PayloadType::KE)?;
    if ke.method != additional_id(key.method()) {
        return Err(IkeError::Violation(Violation::BeyondRequest));
    }
    let secret = key
        .decapsulate(&ke.data)
        .map_err(|_| IkeError::Violation(Violation::PublicValue))?;
    let suite = handshake.suite;
    handshake
        .transcript
        .add(&suite, &handshake.keys, &request, &opened.plain);
    let nonces = Nonces {
        initiator: &handshake.nonce_initiator,
        responder: &handshake.nonce_responder,
    };
    handshake.keys = next_keys(&suite, &handshake.keys, &nonces, spis, &secret)?;
    host.tell_keys(spis, suite.cipher, &handshake.keys);
    handshake.channel.change_keys(&suite, &handshake.keys)?;
    handshake.additional_done += 1;
    Ok(handshake)
}

/// Answers an IKE_INTERMEDIATE. After an error the handshake is over.
pub(crate) fn respond(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut init: Box<InitAnswered>,
    datagram: &Datagram<'_>,
    opened: Result<Opened, IkeError>,
) {
    let spis = sa.spis();
    let answer = opened.and_then(|opened| answer(&init, opened));
    let result = match answer {
        Ok(Step { ke, secret, request }) => init
            .channel
            .respond(ExchangeType::IKE_INTERMEDIATE, &[ke])
            .and_then(|message| {
                let suite = init.suite;
                init.transcript
                    .add(&suite, &init.keys, &request, init.channel.sent_plain());
                let nonces = Nonces {
                    initiator: &init.nonce_initiator,
                    responder: &init.nonce_responder,
                };
                init.keys = next_keys(&suite, &init.keys, &nonces, spis, &secret)?;
                context.host.tell_keys(spis, suite.cipher, &init.keys);
                init.channel.change_keys(&suite, &init.keys)?;
                init.additional_done += 1;
                Ok((message, State::InitAnswered(init)))
            }),
        Err(error) => {
            let mut channel = init.channel;
            let payloads: Vec<Payload> = error.notify().map(Payload::Notify).into_iter().collect();
            channel
                .respond(ExchangeType::IKE_INTERMEDIATE, &payloads)
                .map(|message| (message, State::Refused(Box::new(channel))))
        }
    };
    sa.state = match result {
        Ok((message, state)) => {
            context
                .host
                .send_to(datagram.local_port, datagram.remote, message);
            state
        }
        Err(_) => State::Dead,
    };
}

/// Our part of a key exchange.
struct Step {
    ke: Payload,
    secret: Zeroizing<Vec<u8>>,
    /// What of the request is to be authenticated.
    request: Vec<u8>,
}

fn answer(init: &InitAnswered, opened: Opened) -> Result<Step, IkeError> {
    let method = init
        .suite
        .additional
        .after(init.additional_done)
        .ok_or(IkeError::Violation(Violation::BeyondRequest))?;
    let parts = Parts::sort(opened.payloads)?;
    let ke = required(parts.ke, PayloadType::KE)?;
    let (ke, secret) = encapsulate_to(method, &ke)?;
    Ok(Step {
        ke: Payload::Ke(ke),
        secret,
        request: opened.plain,
    })
}

/// A key pair for one exchange.
pub(crate) fn generate(method: AdditionalKeyExchange) -> Result<DecapsulationKey, IkeError> {
    DecapsulationKey::generate(method).map_err(|_| IkeError::Internal("no key pair could be made"))
}

/// The answer to a KE payload with an encapsulation key, and the secret.
pub(crate) fn encapsulate_to(
    method: AdditionalKeyExchange,
    received: &KePayload,
) -> Result<(KePayload, Zeroizing<Vec<u8>>), IkeError> {
    if received.method != additional_id(method) {
        return Err(IkeError::Violation(Violation::BeyondRequest));
    }
    let made =
        encapsulate(method, &received.data).map_err(|_| IkeError::Violation(Violation::PublicValue))?;
    let ke = KePayload {
        method: received.method,
        data: made.ciphertext,
    };
    Ok((ke, made.secret))
}

fn next_keys(
    suite: &IkeSuite,
    keys: &IkeKeys,
    nonces: &Nonces<'_>,
    spis: SpiPair,
    secret: &[u8],
) -> Result<IkeKeys, IkeError> {
    let seed = rekey_seed(suite.prf, &keys.derive, nonces, secret, &[]);
    ike_keys(suite, &seed, nonces, spis)
}
