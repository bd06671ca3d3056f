//! The packet threads of a gateway. The first drives both directions while little passes; under load it lends the
//! outbound one to the second, which gives it back when the load is over.
//!
//! Bulk traffic is faster with a core for each direction. A lone packet is faster with one thread: waking a thread that
//! sleeps on an idle core takes longer than all else that happens to the packet, and what a write to the TUN device
//! brings back at once, such as the answer to an echo request, is on its way again without waking any.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::device::MAX_ADDRESSES;
use super::queue::{CommandReceiver, CommandSender, command_queue};

/// Descriptors that one direction may wait for: its commands first, then at most four for each address of the gateway.
pub(super) const MAX_DESCRIPTORS: usize = 1 + 4 * MAX_ADDRESSES;

/// Bytes between two sleeps that are load.
const LOAD_BYTES: usize = 16 << 10;
/// Turns between two sleeps that are load, however little they carried.
const LOAD_TURNS: usize = 8;
/// How long there must have been no load before one thread drives both directions again: longer than bulk traffic pauses.
const CALM: Duration = Duration::from_millis(50);

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

    /// Bytes of packets taken since this was called last.
    fn take_volume(&mut self) -> usize;

    /// What it waits for.
    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS];

    /// How long it waits at most.
    fn patience(&self) -> PollTimeout;

    /// Takes note of which descriptors, by their places, have something.
    fn wake(&mut self, ready: [bool; MAX_DESCRIPTORS]);
}

/// Starts the threads of a gateway that may use `cores` cores. They end when either direction says so, each what it
/// drives then.
///
/// # Errors
/// Those of making threads and event descriptors.
pub(super) fn start<O, I>(outbound: O, inbound: I, cores: usize) -> io::Result<Vec<JoinHandle<()>>>
where
    O: Direction + Send + 'static,
    I: Direction + Send + 'static,
{
    let mut threads = Vec::with_capacity(2);
    let load = Arc::new(Load::new());
    let second = if cores > 1 {
        let (lend, lent) = sync_channel(1);
        let (give_back, returned) = command_queue(1)?;
        let load = Arc::clone(&load);
        threads.push(super::spawn("esp-out", move || {
            drive_lent(&lent, &give_back, &load);
        })?);
        Some(Second { lend, returned })
    } else {
        None
    };
    let first = First {
        inbound,
        outbound: Some(Box::new(outbound)),
        second,
        load,
    };
    threads.push(super::spawn("esp-in", move || first.run())?);
    Ok(threads)
}

/// The thread that drives the inbound direction, and the outbound one unless it is lent.
struct First<O, I> {
    inbound: I,
    outbound: Option<Box<O>>,
    // None on a single core.
    second: Option<Second<O>>,
    load: Arc<Load>,
}

/// The way to the other thread and back.
struct Second<O> {
    lend: SyncSender<Box<O>>,
    returned: CommandReceiver<Box<O>>,
}

impl<O: Direction, I: Direction> First<O, I> {
    fn run(mut self) {
        let mut since_sleep = SinceSleep::default();
        let mut look_inbound = true;
        loop {
            let inbound = if look_inbound {
                self.inbound.turn()
            } else {
                Turn::Idle
            };
            // After the other, whose writes to the TUN device may have been answered already.
            let outbound = self
                .outbound
                .as_mut()
                .map_or(Turn::Idle, |outbound| outbound.turn());
            if inbound == Turn::End || outbound == Turn::End {
                return;
            }
            let volume = self
                .outbound
                .as_mut()
                .map_or(0, |outbound| outbound.take_volume());
            if since_sleep.add(volume + self.inbound.take_volume()) {
                self.load.note();
                self.take_back();
                self.lend();
            }
            look_inbound = true;
            if (inbound, outbound) == (Turn::Idle, Turn::Idle) {
                look_inbound = self.wait();
                since_sleep = SinceSleep::default();
            }
        }
    }

    /// Takes the outbound direction if it was given back: under load this thread may not sleep for long.
    fn take_back(&mut self) {
        if let Some(second) = &self.second
            && self.outbound.is_none()
        {
            self.outbound = second.returned.next();
        }
    }

    fn lend(&mut self) {
        if let Some(second) = &self.second
            && let Some(outbound) = self.outbound.take()
            && let Err(refused) = second.lend.send(outbound)
        {
            // A thread that has panicked drives nothing more.
            self.outbound = Some(refused.0);
            self.second = None;
        }
    }

    /// False if the inbound direction has certainly nothing to do.
    fn wait(&mut self) -> bool {
        if let Some(outbound) = &mut self.outbound {
            let mut ready = [[false; MAX_DESCRIPTORS]; 2];
            poll_all(&[&self.inbound, outbound.as_ref()], None, &mut ready);
            self.inbound.wake(ready[0]);
            outbound.wake(ready[1]);
            return ready[0].contains(&true);
        }
        let mut ready = [[false; MAX_DESCRIPTORS]; 1];
        let returned = self.second.as_ref().map(|second| second.returned.as_fd());
        let came_back = poll_all(&[&self.inbound], returned, &mut ready);
        self.inbound.wake(ready[0]);
        if came_back && let Some(second) = &self.second {
            second.returned.reset();
            self.take_back();
        }
        true
    }
}

/// The second thread: drives the outbound direction as long as there is load, whenever it is lent.
fn drive_lent<O: Direction>(lent: &Receiver<Box<O>>, give_back: &CommandSender<Box<O>>, load: &Load) {
    while let Ok(mut outbound) = lent.recv() {
        let mut since_sleep = SinceSleep::default();
        loop {
            match outbound.turn() {
                Turn::Busy => {}
                Turn::End => return,
                Turn::Idle if load.is_over() => {
                    give_back.send(outbound);
                    break;
                }
                Turn::Idle => {
                    let mut ready = [[false; MAX_DESCRIPTORS]; 1];
                    poll_all(&[outbound.as_ref()], None, &mut ready);
                    outbound.wake(ready[0]);
                    since_sleep = SinceSleep::default();
                }
            }
            if since_sleep.add(outbound.take_volume()) {
                load.note();
            }
        }
    }
}

/// When there was load last, in either direction.
struct Load {
    start: Instant,
    // Microseconds after the start.
    last: AtomicU64,
}

impl Load {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        // Another thread's note may be newer than our reading of the clock.
        let since = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        Duration::from_micros(since) >= CALM
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// What a thread did since it slept.
#[derive(Default)]
struct SinceSleep {
    bytes: usize,
    turns: usize,
}

impl SinceSleep {
    /// Adds a turn that took `bytes`. True if it makes load.
    fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.turns += 1;
        self.bytes >= LOAD_BYTES || self.turns >= LOAD_TURNS
    }
}

/// Waits until a descriptor of the directions or `other` has something. True if `other` has.
fn poll_all<const N: usize>(
    directions: &[&dyn Direction; N],
    other: Option<BorrowedFd<'_>>,
    ready: &mut [[bool; MAX_DESCRIPTORS]; N],
) -> bool {
    const MOST: usize = 2 * MAX_DESCRIPTORS + 1;
    let mut places = [None; MOST];
    let mut descriptors = [None; MOST];
    let mut count = 0;
    let mut patience = PollTimeout::NONE;
    let mut add = |place, descriptor: Option<_>| {
        if descriptor.is_some() {
            places[count] = place;
            descriptors[count] = descriptor;
            count += 1;
        }
    };
    for (number, direction) in directions.iter().enumerate() {
        let own = direction.patience();
        if own.is_some() {
            patience = own;
        }
        for (place, descriptor) in direction.descriptors().into_iter().enumerate() {
            add(Some((number, place)), descriptor);
        }
    }
    add(None, other);
    let Some(any) = descriptors[0] else {
        return false;
    };
    let mut fds = descriptors.map(|descriptor| PollFd::new(descriptor.unwrap_or(any), PollFlags::POLLIN));
    // An interrupted or failed wait only means one more look, at everything.
    let failed = poll(&mut fds[..count], patience).is_err();
    let mut other = false;
    for (fd, place) in fds[..count].iter().zip(places) {
        let has = failed || fd.any().unwrap_or(true);
        match place {
            Some((number, place)) => ready[number][place] = has,
            None => other = has,
        }
    }
    other
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::thread::ThreadId;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    enum Job {
        Packet { number: usize, bytes: usize },
        Stop,
    }

    /// Tells which thread did what.
    struct Recorder {
        jobs: CommandReceiver<Job>,
        done: Sender<(usize, ThreadId)>,
        volume: usize,
    }

    impl Direction for Recorder {
        fn turn(&mut self) -> Turn {
            match self.jobs.next() {
                Some(Job::Packet { number, bytes }) => {
                    self.volume += bytes;
                    self.done.send((number, std::thread::current().id())).unwrap();
                    Turn::Busy
                }
                Some(Job::Stop) => Turn::End,
                None => Turn::Idle,
            }
        }

        fn take_volume(&mut self) -> usize {
            std::mem::take(&mut self.volume)
        }

        fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS] {
            let mut all = [None; MAX_DESCRIPTORS];
            all[0] = Some(self.jobs.as_fd());
            all
        }

        fn patience(&self) -> PollTimeout {
            PollTimeout::NONE
        }

        fn wake(&mut self, [jobs, ..]: [bool; MAX_DESCRIPTORS]) {
            if jobs {
                self.jobs.reset();
            }
        }
    }

    /// One direction as the test sees it.
    struct End {
        jobs: CommandSender<Job>,
        done: Receiver<(usize, ThreadId)>,
        given: usize,
    }

    impl End {
        fn new() -> (Self, Recorder) {
            let (jobs, queue) = command_queue(16).unwrap();
            let (sender, done) = channel();
            let recorder = Recorder {
                jobs: queue,
                done: sender,
                volume: 0,
            };
            let given = 0;
            (Self { jobs, done, given }, recorder)
        }

        /// Has a packet driven and tells by which thread. None is lost or overtaken.
        fn drive(&mut self, bytes: usize) -> ThreadId {
            let number = self.given;
            self.given += 1;
            self.jobs.send(Job::Packet { number, bytes });
            let (found, thread) = self.done.recv_timeout(DEADLINE).unwrap();
            assert_eq!(found, number);
            thread
        }
    }

    struct Gateway {
        outbound: End,
        inbound: End,
        threads: Vec<JoinHandle<()>>,
    }

    impl Gateway {
        fn start(cores: usize) -> Self {
            let ((outbound, out), (inbound, into)) = (End::new(), End::new());
            let threads = start(out, into, cores).unwrap();
            Self {
                outbound,
                inbound,
                threads,
            }
        }

        /// Drives packets of both directions, those inbound of `bytes`, until it is as wanted whether two threads do it.
        fn drive_until(&mut self, bytes: usize, two_threads: bool) {
            let start = Instant::now();
            while (self.inbound.drive(bytes) != self.outbound.drive(64)) != two_threads {
                assert!(
                    start.elapsed() < DEADLINE,
                    "with {bytes} bytes: not {two_threads}"
                );
            }
        }

        fn stop(self) {
            self.inbound.jobs.send(Job::Stop);
            self.outbound.jobs.send(Job::Stop);
            for thread in self.threads {
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn one_thread_drives_both_directions_until_there_is_load_and_when_it_is_over() {
        let mut gateway = Gateway::start(2);
        assert_eq!(gateway.threads.len(), 2);
        assert_eq!(gateway.inbound.drive(64), gateway.outbound.drive(64));
        for _ in 0..3 {
            gateway.drive_until(LOAD_BYTES, true);
            gateway.drive_until(64, false);
        }
        gateway.stop();
    }

    #[test]
    fn the_threads_end_also_while_a_direction_is_lent() {
        let mut gateway = Gateway::start(2);
        gateway.drive_until(LOAD_BYTES, true);
        gateway.stop();
        Gateway::start(2).stop();
    }

    /// Never sleeps, and ends when told so.
    struct Restless {
        end: Receiver<()>,
    }

    impl Direction for Restless {
        fn turn(&mut self) -> Turn {
            match self.end.try_recv() {
                Ok(()) => Turn::End,
                Err(_) => Turn::Busy,
            }
        }

        fn take_volume(&mut self) -> usize {
            LOAD_BYTES
        }

        fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS] {
            [None; MAX_DESCRIPTORS]
        }

        fn patience(&self) -> PollTimeout {
            PollTimeout::NONE
        }

        fn wake(&mut self, _: [bool; MAX_DESCRIPTORS]) {}
    }

    #[test]
    fn what_is_given_back_as_load_begins_anew_is_lent_again_by_a_thread_that_never_sleeps() {
        let (lend, lent) = sync_channel(1);
        let (give_back, returned) = command_queue(1).unwrap();
        let (end, told) = channel();
        let (_outbound, recorder) = End::new();
        give_back.send(Box::new(recorder));
        let first = First {
            inbound: Restless { end: told },
            outbound: None,
            second: Some(Second { lend, returned }),
            load: Arc::new(Load::new()),
        };
        let thread = std::thread::spawn(move || first.run());
        assert!(lent.recv_timeout(DEADLINE).is_ok(), "it was not lent");
        end.send(()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_single_core_has_one_thread_under_load_too() {
        let mut gateway = Gateway::start(1);
        assert_eq!(gateway.threads.len(), 1);
        for _ in 0..100 {
            assert_eq!(
                gateway.inbound.drive(LOAD_BYTES),
                gateway.outbound.drive(LOAD_BYTES)
            );
        }
        gateway.stop();
    }

    #[test]
    fn much_at_once_and_many_turns_without_sleep_are_load() {
        assert!(SinceSleep::default().add(LOAD_BYTES));
        let mut since_sleep = SinceSleep::default();
        assert!((1..LOAD_TURNS).all(|_| !since_sleep.add(64)));
        assert!(since_sleep.add(64));
    }
}
