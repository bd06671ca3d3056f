//! Cutting an inner IPv4 packet that is too long for a tunnel before it is sealed (RFC 791 section 3.2): the pieces
//! pass every network behind, which fragments of the ESP packet might not.

use isthmus_wire::checksum;
use isthmus_wire::ip::{IPV4, IPV4_HEADER_LEN, IpHeader};

const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
const NO_OPERATION: u8 = 1;
const END: u8 = 0;
const COPIED: u8 = 0x80;

/// A packet to be written out in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Fragments<'a> {
    packet: &'a [u8],
    header_len: usize,
    // Bytes of payload in each piece but the last: a multiple of eight.
    step: usize,
    count: usize,
}

impl<'a> Fragments<'a> {
    /// Cuts `packet`, whose header is `header`, so that no piece exceeds `longest` bytes. None if it must not be
    /// fragmented, has the wrong version, or cannot be cut so small.
    pub fn new(packet: &'a [u8], header: &IpHeader, longest: usize) -> Option<Self> {
        let step = longest.checked_sub(header.header_len)? / 8 * 8;
        if header.version_protocol() != IPV4 || header.dont_fragment || step == 0 {
            return None;
        }
        let packet = packet.get(..header.total_len)?;
        let payload = packet.len() - header.header_len;
        let last = (payload / 8) + usize::from(u16::from_be_bytes([packet[6], packet[7]]) & OFFSET);
        if last > usize::from(OFFSET) {
            return None;
        }
        Some(Self {
            packet,
            header_len: header.header_len,
            step,
            count: payload.div_ceil(step).max(1),
        })
    }

    /// How many pieces there are; at least one.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Length of the piece `index`, which is below [`Fragments::count`].
    pub fn len_of(&self, index: usize) -> usize {
        let payload = self.packet.len() - self.header_len;
        self.header_len + (payload - index * self.step).min(self.step)
    }

    /// Writes the piece `index` to `out`, which has the length [`Fragments::len_of`].
    pub fn write(&self, index: usize, out: &mut [u8]) {
        let from = self.header_len + index * self.step;
        let (header, payload) = out.split_at_mut(self.header_len);
        header.copy_from_slice(&self.packet[..self.header_len]);
        payload.copy_from_slice(&self.packet[from..from + payload.len()]);
        if index > 0 {
            hide_first_only(&mut header[IPV4_HEADER_LEN..]);
        }
        let total = (self.header_len + payload.len()) as u16;
        header[2..4].copy_from_slice(&total.to_be_bytes());
        let before = u16::from_be_bytes([header[6], header[7]]);
        let offset = (before & OFFSET) + (index * self.step / 8) as u16;
        let more = if index + 1 < self.count {
            MORE
        } else {
            before & MORE
        };
        header[6..8].copy_from_slice(&(offset | more).to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum::of(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Options without the "copied" flag belong to the first fragment only.
fn hide_first_only(mut options: &mut [u8]) {
    while let [kind, rest @ ..] = options {
        let len = match (*kind, rest) {
            (END, _) => return,
            (NO_OPERATION, _) => 1,
            (_, [len, ..]) => usize::from(*len).max(2),
            (_, []) => 1,
        };
        let len = len.min(options.len());
        let (option, after) = options.split_at_mut(len);
        if option[0] & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        options = after;
    }
}

#[cfg(test)]
mod tests {
    use isthmus_wire::ip::Fragment;
    use proptest::prelude::*;

    use super::*;

    fn packet(options: &[u8], flags: u16, payload: usize) -> Vec<u8> {
        let header_len = 20 + options.len();
        let total = (header_len + payload) as u16;
        let mut packet = vec![
            0x40 | (header_len / 4) as u8,
            0x12,
            0,
            0,
            0xab,
            0xcd,
            0,
            0,
            63,
            17,
            0,
            0,
        ];
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        packet.extend([10, 1, 0, 1, 10, 2, 0, 1]);
        packet.extend_from_slice(options);
        packet.extend((0..payload).map(|index| index as u8));
        packet
    }

    fn pieces(packet: &[u8], longest: usize) -> Option<Vec<Vec<u8>>> {
        let header = IpHeader::decode(packet).unwrap();
        let fragments = Fragments::new(packet, &header, longest)?;
        Some(
            (0..fragments.count())
                .map(|index| {
                    let mut piece = vec![0; fragments.len_of(index)];
                    fragments.write(index, &mut piece);
                    piece
                })
                .collect(),
        )
    }

    proptest! {
        #[test]
        fn pieces_are_valid_and_join_to_the_whole(payload in 0usize..5000, longest in 28usize..1600, first in 0u16..900, more in any::<bool>()) {
            let flags = first | if more { MORE } else { 0 };
            let whole = packet(&[], flags, payload);
            let pieces = pieces(&whole, longest).unwrap();
            let mut joined = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert!(piece.len() <= longest);
                prop_assert_eq!(checksum::of(&piece[..20]), 0);
                prop_assert_eq!(&piece[4..6], &whole[4..6]);
                let field = u16::from_be_bytes([piece[6], piece[7]]);
                prop_assert_eq!(usize::from(field & OFFSET) * 8, usize::from(first) * 8 + joined.len());
                prop_assert_eq!(field & MORE != 0, more || index + 1 < pieces.len());
                joined.extend_from_slice(&piece[20..]);
            }
            prop_assert_eq!(&joined[..], &whole[20..]);
        }
    }

    #[test]
    fn later_pieces_keep_only_the_options_that_are_to_be_copied() {
        // Record route (not copied), a no-operation, loose source route (copied).
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 131, 3, 4, 0];
        let pieces = pieces(&packet(&options, 0, 100), 80).unwrap();
        assert_eq!(pieces[0][20..32], options);
        assert_eq!(pieces[1][20..32], [1, 1, 1, 1, 1, 1, 1, 1, 131, 3, 4, 0]);
        let header = IpHeader::decode(&pieces[1]).unwrap();
        assert_eq!(header.fragment, Fragment::Later);
    }

    #[test]
    fn what_must_stay_whole_does() {
        assert!(pieces(&packet(&[], 0x4000, 100), 80).is_none());
        assert!(pieces(&packet(&[], 0, 100), 27).is_none());
        assert!(pieces(&packet(&[], 0x1fff, 100), 80).is_none());
        let mut v6 = vec![0x60, 0, 0, 0, 0, 100, 17, 64];
        v6.extend([1; 132]);
        assert!(pieces(&v6, 80).is_none());
    }
}
