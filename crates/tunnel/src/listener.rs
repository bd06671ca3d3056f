//! The Unix socket: one JSON object per line in each direction (`isthmus_hostplan::tunnel`).

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

/// Longest request.
const MAX_REQUEST: u64 = 256 << 20;
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
    let mut reader = BufReader::new(stream);
    loop {
        // Plans carry keys.
        let mut line = Zeroizing::new(String::new());
        if reader.by_ref().take(MAX_REQUEST).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let request = match serde_json::from_str::<TunnelRequest>(&line) {
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
