//! One HTTP document from one instance to another.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::End;

/// How long connecting, and any silence on the connection, may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// A fetched document.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    from: Ipv4Addr,
    to: SocketAddr,
    bytes: usize,
    took: Duration,
    /// Address that the server saw.
    pub seen: IpAddr,
}

impl fmt::Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        write!(
            f,
            "{} fetched http://{}/: 200 OK, {} bytes in {:.1} ms",
            self.from,
            self.to,
            self.bytes,
            seconds * 1000.0
        )
    }
}

/// Serves a document of `size` bytes at `to`, fetches it from `from`, and compares every byte.
pub fn run(from: &End, to: &End, size: usize) -> anyhow::Result<Fetched> {
    let listener = to
        .namespace
        .run(|| TcpListener::bind((to.address, 0)))?
        .with_context(|| format!("nothing can be served at {}", to.address))?;
    let target = listener.local_addr().context("the server has no address")?;
    thread::scope(|scope| {
        let server = scope.spawn(move || serve(&listener, size));
        let begin = Instant::now();
        let fetched = from
            .namespace
            .run(|| TcpStream::connect_timeout(&target, PATIENCE))?
            .with_context(|| format!("{} cannot connect to {target}", from.address))
            .and_then(|stream| fetch(stream, target, size));
        let took = begin.elapsed();
        if let Err(error) = fetched {
            // The server still waits if no connection reached it.
            let _ = to.namespace.run(|| TcpStream::connect_timeout(&target, PATIENCE));
            return Err(error);
        }
        let seen = server
            .join()
            .map_err(|_| anyhow::anyhow!("the server panicked"))??;
        Ok(Fetched {
            from: from.address,
            to: target,
            bytes: size,
            took,
            seen,
        })
    })
}

fn serve(listener: &TcpListener, size: usize) -> anyhow::Result<IpAddr> {
    let (mut stream, peer) = listener.accept().context("the server accepts no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = BufReader::new(stream.try_clone()?).take(8192);
    let mut line = String::new();
    request
        .read_line(&mut line)
        .context("the server was sent no request")?;
    ensure!(line.starts_with("GET / HTTP/1.1"), "the server was sent {line:?}");
    while line.trim_end() != "" {
        line.clear();
        ensure!(
            request.read_line(&mut line)? > 0,
            "the server was sent half a request"
        );
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n"
    )?;
    let mut at = 0;
    while at < size {
        let piece = document(at, (size - at).min(1 << 16));
        stream.write_all(&piece).context("the server cannot send")?;
        at += piece.len();
    }
    Ok(peer.ip())
}

fn fetch(mut stream: TcpStream, target: SocketAddr, size: usize) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = BufReader::with_capacity(1 << 16, stream);
    let mut line = String::new();
    answer.read_line(&mut line).context("no answer came")?;
    ensure!(line.starts_with("HTTP/1.1 200 "), "the answer was {line:?}");
    while line.trim_end() != "" {
        line.clear();
        ensure!(answer.read_line(&mut line)? > 0, "the answer ended in its head");
    }
    let mut at = 0;
    loop {
        let piece = answer
            .fill_buf()
            .with_context(|| format!("the answer broke off after {at} bytes"))?;
        if piece.is_empty() {
            break;
        }
        let length = piece.len();
        if piece != document(at, length) {
            bail!("the answer differs from what was sent after {at} bytes");
        }
        at += length;
        answer.consume(length);
    }
    ensure!(at == size, "{at} of {size} bytes arrived");
    Ok(())
}

// Differs from place to place, so that a lost, repeated or misplaced segment shows.
fn document(at: usize, length: usize) -> Vec<u8> {
    (at..at + length)
        .map(|index| (index % 65_521 % 256) as u8)
        .collect()
}

#[cfg(test)]
mod tests {
    use isthmus_netlink::namespace::Namespace;

    use super::*;

    #[test]
    fn document_arrives_whole() {
        let here = || End {
            address: Ipv4Addr::LOCALHOST,
            namespace: Namespace::current().unwrap(),
        };
        let fetched = run(&here(), &here(), 1_000_003).unwrap();
        assert_eq!(fetched.seen, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert!(fetched.to_string().contains("200 OK, 1000003 bytes"));
    }
}
