//! A packet thread: it drives one direction of a gateway, or both, and sleeps while there is nothing to do.
//!
//! Two threads let the directions use two cores, and bulk traffic is faster so already where two cores are all there
//! is. On a single core one thread for both saves waking the other.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::inbound::Inbound;
use super::outbound::Outbound;

/// Descriptors that one direction may wait for: its commands first.
pub(super) const MAX_DESCRIPTORS: usize = 5;

/// What a bounded piece of work came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There may be more to do.
    Busy,
    /// The thread shall end.
    End,
    /// Nothing is left to do.
    Idle,
}

/// One direction of a gateway.
pub(super) trait Direction {
    /// Does a bounded amount of work, without waiting.
    fn turn(&mut self) -> Turn;

    /// What it waits for.
    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS];

    /// How long it waits at most.
    fn patience(&self) -> PollTimeout;

    /// Takes note of which descriptors, by their places, have something.
    fn wake(&mut self, ready: [bool; MAX_DESCRIPTORS]);
}

/// Both directions on one thread.
pub(super) struct Both {
    pub(super) outbound: Outbound,
    pub(super) inbound: Inbound,
}

impl Both {
    pub(super) fn run(mut self) {
        loop {
            match (self.outbound.turn(), self.inbound.turn()) {
                (Turn::End, _) | (_, Turn::End) => return,
                (Turn::Idle, Turn::Idle) => wait(&mut [&mut self.outbound, &mut self.inbound]),
                (Turn::Busy, _) | (_, Turn::Busy) => {}
            }
        }
    }
}

/// One direction on a thread of its own.
pub(super) fn run(mut direction: impl Direction) {
    loop {
        match direction.turn() {
            Turn::Busy => {}
            Turn::End => return,
            Turn::Idle => wait(&mut [&mut direction]),
        }
    }
}

fn wait<const N: usize>(directions: &mut [&mut dyn Direction; N]) {
    let mut ready = [[false; MAX_DESCRIPTORS]; N];
    poll_all(directions, &mut ready);
    for (direction, ready) in directions.iter_mut().zip(ready) {
        direction.wake(ready);
    }
}

fn poll_all<const N: usize>(directions: &[&mut dyn Direction; N], ready: &mut [[bool; MAX_DESCRIPTORS]; N]) {
    let mut places = [(0, 0); 2 * MAX_DESCRIPTORS];
    let mut descriptors = [None; 2 * MAX_DESCRIPTORS];
    let mut count = 0;
    let mut patience = PollTimeout::NONE;
    for (number, direction) in directions.iter().enumerate() {
        let own = direction.patience();
        if own.is_some() {
            patience = own;
        }
        for (place, descriptor) in direction.descriptors().into_iter().enumerate() {
            if descriptor.is_some() {
                places[count] = (number, place);
                descriptors[count] = descriptor;
                count += 1;
            }
        }
    }
    let Some(any) = descriptors[0] else {
        return;
    };
    let mut fds = descriptors.map(|descriptor| PollFd::new(descriptor.unwrap_or(any), PollFlags::POLLIN));
    // An interrupted or failed wait only means one more look, at everything.
    let failed = poll(&mut fds[..count], patience).is_err();
    for (fd, (number, place)) in fds[..count].iter().zip(places) {
        ready[number][place] = failed || fd.any().unwrap_or(true);
    }
}
