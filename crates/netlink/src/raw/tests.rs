use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::namespace;

struct Scratch(String);

impl Scratch {
    /// A namespace of its own, whose loopback device is up.
    fn new(mark: &str) -> Self {
        let name = format!("espraw-{mark}-{}", std::process::id());
        namespace::create(&name).unwrap();
        let up = std::process::Command::new("ip")
            .args(["-n", &name, "link", "set", "lo", "up"])
            .status()
            .unwrap();
        assert!(up.success());
        Self(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = namespace::remove(&self.0);
    }
}

fn wait(socket: &impl AsFd) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    assert_eq!(
        poll(&mut fds, PollTimeout::from(5000u16)).unwrap(),
        1,
        "nothing arrived"
    );
}

/// A loopback device gives what is sent to the sender's own address back to it.
#[test]
fn a_batch_arrives_packet_by_packet_without_its_ip_headers() {
    let scratch = Scratch::new("batch");
    namespace::run(&scratch.0, || {
        for local in ["127.0.0.1", "::1"] {
            let local: IpAddr = local.parse().unwrap();
            let socket = EspSocket::bind(local).unwrap();
            assert_eq!(socket.local(), local);
            let bytes: Vec<u8> = (0..100 * 1000 + 300).map(|n| (n / 1000) as u8).collect();
            for fragmentation in [Fragmentation::Forbidden, Fragmentation::Allowed] {
                let batch = Batch {
                    bytes: &bytes,
                    segment_len: 1000,
                    traffic_class: 0xb9,
                };
                let refused =
                    socket.with_fragmentation(fragmentation, |socket| socket.send_batch(batch, local));
                assert_eq!(refused.unwrap(), 0);
                let mut buffer = vec![0; MAX_RECEIVED * SLOT_LEN];
                let mut found = [Packet::NONE; MAX_RECEIVED];
                let mut data = Vec::new();
                while data.len() < bytes.len() {
                    wait(&socket);
                    let count = socket.receive(&mut buffer, &mut found).unwrap();
                    for packet in &found[..count] {
                        assert!(packet.len == 1000 || packet.len == 300);
                        assert_eq!((packet.source, packet.traffic_class), (local, 0xb9));
                        data.extend_from_slice(&buffer[packet.start..packet.start + packet.len]);
                    }
                }
                assert_eq!(data, bytes);
                assert_eq!(
                    socket.receive(&mut buffer, &mut found).unwrap_err().kind(),
                    io::ErrorKind::WouldBlock
                );
            }
        }
    })
    .unwrap();
}

#[test]
fn what_exceeds_the_link_is_refused_where_fragments_are_forbidden() {
    let scratch = Scratch::new("exceeds");
    let shrunk = std::process::Command::new("ip")
        .args(["-n", &scratch.0, "link", "set", "lo", "mtu", "1400"])
        .status()
        .unwrap();
    assert!(shrunk.success());
    namespace::run(&scratch.0, || {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(link_mtu(local), Some(1400));
        assert_eq!(link_mtu("192.0.2.1".parse().unwrap()), None);
        let socket = EspSocket::bind(local).unwrap();
        let batch = Batch {
            bytes: &[7; 1500],
            segment_len: 1500,
            traffic_class: 0,
        };
        let send = |fragmentation| {
            socket
                .with_fragmentation(fragmentation, |socket| socket.send_batch(batch, local))
                .unwrap()
        };
        assert_eq!(send(Fragmentation::Forbidden), 1);
        assert_eq!(send(Fragmentation::Allowed), 0);
        wait(&socket);
        let mut buffer = vec![0; MAX_RECEIVED * SLOT_LEN];
        let mut found = [Packet::NONE; MAX_RECEIVED];
        assert_eq!(socket.receive(&mut buffer, &mut found).unwrap(), 1);
        assert_eq!(found[0].len, 1500, "fragments arrive joined");
    })
    .unwrap();
}

#[test]
fn only_news_of_the_path_is_heard() {
    let scratch = Scratch::new("icmp");
    namespace::run(&scratch.0, || {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        let socket = IcmpSocket::bind(local).unwrap();
        let mut buffer = [0; 2048];
        assert_eq!(
            socket.receive(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        // Nobody listens at the port: the kernel says "port unreachable".
        let udp = std::net::UdpSocket::bind((local, 0)).unwrap();
        udp.send_to(b"anybody", (local, 9)).unwrap();
        wait(&socket);
        let message = socket.receive(&mut buffer).unwrap();
        assert_eq!(message[..2], [3, 3]);
        assert!(message.ends_with(b"anybody"));
        assert!(IcmpSocket::bind("::1".parse().unwrap()).is_ok());
    })
    .unwrap();
}
