//! SIGTERM and SIGINT as a message.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Calls `tell` at the first SIGTERM or SIGINT. Threads made afterwards do not take these signals.
pub(crate) fn watch(tell: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            match descriptor.read_signal() {
                Ok(Some(_)) => return tell(),
                Ok(None) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return tracing::error!(%error, "signals cannot be read"),
            }
        }
    })?;
    Ok(())
}
