//! Where something stands in the memory of a process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// How often each of `wanted` stands in what the process has mapped and may read or write: heap, stacks, static data and
/// anonymous mappings, but not what it has mapped of its own program and libraries.
///
/// # Errors
/// When there is no such process, or we may not look into it.
pub fn occurrences(pid: u32, wanted: &[&[u8]]) -> Result<Vec<usize>> {
    let memory =
        File::open(format!("/proc/{pid}/mem")).with_context(|| format!("the memory of process {pid}"))?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let overlap = wanted
        .iter()
        .map(|pattern| pattern.len())
        .max()
        .unwrap_or(0)
        .max(1)
        - 1;
    let mut found = vec![0; wanted.len()];
    let mut bytes = vec![0; CHUNK + overlap];
    for (from, to) in maps.lines().filter_map(writable) {
        let mut at = from;
        while at < to {
            let length = usize::try_from(to - at)?.min(bytes.len());
            // What cannot be read, such as a guard page, holds nothing.
            let Ok(read) = memory.read_at(&mut bytes[..length], at) else {
                break;
            };
            for (pattern, times) in wanted.iter().zip(&mut found) {
                // One that begins in the overlap belongs to the next chunk.
                *times += starts(&bytes[..read], pattern)
                    .filter(|start| *start < CHUNK || at + read as u64 == to)
                    .count();
            }
            if read <= CHUNK {
                break;
            }
            at += CHUNK as u64;
        }
    }
    Ok(found)
}

/// The range of a line of `/proc/PID/maps` whose memory can be written to.
fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split_whitespace();
    let (from, to) = words.next()?.split_once('-')?;
    let may_write = words.next()?.starts_with("rw");
    let address = |text| u64::from_str_radix(text, 16).ok();
    may_write.then_some((address(from)?, address(to)?))
}

fn starts<'a>(bytes: &'a [u8], pattern: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = pattern.first().copied().unwrap_or_default();
    bytes
        .iter()
        .enumerate()
        .filter(move |(at, byte)| **byte == first && bytes[*at..].starts_with(pattern))
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_counted_once_also_across_chunks() {
        let pattern = b"a pattern that stands nowhere else by itself";
        let mut held = vec![0_u8; 4 * CHUNK];
        for at in [0, CHUNK - 7, 2 * CHUNK, held.len() - pattern.len()] {
            held[at..at + pattern.len()].copy_from_slice(pattern);
        }
        // A large allocation is a mapping of its own, or stands in one: wherever its chunks begin.
        for shift in 0..3 {
            held.rotate_right(shift * 1000);
            let found = occurrences(std::process::id(), &[pattern, b"nowhere, as it is asked for"]).unwrap();
            assert!(found[0] >= 4, "{found:?}");
        }
    }
}
