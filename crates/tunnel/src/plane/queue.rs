//! A bounded queue of commands that also wakes a thread out of `poll`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::sys::eventfd::{EfdFlags, EventFd};

pub(super) struct CommandSender<T> {
    queue: SyncSender<T>,
    wake: Arc<EventFd>,
}

pub(super) struct CommandReceiver<T> {
    queue: Receiver<T>,
    wake: Arc<EventFd>,
}

pub(super) fn command_queue<T>(length: usize) -> io::Result<(CommandSender<T>, CommandReceiver<T>)> {
    let wake = Arc::new(EventFd::from_flags(
        EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC,
    )?);
    let (sender, receiver) = sync_channel(length);
    Ok((
        CommandSender {
            queue: sender,
            wake: Arc::clone(&wake),
        },
        CommandReceiver {
            queue: receiver,
            wake,
        },
    ))
}

impl<T> CommandSender<T> {
    /// Waits while the queue is full. A thread that has ended takes no more commands, and none is missed.
    pub(super) fn send(&self, command: T) {
        if self.queue.send(command).is_ok() {
            // Fails only if the counter would overflow: then the thread is awake anyway.
            let _ = self.wake.write(1);
        }
    }
}

impl<T> CommandReceiver<T> {
    /// The next command, if one waits. None also when the sender is gone.
    pub(super) fn next(&self) -> Option<T> {
        self.queue.try_recv().ok()
    }

    /// Forgets that it was woken; to be called before the queue is looked at.
    pub(super) fn reset(&self) {
        // Nothing to read means nothing to forget.
        let _ = self.wake.read();
    }
}

impl<T> AsFd for CommandReceiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
