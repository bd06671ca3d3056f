//! Why packets are dropped, one counter each.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)?) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason {
            $($(#[$doc])* $variant),+
        }

        impl DropReason {
            /// Every reason, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The stable word for it, as reported.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

drop_reasons! {
    /// Outbound: the connection is down on request.
    AdminDown = "admin_down",
    /// Outbound: no SA yet, and another packet already waits for it.
    AwaitingSa = "awaiting_sa",
    /// Inbound: the decrypted packet is no whole IP packet of the announced version.
    BadInnerPacket = "bad_inner_packet",
    /// Inbound: the pad length exceeds the packet.
    BadTrailer = "bad_trailer",
    /// Inbound: marked "congestion experienced" on the way though the inner packet does not take part in ECN (RFC 6040).
    Congestion = "congestion",
    /// Inbound: sent only to hide when there is traffic (RFC 4303 section 2.6). Nothing is lost.
    Dummy = "dummy",
    /// Inbound: the integrity check failed.
    IntegrityFailed = "integrity_failed",
    /// Either way: the SA has carried as many bytes or packets as it may.
    LifetimeExpired = "lifetime_expired",
    /// Inbound: too short for the SA's suite, or neither ESP, IKE nor a keepalive.
    MalformedEsp = "malformed_esp",
    /// Outbound: not an IP packet.
    MalformedInner = "malformed_inner",
    /// Outbound: no connection's ranges cover the packet.
    NoPolicy = "no_policy",
    /// Outbound: longer than the tunnel carries, and must not be fragmented.
    PacketTooBig = "packet_too_big",
    /// Inbound: seen before, or older than the replay window.
    Replayed = "replayed",
    /// Inbound: the decrypted packet is outside its SA's selectors.
    SelectorMismatch = "selector_mismatch",
    /// Outbound: the kernel took no more.
    SendFailed = "send_failed",
    /// Outbound: the SA has used all its sequence numbers.
    SequenceExhausted = "sequence_exhausted",
    /// Inbound: the TUN device took no more.
    TunWriteFailed = "tun_write_failed",
    /// Inbound: no SA with this SPI.
    UnknownSpi = "unknown_spi",
    /// Outbound: a kind of segmentation offload that was not asked for.
    UnsupportedOffload = "unsupported_offload",
}

/// One counter for each [`DropReason`], readable from other threads.
#[derive(Debug, Default)]
pub struct DropCounters([AtomicU64; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts packets dropped for `reason`.
    pub fn add(&self, reason: DropReason, packets: u64) {
        self.0[reason as usize].fetch_add(packets, Ordering::Relaxed);
    }

    /// Packets dropped for `reason` so far.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }

    /// The reasons that occurred, with their counts.
    pub fn occurred(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.count(reason)))
            .filter(|(_, count)| *count > 0)
    }
}
