//! What one TCP connection carries from one instance to another.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::End;

/// How long connecting, and any silence on the connection, may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes handed to the kernel at once.
const PIECE: usize = 256 * 1024;

/// A measured transfer.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    from: Ipv4Addr,
    to: Ipv4Addr,
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the first to the last byte at the receiver.
    pub took: Duration,
}

impl Measured {
    /// Gigabits of TCP data per second, at the receiver.
    pub fn gigabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.took.as_secs_f64().max(1e-9) / 1e9
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (megabytes, seconds) = (self.bytes as f64 / 1e6, self.took.as_secs_f64());
        let rate = self.gigabits_per_second();
        write!(
            f,
            "{} to {}: {megabytes:.0} MB in {seconds:.1} s, {rate:.2} Gbit/s",
            self.from, self.to
        )
    }
}

/// Sends for `duration`.
pub fn run(from: &End, to: &End, duration: Duration) -> anyhow::Result<Measured> {
    let listener = to
        .namespace
        .run(|| TcpListener::bind((to.address, 0)))?
        .with_context(|| format!("nothing can be received at {}", to.address))?;
    let target = listener.local_addr().context("the receiver has no address")?;
    let sender = from
        .namespace
        .run(|| TcpStream::connect_timeout(&target, PATIENCE))?
        .with_context(|| format!("{} cannot connect to {target}", from.address))?;
    let (receiver, _) = listener.accept().context("the receiver accepts no connection")?;
    sender.set_write_timeout(Some(PATIENCE))?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    thread::scope(|scope| {
        let sending = scope.spawn(move || send(sender, duration));
        let (bytes, took) = receive(receiver)?;
        sending
            .join()
            .map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        Ok(Measured {
            from: from.address,
            to: to.address,
            bytes,
            took,
        })
    })
}

fn send(mut stream: TcpStream, duration: Duration) -> anyhow::Result<()> {
    let piece = vec![0; PIECE];
    let deadline = Instant::now() + duration;
    while Instant::now() < deadline {
        stream.write_all(&piece).context("the sender is stuck")?;
    }
    Ok(())
}

fn receive(mut stream: TcpStream) -> anyhow::Result<(u64, Duration)> {
    let mut buffer = vec![0; PIECE];
    let mut bytes = 0;
    let mut first = None;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                first.get_or_insert_with(Instant::now);
                bytes += length as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(error).with_context(|| format!("nothing more arrived after {bytes} bytes"));
            }
        }
    }
    Ok((bytes, first.map(|first| first.elapsed()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use isthmus_netlink::namespace::Namespace;

    use super::*;

    #[test]
    fn everything_sent_is_counted() {
        let here = || End {
            address: Ipv4Addr::LOCALHOST,
            namespace: Namespace::current().unwrap(),
        };
        let measured = run(&here(), &here(), Duration::from_millis(50)).unwrap();
        assert!(measured.bytes > 0 && measured.bytes.is_multiple_of(PIECE as u64));
        assert!(measured.gigabits_per_second() > 0.0);
    }
}
