//! A TCP stream of known bytes, checked to the last one.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::node::Node;
use crate::patience::stretched;

const CHUNK: usize = 1 << 16;
const STALLED: Duration = Duration::from_secs(15);

/// Sends `bytes` bytes by one TCP connection from `from` to `to`, which holds `address`, and compares each of them.
/// Tells how long it took from the connection's start to the last byte's arrival.
///
/// # Errors
/// When the connection cannot be made, stalls for 15 s, or brings other bytes.
pub fn transfer(from: &Node, to: &Node, address: impl Into<IpAddr>, bytes: u64) -> Result<Duration> {
    let address = address.into();
    let listener = to.run(|| TcpListener::bind((address, 0)))??;
    let port = listener.local_addr()?.port();
    let patience = stretched(STALLED);
    let start = Instant::now();
    let mut sender = from.run(|| TcpStream::connect_timeout(&(address, port).into(), patience))??;
    sender.set_write_timeout(Some(patience))?;
    // The connection is in the queue: connecting has succeeded.
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(patience))?;
    thread::scope(|scope| {
        let writing = scope.spawn(move || -> Result<()> {
            let mut chunk = vec![0; CHUNK];
            let mut position = 0;
            while position < bytes {
                let length = chunk_length(bytes - position);
                fill(&mut chunk[..length], position);
                sender.write_all(&chunk[..length])?;
                position += length as u64;
            }
            sender.shutdown(Shutdown::Write)?;
            Ok(())
        });
        let reading = read_all(&mut receiver, bytes);
        drop(receiver);
        let written = writing
            .join()
            .unwrap_or_else(|payload| std::panic::resume_unwind(payload));
        reading.and(written)
    })?;
    Ok(start.elapsed())
}

fn read_all(receiver: &mut TcpStream, bytes: u64) -> Result<()> {
    let mut expected = vec![0; CHUNK];
    let mut found = vec![0; CHUNK];
    let mut position = 0;
    while position < bytes {
        let length = chunk_length(bytes - position);
        fill(&mut expected[..length], position);
        if let Err(error) = receiver.read_exact(&mut found[..length]) {
            bail!("after {position} of {bytes} bytes: {error}");
        }
        ensure!(
            found[..length] == expected[..length],
            "other bytes than sent, near byte {position}"
        );
        position += length as u64;
    }
    ensure!(receiver.read(&mut found)? == 0, "more bytes than sent");
    Ok(())
}

fn chunk_length(left: u64) -> usize {
    usize::try_from(left).unwrap_or(CHUNK).min(CHUNK)
}

/// Bytes that depend on their position, so that a lost or repeated piece of any size shows.
fn fill(chunk: &mut [u8], position: u64) {
    for (index, word) in chunk.chunks_mut(8).enumerate() {
        let value = (position / 8 + index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let length = word.len();
        word.copy_from_slice(&value.to_le_bytes()[..length]);
    }
}
