//! Records strongSwan with its keys: two of Debian stable's daemons set up a tunnel in namespaces of their own, use it, replace
//! its SAs and delete it, while every packet between them and every secret that the initiator logs is written to a
//! file. `cargo run -p isthmus-netlab --example record -- DIRECTORY` makes the files anew that
//! `crates/ike/tests/recordings` holds; it needs root.
//!
//! A file has one fact a line: a word, then values. `packet SOURCE DESTINATION PAYLOAD` is a UDP datagram with ports
//! and its payload in hexadecimal, `child INBOUND OUTBOUND` are the initiator's SPIs of a Child SA, `log LABEL VALUE` is a
//! value that strongSwan logged; each kind is in order.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use isthmus_netlab::patience::{eventually, holds};
use isthmus_netlab::strongswan::SwanIkeSa;
use isthmus_netlab::{Capture, Ping, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions};
use isthmus_types::IkeVersion;

/// What the tests compare, as strongSwan names it, and the word for it in a file.
const WANTED: &[(&str, &str)] = &[
    ("shared Diffie Hellman secret", "secret"),
    ("SKEYSEED", "seed"),
    ("Sk_d secret", "derive"),
    ("Sk_ai secret", "integrity-initiator"),
    ("Sk_ar secret", "integrity-responder"),
    ("Sk_ei secret", "encryption-initiator"),
    ("Sk_er secret", "encryption-responder"),
    ("Sk_pi secret", "prove-initiator"),
    ("Sk_pr secret", "prove-responder"),
    ("AUTH = prf(prf(secret, keypad), octets)", "proof"),
    ("SKEYID", "skeyid"),
    ("SKEYID_d", "skeyid-derive"),
    ("SKEYID_a", "skeyid-authenticate"),
    ("SKEYID_e", "skeyid-encrypt"),
    ("encryption key Ka", "phase-1-key"),
    ("initial IV", "phase-1-iv"),
    ("HASH_I", "proof"),
    ("HASH_R", "proof"),
    ("Hash(1)", "hash"),
    ("Hash(2)", "hash"),
    ("Hash(3)", "hash"),
    ("Hash", "hash"),
    ("DH secret", "child-secret"),
    ("encryption initiator key", "child-encryption-initiator"),
    ("encryption responder key", "child-encryption-responder"),
    ("integrity initiator key", "child-integrity-initiator"),
    ("integrity responder key", "child-integrity-responder"),
];

const KEY: &str = "a key that is in no use but here";
/// Echo requests over each Child SA.
const FEW: u64 = 2;
const PACE: Duration = Duration::from_millis(5);
const IPV4_HEADER: usize = 20;
const UDP: u8 = 17;

/// One tunnel to record.
struct Tunnel {
    file: &'static str,
    version: IkeVersion,
    ike: &'static str,
    esp: &'static str,
    /// What the initiator replaces, in this order.
    rekeys: &'static [Rekey],
}

#[derive(Clone, Copy)]
enum Rekey {
    Child,
    Ike,
}

const TUNNELS: &[Tunnel] = &[
    Tunnel {
        file: "ikev2-aes256gcm16-ecp256.txt",
        version: IkeVersion::V2,
        ike: "aes256gcm16-prfsha256-ecp256",
        esp: "aes256gcm16-ecp256",
        rekeys: &[],
    },
    Tunnel {
        file: "ikev2-aes128-sha256-modp2048.txt",
        version: IkeVersion::V2,
        ike: "aes128-sha256-prfsha256-modp2048",
        esp: "aes128-sha256-modp2048",
        rekeys: &[Rekey::Child, Rekey::Ike, Rekey::Child],
    },
    Tunnel {
        file: "ikev2-chacha20-x25519.txt",
        version: IkeVersion::V2,
        ike: "chacha20poly1305-prfsha512-x25519",
        esp: "chacha20poly1305",
        rekeys: &[Rekey::Child],
    },
    Tunnel {
        file: "ikev1-aes128-sha1-modp1024.txt",
        version: IkeVersion::V1,
        ike: "aes128-sha1-prfsha1-modp1024",
        esp: "aes128-sha1",
        rekeys: &[Rekey::Child],
    },
    Tunnel {
        file: "ikev1-aes128-sha1-modp2048-pfs.txt",
        version: IkeVersion::V1,
        ike: "aes128-sha1-prfsha1-modp2048",
        esp: "aes128-sha1-modp2048",
        rekeys: &[Rekey::Child],
    },
    // The key of the cipher is longer than the output of the PRF: it is made in two steps.
    Tunnel {
        file: "ikev1-aes256-sha1-modp1024-pfs.txt",
        version: IkeVersion::V1,
        ike: "aes256-sha1-prfsha1-modp1024",
        esp: "aes256-sha1-modp1024",
        rekeys: &[],
    },
];

fn main() -> Result<()> {
    let directory = env::args().nth(1).context("usage: record DIRECTORY")?;
    for tunnel in TUNNELS {
        let text = record(tunnel).with_context(|| format!("recording {}", tunnel.file))?;
        fs::write(Path::new(&directory).join(tunnel.file), text)?;
    }
    Ok(())
}

fn record(tunnel: &Tunnel) -> Result<String> {
    let sites = TwoSites::new(TwoSitesOptions::default())?;
    let (left, right) = (&sites.left, &sites.right);
    let connection = |here, there| SwanConnection {
        version: tunnel.version,
        ..SwanConnection::between(here, there, KEY, tunnel.ike, tunnel.esp)
    };
    let responder = StrongSwan::start(&right.gateway, connection(right, left))?;
    let initiator = StrongSwan::start_revealing(&left.gateway, connection(left, right))?;
    let capture = Capture::start(&sites.internet)?;
    let ping = || -> Result<()> {
        let count = Ping::exactly(&left.hosts[0].node, right.hosts[0].address, PACE, FEW)?;
        ensure!(count.lost() == 0, "lost pings: {count:?}");
        Ok(())
    };
    initiator.initiate()?;
    let mut sa = settled(&initiator, &responder, |_| true)?;
    let mut children = vec![sa.children[0].clone()];
    ping()?;
    for rekey in tunnel.rekeys {
        sa = match rekey {
            Rekey::Child => {
                initiator.rekey_child()?;
                let before = sa.children[0].inbound_spi.clone();
                let now = settled(&initiator, &responder, |now| {
                    now.children[0].inbound_spi != before
                })?;
                children.push(now.children[0].clone());
                now
            }
            Rekey::Ike => {
                initiator.rekey_ike()?;
                let before = sa.initiator_spi.clone();
                settled(&initiator, &responder, |now| now.initiator_spi != before)?
            }
        };
        ping()?;
    }
    initiator.terminate()?;
    responder.wait_for_none()?;
    let packets = capture.finish()?;
    let log = initiator.log();
    let release = log
        .split_once("(strongSwan ")
        .and_then(|(_, rest)| rest.split_once(','))
        .map_or("of an unknown release", |(release, _)| release);
    let mut text = format!(
        "# Two daemons of strongSwan {release}, recorded by crates/netlab/examples/record.rs.\n\
         ike {}\nesp {}\npsk {KEY}\ninitiator {}\nresponder {}\n",
        tunnel.ike, tunnel.esp, left.address, right.address
    );
    for packet in &packets {
        let (source, destination, payload) = udp(packet)?;
        writeln!(text, "packet {source} {destination} {}", hex(payload))?;
    }
    for child in &children {
        writeln!(text, "child {} {}", child.inbound_spi, child.outbound_spi)?;
    }
    for (label, value) in logged(&log) {
        if let Some((_, word)) = WANTED.iter().find(|(wanted, _)| *wanted == label) {
            writeln!(text, "log {word} {}", hex(&value))?;
        }
    }
    Ok(text)
}

/// Waits until both have one IKE SA with one Child SA that is as wanted.
fn settled(
    initiator: &StrongSwan,
    responder: &StrongSwan,
    wanted: impl Fn(&SwanIkeSa) -> bool,
) -> Result<SwanIkeSa> {
    eventually("SAs at rest", || {
        let (ours, theirs) = (initiator.settled_with(1)?, responder.settled_with(1)?);
        holds(
            wanted(&ours) && ours.children[0].inbound_spi == theirs.children[0].outbound_spi,
            || format!("they have {ours:?} and {theirs:?}"),
        )?;
        Ok(ours)
    })
}

/// Ends and payload of a UDP datagram.
fn udp(packet: &[u8]) -> Result<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let (ip, datagram) = packet.split_at_checked(IPV4_HEADER).context("no IPv4 header")?;
    ensure!(
        ip[0] == 0x45 && ip[9] == UDP,
        "no UDP over plain IPv4: {}",
        hex(packet)
    );
    ensure!(u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff == 0, "a fragment");
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let (header, payload) = datagram
        .get(..total - IPV4_HEADER)
        .and_then(|datagram| datagram.split_at_checked(8))
        .context("no UDP header")?;
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    Ok((
        SocketAddrV4::new(address(12), port(0)),
        SocketAddrV4::new(address(16), port(2)),
        payload,
    ))
}

/// The values that the IKE and Child SA parts log, in order: a label, then lines of up to 16 bytes in hexadecimal and as text.
fn logged(log: &str) -> Vec<(String, Vec<u8>)> {
    let mut values: Vec<(String, Vec<u8>)> = Vec::new();
    let mut wanted = 0;
    for line in log.lines() {
        let Some((_, said)) = line.split_once("[IKE] ").or_else(|| line.split_once("[CHD] ")) else {
            continue;
        };
        if let Some((label, rest)) = said.split_once(" => ") {
            wanted = rest
                .split_once(" bytes @ ")
                .and_then(|(count, _)| count.parse().ok())
                .unwrap_or(0);
            if wanted > 0 {
                values.push((label.trim().to_owned(), Vec::with_capacity(wanted)));
            }
        } else if let (Some((_, bytes)), Some((_, value))) = (said.split_once(": "), values.last_mut()) {
            let more = bytes
                .split(' ')
                .map_while(|word| (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())?)
                .take((wanted - value.len()).min(16));
            value.extend(more);
        }
    }
    values
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
