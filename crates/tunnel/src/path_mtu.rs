//! What is known of the largest packet that passes between the gateway and one peer (RFC 4301 section 8.2).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_crypto::suite::CipherSuite;
use isthmus_esp::mtu::inner_mtu;

use crate::convert;
use crate::plane::PathReport;

/// How long news of a smaller path counts (RFC 1191 section 6.3).
const AGE: Duration = Duration::from_secs(600);
/// No news makes the path smaller than this: every IPv4 host takes that much (RFC 791 section 3.1) ...
const MIN_IPV4: u16 = 576;
/// ... and every IPv6 link carries this (RFC 8200 section 5).
const MIN_IPV6: u16 = 1280;

/// The largest outer packet on the way to one peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathMtu {
    link: u16,
    learnt: Option<(u16, Instant)>,
}

impl PathMtu {
    /// Nothing is known but the gateway's own link.
    pub(crate) const fn new(link: u16) -> Self {
        Self { link, learnt: None }
    }

    /// Changes the gateway's own link. True if it is another one.
    pub(crate) const fn set_link(&mut self, link: u16) -> bool {
        let changed = self.link != link;
        self.link = link;
        changed
    }

    /// Takes a report that is believed. True if the path is smaller now than before.
    pub(crate) fn learn(&mut self, report: &PathReport, now: Instant) -> bool {
        let floor = match report.remote {
            IpAddr::V4(_) => MIN_IPV4,
            IpAddr::V6(_) => MIN_IPV6,
        };
        let mtu = report.mtu.max(floor);
        if mtu >= self.current() {
            return false;
        }
        self.learnt = Some((mtu, now + AGE));
        true
    }

    /// Forgets what has become old. True if something has.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let old = self.learnt.is_some_and(|(_, until)| until <= now);
        if old {
            self.learnt = None;
        }
        old
    }

    /// Forgets what was learnt: the path is another one.
    pub(crate) const fn forget(&mut self) {
        self.learnt = None;
    }

    /// The largest outer packet.
    pub(crate) fn current(&self) -> u16 {
        self.learnt.map_or(self.link, |(mtu, _)| mtu.min(self.link))
    }

    /// The largest inner packet for an SA to `remote`.
    pub(crate) fn inner_mtu(&self, suite: CipherSuite, remote: SocketAddr) -> u16 {
        inner_mtu(suite, convert::encapsulation(remote), self.current())
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::Encryption;

    use super::*;

    fn report(remote: &str, mtu: u16) -> PathReport {
        PathReport {
            remote: remote.parse().unwrap(),
            spi: 1,
            mtu,
        }
    }

    #[test]
    fn news_counts_for_ten_minutes_and_only_downwards() {
        let start = Instant::now();
        let mut path = PathMtu::new(1500);
        assert!(!path.learn(&report("192.0.2.1", 1500), start));
        assert!(path.learn(&report("192.0.2.1", 1400), start));
        assert!(!path.learn(&report("192.0.2.1", 1450), start));
        assert_eq!(path.current(), 1400);
        assert!(!path.expire(start + AGE / 2));
        assert!(path.expire(start + AGE));
        assert_eq!(path.current(), 1500);
        assert!(!path.expire(start + AGE));
    }

    #[test]
    fn no_news_goes_below_what_every_network_carries() {
        let now = Instant::now();
        for (remote, floor) in [("192.0.2.1", 576), ("2001:db8::1", 1280)] {
            let mut path = PathMtu::new(1500);
            assert!(path.learn(&report(remote, 0), now));
            assert_eq!(path.current(), floor);
            assert!(path.set_link(1400));
            path.forget();
            assert_eq!(path.current(), 1400);
        }
    }

    #[test]
    fn the_inner_limit_follows_the_path_and_the_wrapping() {
        let suite = CipherSuite::new(Encryption::Aes128Gcm16, None).unwrap();
        let mut path = PathMtu::new(1500);
        let encapsulated = "192.0.2.1:4500".parse().unwrap();
        let native = "192.0.2.1:0".parse().unwrap();
        assert_eq!(path.inner_mtu(suite, encapsulated), 1438);
        assert_eq!(path.inner_mtu(suite, native), 1446);
        assert!(path.learn(&report("192.0.2.1", 1300), Instant::now()));
        assert_eq!(path.inner_mtu(suite, encapsulated), 1238);
    }
}
