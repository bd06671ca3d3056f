//! What happens when time passes on an IKE SA.

use std::time::Duration;

use crate::channel::Role;
use crate::config::DpdAction;
use crate::evidence;
use crate::exchange::{Fate, request};
use crate::finding::Unanswered;
use crate::host::Context;
use crate::retransmit::Retransmission;
use crate::sa::{Established, IkeSa, Phase, State};
use crate::status::DownReason;
use crate::timer::Timer;

/// Handles all timers of the IKE SA and of its children that are due.
pub(crate) fn handle(context: &mut Context<'_>, sa: &mut IkeSa) {
    while let Some(timer) = sa.timers.expire(context.now) {
        match sa.take_established() {
            Some(established) => on_established(context, sa, established, timer),
            None => on_handshake(context, sa, timer),
        }
        if matches!(sa.state, State::Dead) {
            return;
        }
    }
    if let Some(mut established) = sa.take_established() {
        let now = context.now;
        established.channel.forget_stale_fragments(now);
        for child in &mut established.children {
            child.handle_timeout(now);
        }
        request::pump_or_die(context, sa, established);
    }
}

fn on_handshake(context: &mut Context<'_>, sa: &mut IkeSa, timer: Timer) {
    match timer {
        Timer::Retransmit if is_forbidden(context, sa) => sa.state = State::Dead,
        Timer::Retransmit => match std::mem::replace(&mut sa.state, State::Dead) {
            State::InitSent(mut init) => {
                if again(context, sa, &mut init.retransmission) {
                    if init.refused_with.is_none() {
                        evidence::no_answer(
                            context,
                            sa,
                            Unanswered::FirstMessage,
                            init.retransmission.tries(),
                        );
                    }
                    sa.state = State::InitSent(init);
                } else {
                    if let Some(connection) = &mut context.connection
                        && init.refused_with.is_none()
                    {
                        connection.tally.unanswered = connection.tally.unanswered.saturating_add(1);
                    }
                    pause(context);
                }
            }
            State::AuthSent(mut auth) => {
                if again(context, sa, &mut auth.retransmission) {
                    sa.state = State::AuthSent(auth);
                } else {
                    if let Some(child) = &auth.child {
                        child.abandon(context.host);
                    }
                    let to = Unanswered::Authentication {
                        bytes: auth.retransmission.longest(),
                    };
                    evidence::no_answer(context, sa, to, auth.retransmission.tries());
                    pause(context);
                }
            }
            State::IntermediateSent(mut sent) => {
                if again(context, sa, &mut sent.retransmission) {
                    sa.state = State::IntermediateSent(sent);
                } else {
                    let to = Unanswered::Authentication {
                        bytes: sent.retransmission.longest(),
                    };
                    evidence::no_answer(context, sa, to, sent.retransmission.tries());
                    pause(context);
                }
            }
            other @ (State::Dead | State::Established(_) | State::InitAnswered(_) | State::Refused(_)) => {
                sa.state = other
            }
        },
        Timer::HalfOpen => {
            if sa.is_half_open() {
                sa.state = State::Dead;
            }
        }
        Timer::Awaited
        | Timer::Expire
        | Timer::Keepalive
        | Timer::Liveness
        | Timer::Reauthenticate
        | Timer::Redundant
        | Timer::Rekey => {}
    }
}

/// Whether a message of a handshake is not to be said again: we may not begin any more, and the peer cannot have established
/// the IKE SA yet.
fn is_forbidden(context: &Context<'_>, sa: &IkeSa) -> bool {
    let begun = match &sa.state {
        State::InitSent(_) | State::IntermediateSent(_) => true,
        State::AuthSent(_)
        | State::Dead
        | State::Established(_)
        | State::InitAnswered(_)
        | State::Refused(_) => false,
    };
    let forbidden = context
        .connection
        .as_ref()
        .is_some_and(|connection| !connection.may_initiate());
    begun && forbidden
}

fn on_established(
    context: &mut Context<'_>,
    sa: &mut IkeSa,
    mut established: Box<Established>,
    timer: Timer,
) {
    let fate = match timer {
        Timer::Retransmit => retransmit(context, sa, &mut established),
        Timer::Keepalive => {
            context.host.send_keepalive(&sa.path);
            sa.arm_keepalive(context.now);
            Fate::Lives
        }
        Timer::Liveness => {
            check_liveness(context, sa, &mut established);
            Fate::Lives
        }
        Timer::Rekey => {
            established.wants.rekey = established.phase == Phase::Live;
            Fate::Lives
        }
        Timer::Redundant | Timer::Expire => {
            let overrules = timer == Timer::Redundant
                && established.phase == Phase::Live
                && established.begun_by == Role::Responder
                && !established.outdated;
            if overrules && let Some(connection) = &mut context.connection {
                connection.note_overruling(context.now);
            }
            let left_to_peer = context
                .connection
                .as_ref()
                .is_some_and(|connection| !connection.may_rekey());
            if timer == Timer::Expire && established.phase == Phase::Live && left_to_peer {
                context.complain(
                    DownReason::Negotiating,
                    "the IKE SA came to the end of its lifetime, and the peer, which alone may replace it, did not: make \
                     the lifetime here longer than that of the peer"
                        .into(),
                );
            }
            close(context, &mut established);
            Fate::Lives
        }
        Timer::Awaited => {
            established.forget_awaited(context.host);
            Fate::Lives
        }
        Timer::Reauthenticate => {
            // A new IKE SA takes over; only then does this one go.
            established.outdated = true;
            Fate::Lives
        }
        Timer::HalfOpen => Fate::Lives,
    };
    match fate {
        Fate::Lives => request::pump_or_die(context, sa, established),
        Fate::Dies { grace } => established.die(context, sa, grace),
    }
}

/// Deletes an IKE SA with its children: they stop sending now and go when the peer answered.
pub(crate) fn close(context: &mut Context<'_>, established: &mut Established) {
    established.phase = Phase::Closing;
    if let Some(connection) = &mut context.connection {
        for child in &established.children {
            connection.retire(context.host, child.id);
        }
    }
}

fn retransmit(context: &mut Context<'_>, sa: &mut IkeSa, established: &mut Established) -> Fate {
    let Some(mut outstanding) = established.outstanding.take() else {
        return Fate::Lives;
    };
    let goes_on = again(context, sa, &mut outstanding.retransmission);
    established.outstanding = Some(outstanding);
    if goes_on {
        return Fate::Lives;
    }
    if established.phase == Phase::Live {
        let silence = context.now.saturating_duration_since(established.last_heard);
        let tries = established
            .outstanding
            .as_ref()
            .map_or(1, |outstanding| outstanding.retransmission.tries());
        evidence::no_answer(context, sa, Unanswered::Request { silence }, tries);
        if let Some(connection) = &mut context.connection {
            connection.wanted = match connection.config.dpd_action {
                DpdAction::None | DpdAction::Restart => true,
                DpdAction::Clear | DpdAction::Hold => false,
            };
        }
    }
    Fate::Dies {
        grace: Duration::ZERO,
    }
}

fn check_liveness(context: &mut Context<'_>, sa: &mut IkeSa, established: &mut Established) {
    let Some(interval) = context
        .connection
        .as_ref()
        .and_then(|connection| connection.liveness_interval())
    else {
        return;
    };
    let due = established.last_heard + interval;
    if due <= context.now {
        established.wants.probe = established.is_usable();
        sa.timers.set(Timer::Liveness, context.now + interval);
    } else {
        sa.timers.set(Timer::Liveness, due);
    }
}

/// Sends the request again and waits on, or says that time is over.
fn again(context: &mut Context<'_>, sa: &mut IkeSa, retransmission: &mut Retransmission) -> bool {
    let Some(message) = retransmission.again(context.now).cloned() else {
        return false;
    };
    let jitter = context.host.jitter();
    sa.timers
        .set(Timer::Retransmit, retransmission.next_at(jitter, context.now));
    sa.send(context.host, message, context.now);
    true
}

fn pause(context: &mut Context<'_>) {
    if let Some(connection) = &mut context.connection {
        connection.ike_pause.after_failure(context.host, context.now);
    }
}
