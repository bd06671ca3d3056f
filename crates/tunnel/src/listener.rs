//! The Unix socket: one JSON object per line in each direction (`isthmus_hostplan::tunnel`).

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::{Zeroize, Zeroizing};

/// Longest request.
const MAX_REQUEST: usize = 256 << 20;
/// Bytes of the buffer for requests at first.
const FIRST_BUFFER: usize = 16 << 10;
/// Replies that may wait for a slow reader.
const REPLIES: usize = 4;
/// How often a silent watcher is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A request, and where its replies go.
pub(crate) struct Asked {
    pub(crate) request: TunnelRequest,
    pub(crate) replies: SyncSender<TunnelReply>,
}

/// Accepts clients for as long as the process lives, and hands each request to `ask`.
pub(crate) fn listen(path: &Path, ask: impl Fn(Asked) + Clone + Send + 'static) -> io::Result<()> {
    // A socket that a dead process left behind.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    thread::Builder::new().name("listen".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            let served = stream.and_then(|stream| {
                let ask = ask.clone();
                thread::Builder::new().name("client".to_owned()).spawn(move || {
                    if let Err(error) = serve(&stream, ask) {
                        tracing::debug!(%error, "a client's stream ended");
                    }
                })
            });
            if let Err(error) = served {
                tracing::warn!(%error, "a client was not served");
                thread::sleep(Duration::from_millis(100));
            }
        }
    })?;
    Ok(())
}

fn serve(stream: &UnixStream, ask: impl Fn(Asked)) -> io::Result<()> {
    let mut lines = Lines::new(stream);
    while let Some(line) = lines.next_line()? {
        let request = match serde_json::from_slice::<TunnelRequest>(&line) {
            Ok(request) => request,
            Err(error) => {
                write(
                    stream,
                    &TunnelReply::Refused {
                        reason: format!("not a request: line {}, column {}", error.line(), error.column()),
                    },
                )?;
                continue;
            }
        };
        let watches = matches!(request, TunnelRequest::Watch);
        let (replies, received) = sync_channel(REPLIES);
        ask(Asked { request, replies });
        if watches {
            return relay(stream, &received);
        }
        match received.recv() {
            Ok(reply) => write(stream, &reply)?,
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// The lines of a stream. Plans carry keys: whatever has held a part of a line is erased.
struct Lines<R> {
    stream: R,
    buffer: Zeroizing<Vec<u8>>,
    /// Bytes at the start of the buffer that were read.
    held: usize,
}

impl<R: Read> Lines<R> {
    fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: Zeroizing::new(vec![0; FIRST_BUFFER]),
            held: 0,
        }
    }

    /// The next line without its end, or what was left at the end of the stream.
    fn next_line(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut searched = 0;
        loop {
            let end = self.buffer[searched..self.held]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = end {
                return Ok(Some(self.take(searched + end, 1)));
            }
            searched = self.held;
            if self.held == self.buffer.len() {
                self.grow()?;
            }
            match self.stream.read(&mut self.buffer[self.held..]) {
                Ok(0) if self.held == 0 => return Ok(None),
                Ok(0) => return Ok(Some(self.take(self.held, 0))),
                Ok(count) => self.held += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves `length` bytes out of the buffer, and drops `end` more.
    fn take(&mut self, length: usize, end: usize) -> Zeroizing<Vec<u8>> {
        let line = Zeroizing::new(self.buffer[..length].to_vec());
        self.buffer.copy_within(length + end..self.held, 0);
        let left = self.held - length - end;
        self.buffer[left..self.held].zeroize();
        self.held = left;
        line
    }

    /// A vector that grows leaves behind what it has held.
    fn grow(&mut self) -> io::Result<()> {
        if self.buffer.len() >= MAX_REQUEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the request is too long",
            ));
        }
        let mut larger = Zeroizing::new(vec![0; 2 * self.buffer.len()]);
        larger[..self.held].copy_from_slice(&self.buffer[..self.held]);
        self.buffer = larger;
        Ok(())
    }
}

/// Passes reports on until the client goes.
fn relay(stream: &UnixStream, reports: &Receiver<TunnelReply>) -> io::Result<()> {
    loop {
        match reports.recv_timeout(LOOK) {
            Ok(report) => write(stream, &report)?,
            Err(RecvTimeoutError::Timeout) if is_gone(stream) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn write(mut stream: &UnixStream, reply: &TunnelReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn is_gone(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLHUP)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn lines_come_whole_however_they_arrive_and_leave_nothing_in_the_buffer() {
        let long = "x".repeat(3 * FIRST_BUFFER);
        let text = format!("first\n\n{long}\nlast without an end");
        for at_a_time in [1, 7, FIRST_BUFFER, usize::MAX] {
            let mut lines = Lines::new(Slow(text.as_bytes(), at_a_time));
            for expected in ["first", "", &long, "last without an end"] {
                let line = lines.next_line().unwrap().expect("there is one more");
                assert_eq!(line.as_slice(), expected.as_bytes());
                assert!(lines.buffer[lines.held..].iter().all(|byte| *byte == 0));
            }
            assert_eq!(lines.next_line().unwrap(), None);
            assert_eq!(lines.held, 0);
        }
    }
}
