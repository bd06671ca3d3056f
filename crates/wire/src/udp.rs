//! UDP (RFC 768), and what tells ESP, IKE and keepalives apart on port 4500 (RFC 3948).

/// Bytes of a UDP header.
pub const UDP_HEADER_LEN: usize = 8;
/// Where the checksum stands in the header.
pub const UDP_CHECKSUM_OFFSET: usize = 6;
/// Bytes of the marker before an IKE message on port 4500 (RFC 3948 section 2.2).
pub const NON_ESP_MARKER_LEN: usize = 4;

/// What a datagram on port 4500 carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulated<'a> {
    /// An ESP packet.
    Esp(&'a [u8]),
    /// An IKE message, without its marker.
    Ike(&'a [u8]),
    /// A NAT keepalive (section 2.3).
    Keepalive,
    /// None of these.
    Malformed,
}

impl<'a> Encapsulated<'a> {
    /// Tells what `datagram` carries.
    pub fn of(datagram: &'a [u8]) -> Self {
        match datagram {
            [0xff] => Self::Keepalive,
            [0, 0, 0, 0, message @ ..] => Self::Ike(message),
            [_, _, _, _, ..] => Self::Esp(datagram),
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_is_inside() {
        assert_eq!(Encapsulated::of(&[0xff]), Encapsulated::Keepalive);
        assert_eq!(Encapsulated::of(&[0, 0, 0, 0, 9]), Encapsulated::Ike(&[9]));
        assert_eq!(
            Encapsulated::of(&[0, 0, 1, 0, 9]),
            Encapsulated::Esp(&[0, 0, 1, 0, 9])
        );
        for short in [&[][..], &[0], &[0, 0, 0], &[0xff, 0xff]] {
            assert_eq!(Encapsulated::of(short), Encapsulated::Malformed);
        }
    }
}
