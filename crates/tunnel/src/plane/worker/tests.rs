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
        [Some(self.jobs.as_fd()), None, None, None, None]
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
        answers: Answers::new(Instant::now()),
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
