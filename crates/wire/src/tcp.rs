//! What a TCP header says (RFC 9293 section 3.1).

/// Bytes of a TCP header without options.
pub const TCP_HEADER_LEN: usize = 20;
/// Where the checksum stands in the header.
pub const TCP_CHECKSUM_OFFSET: usize = 16;
/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgement field counts.
pub const ACK: u8 = 0x10;
/// Congestion window reduced.
pub const CWR: u8 = 0x80;

/// The header is cut short or its data offset is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpError;

/// The facts of a TCP header that cutting and joining segments need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHeader {
    /// Sequence number of the first byte of data.
    pub sequence: u32,
    /// Bytes of the header with options.
    pub header_len: usize,
    /// The flags CWR to FIN.
    pub flags: u8,
}

impl TcpHeader {
    /// Reads the header that `segment` begins with.
    ///
    /// # Errors
    /// [`TcpError`].
    pub fn decode(segment: &[u8]) -> Result<Self, TcpError> {
        let header: &[u8; TCP_HEADER_LEN] = segment.first_chunk().ok_or(TcpError)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < TCP_HEADER_LEN || header_len > segment.len() {
            return Err(TcpError);
        }
        Ok(Self {
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            header_len,
            flags: header[13],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_header_and_refuses_bad_lengths() {
        let mut segment = [0u8; 32];
        segment[4..8].copy_from_slice(&0x0102_0304u32.to_be_bytes());
        segment[12] = 0x80;
        segment[13] = ACK | PSH;
        let header = TcpHeader::decode(&segment).unwrap();
        assert_eq!(
            (header.sequence, header.header_len, header.flags),
            (0x0102_0304, 32, ACK | PSH)
        );
        for length in 0..32 {
            assert_eq!(TcpHeader::decode(&segment[..length]), Err(TcpError));
        }
        segment[12] = 0x40;
        assert_eq!(TcpHeader::decode(&segment), Err(TcpError));
    }
}
