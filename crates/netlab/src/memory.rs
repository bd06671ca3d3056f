//! Where something stands in the memory of a process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

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

/// What tells a private key from others, in the forms in which it may stand in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateKeyForms {
    /// What a line of its PEM text says of the scalar and of nothing else; JSON escapes nothing in it.
    pub text: Vec<u8>,
    /// The scalar as in DER, most significant byte first (RFC 5915).
    pub scalar: Vec<u8>,
    /// The scalar as a library keeps a number, least significant byte first.
    pub number: Vec<u8>,
}

impl PrivateKeyForms {
    /// Those of an elliptic curve's key in PKCS#8 and PEM.
    ///
    /// # Errors
    /// When `pem` is another kind of key or no PEM.
    pub fn of_elliptic_curve(pem: &str) -> Result<Self> {
        // ECPrivateKey (RFC 5915) begins with version 1 and an octet string.
        const BEFORE: [u8; 4] = [0x02, 0x01, 0x01, 0x04];
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(lines.concat())?;
        let at = der
            .windows(BEFORE.len())
            .position(|window| window == BEFORE)
            .context("the key of an elliptic curve in PKCS#8")?
            + BEFORE.len();
        let from = at + 1;
        let length = usize::from(*der.get(at).context("a length")?);
        let scalar = der.get(from..from + length).context("a whole scalar")?.to_vec();
        // The characters that say nothing else, and of these the most that stand in one line.
        let (first, end) = (from.div_ceil(3) * 4, (from + length) / 3 * 4);
        let mut begin = 0;
        let mut text = "";
        for line in lines {
            let part = line
                .get(first.saturating_sub(begin)..line.len().min(end.saturating_sub(begin)))
                .unwrap_or_default();
            if part.len() > text.len() {
                text = part;
            }
            begin += line.len();
        }
        Ok(Self {
            text: text.into(),
            number: scalar.iter().rev().copied().collect(),
            scalar,
        })
    }
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

    #[test]
    fn forms_of_a_private_key_say_nothing_but_the_scalar() {
        // P-256, the scalar 1, 2, 3 and so on.
        let mut der = hex_bytes("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420");
        let scalar: Vec<u8> = (1..=32).collect();
        der.extend(&scalar);
        der.extend([0xa1; 70]);
        let body = STANDARD.encode(&der);
        let lines: Vec<&str> = [&body[..64], &body[64..128], &body[128..]].to_vec();
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            lines.join("\n")
        );
        let forms = PrivateKeyForms::of_elliptic_curve(&pem).unwrap();
        assert_eq!(forms.scalar, scalar);
        assert_eq!(forms.number, (1..=32).rev().collect::<Vec<u8>>());
        assert_eq!(
            STANDARD.decode(&forms.text).unwrap(),
            (13..=30).collect::<Vec<u8>>()
        );
        assert!(lines[1].as_bytes().starts_with(&forms.text));
        assert!(PrivateKeyForms::of_elliptic_curve(&body[..64]).is_err());
    }

    fn hex_bytes(digits: &str) -> Vec<u8> {
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }
}
