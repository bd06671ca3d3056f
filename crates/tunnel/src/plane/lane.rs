//! More threads for one direction of a gateway: each has SAs of its own, and is given the packets that are for them.
//!
//! One thread goes on reading for all, which costs it a fraction of what sealing or opening does, so the packets of one
//! SA stay in order. A full buffer changes hands against an empty one: nothing is copied, allocated or locked, and only a
//! thread that sleeps has to be woken. Commands come through the same queue as packets, so none overtakes another.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;

/// Buffers of a lane. When all are full the reader waits: what cannot be worked off shall pile up where the kernel bounds
/// it.
const BUFFERS: usize = 16;
/// Room for them all, the end of the lane, and commands that are given meanwhile.
const QUEUE: usize = 4 * BUFFERS;

/// What a lane's thread does.
pub(super) trait Work: Send + 'static {
    /// What it may be told.
    type Command: Send;
    /// What it is told of a buffer.
    type Contents: Send;

    /// Follows a command.
    fn execute(&mut self, command: Self::Command);

    /// Works off what is in a buffer.
    fn take(&mut self, buffer: &mut [u8], contents: Self::Contents);

    /// Finishes what it has begun: nothing more waits.
    fn pause(&mut self);
}

enum Message<W: Work> {
    Command(W::Command),
    Packets(Box<[u8]>, W::Contents),
    End,
}

/// A thread of its own for some SAs of one direction. Dropping it ends the thread when it has done what it was given.
pub(super) struct Lane<W: Work> {
    queue: SyncSender<Message<W>>,
    empty: Receiver<Box<[u8]>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Work> Lane<W> {
    /// Starts a thread named `name`; its buffers have `buffer_len` bytes.
    ///
    /// # Errors
    /// Those of making a thread.
    pub(super) fn start(name: &str, buffer_len: usize, work: W) -> io::Result<Self> {
        let (queue, messages) = sync_channel(QUEUE);
        let (returns, empty) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for as many.
            let _ = returns.try_send(vec![0; buffer_len].into_boxed_slice());
        }
        let thread = super::spawn(name, move || run(work, &messages, &returns))?;
        Ok(Self {
            queue,
            empty,
            thread: Some(thread),
        })
    }

    /// Gives a command, to be followed after the packets that were given before.
    pub(super) fn command(&self, command: W::Command) {
        self.send(Message::Command(command));
    }

    /// Gives what is in `buffer`, which becomes an empty one. Waits while the lane has all its buffers full.
    pub(super) fn give(&self, buffer: &mut Box<[u8]>, contents: W::Contents) {
        if let Ok(empty) = self.empty.recv() {
            self.send(Message::Packets(std::mem::replace(buffer, empty), contents));
        }
    }

    /// Gives what `fill` puts into an empty buffer. Waits as [`Lane::give`] does.
    pub(super) fn give_copy(&self, fill: impl FnOnce(&mut [u8]) -> W::Contents) {
        if let Ok(mut buffer) = self.empty.recv() {
            let contents = fill(&mut buffer);
            self.send(Message::Packets(buffer, contents));
        }
    }

    fn send(&self, message: Message<W>) {
        // A thread that has panicked takes nothing more; its end is reported when it is joined.
        let _ = self.queue.send(message);
    }
}

impl<W: Work> Drop for Lane<W> {
    fn drop(&mut self) {
        self.send(Message::End);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a packet thread panicked");
        }
    }
}

fn run<W: Work>(mut work: W, messages: &Receiver<Message<W>>, returns: &SyncSender<Box<[u8]>>) {
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                work.pause();
                match messages.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
        };
        match message {
            Message::Command(command) => work.execute(command),
            Message::Packets(mut buffer, contents) => {
                work.take(&mut buffer, contents);
                // There is room for all that there are.
                let _ = returns.try_send(buffer);
            }
            Message::End => return work.pause(),
        }
    }
}

/// The lanes of one direction beside the reader's own, which is the first.
pub(super) struct Lanes<W: Work> {
    name: &'static str,
    buffer_len: usize,
    // The place of a lane is its number less one; they start when they are first needed.
    lanes: Vec<Option<Lane<W>>>,
}

impl<W: Work> Lanes<W> {
    /// At most `count` lanes together with the reader's own, whose thread is named `name`.
    pub(super) fn new(name: &'static str, count: usize, buffer_len: usize) -> Self {
        Self {
            name,
            buffer_len,
            lanes: (1..count).map(|_| None).collect(),
        }
    }

    /// The lane that the SAs with the mark `lane` are in; zero is the reader's own. `work` is for a new thread.
    pub(super) fn place(&mut self, lane: u8, work: impl FnOnce() -> W) -> usize {
        let number = usize::from(lane) % (self.lanes.len() + 1);
        let Some(place) = number.checked_sub(1).and_then(|index| self.lanes.get_mut(index)) else {
            return 0;
        };
        if place.is_none() {
            match Lane::start(&format!("{}-{number}", self.name), self.buffer_len, work()) {
                Ok(lane) => *place = Some(lane),
                Err(error) => {
                    tracing::warn!(%error, "no thread for a lane: the first one does its work");
                    return 0;
                }
            }
        }
        number
    }

    /// The lane with this number, unless it is the reader's own.
    pub(super) fn lane(&self, number: usize) -> Option<&Lane<W>> {
        self.lanes.get(number.checked_sub(1)?)?.as_ref()
    }

    /// Gives every lane that runs a command.
    pub(super) fn command_all(&self, command: impl Fn() -> W::Command) {
        for lane in self.lanes.iter().flatten() {
            lane.command(command());
        }
    }

    /// Ends the threads.
    pub(super) fn end(&mut self) {
        self.lanes.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Recorder(Sender<String>);

    impl Work for Recorder {
        type Command = u32;
        type Contents = usize;

        fn execute(&mut self, command: u32) {
            self.0.send(format!("command {command}")).unwrap();
        }

        fn take(&mut self, buffer: &mut [u8], contents: usize) {
            self.0.send(format!("{} of {contents}", buffer[0])).unwrap();
        }

        fn pause(&mut self) {
            self.0.send("pause".to_owned()).unwrap();
        }
    }

    #[test]
    fn packets_and_commands_are_worked_off_in_the_order_given_and_all_of_them_before_the_end() {
        let (sender, receiver) = channel();
        let lane = Lane::start("recorder", 8, Recorder(sender)).unwrap();
        let mut expected = Vec::new();
        let mut buffer = vec![0; 8].into_boxed_slice();
        for number in 0..200u8 {
            buffer[0] = number;
            lane.give(&mut buffer, 1);
            lane.give_copy(|copy| {
                copy[0] = number;
                2
            });
            lane.command(number.into());
            expected.extend([
                format!("{number} of 1"),
                format!("{number} of 2"),
                format!("command {number}"),
            ]);
        }
        drop(lane);
        let mut found: Vec<String> = receiver.iter().collect();
        assert_eq!(found.last().unwrap(), "pause");
        found.retain(|what| what != "pause");
        assert_eq!(found, expected);
    }

    #[test]
    fn marks_are_dealt_out_over_the_lanes_and_threads_start_when_needed() {
        let (sender, receiver) = channel();
        let mut lanes = Lanes::new("recorder", 3, 8);
        let started = std::cell::Cell::new(0);
        let places: Vec<usize> = (0..7)
            .map(|mark| {
                lanes.place(mark, || {
                    started.set(started.get() + 1);
                    Recorder(sender.clone())
                })
            })
            .collect();
        assert_eq!(places, [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(started.get(), 2);
        assert!(lanes.lane(0).is_none() && lanes.lane(1).is_some() && lanes.lane(3).is_none());
        lanes.command_all(|| 5);
        lanes.end();
        drop(sender);
        assert_eq!(receiver.iter().filter(|what| what == "command 5").count(), 2);
        let mut alone = Lanes::<Recorder>::new("recorder", 1, 8);
        assert_eq!(alone.place(9, || unreachable!("there is no other lane")), 0);
    }
}
