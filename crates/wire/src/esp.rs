//! The frame of an ESP packet (RFC 4303 section 2): the clear header before, the trailer at the end of the plaintext.

/// Bytes of SPI and sequence number.
pub const ESP_HEADER_LEN: usize = 8;
/// Bytes of pad length and next header.
pub const ESP_TRAILER_LEN: usize = 2;

/// The bytes are too few, or the pad length exceeds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspError;

/// SPI and sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspHeader {
    /// Security parameters index.
    pub spi: u32,
    /// Low 32 bits of the sequence number.
    pub sequence: u32,
}

impl EspHeader {
    /// Reads the header of `packet`.
    ///
    /// # Errors
    /// [`EspError`] if the packet is shorter.
    pub fn decode(packet: &[u8]) -> Result<Self, EspError> {
        let bytes: &[u8; ESP_HEADER_LEN] = packet.first_chunk().ok_or(EspError)?;
        Ok(Self {
            spi: u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            sequence: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
    }

    /// The header's bytes.
    pub const fn encode(self) -> [u8; ESP_HEADER_LEN] {
        let spi = self.spi.to_be_bytes();
        let sequence = self.sequence.to_be_bytes();
        [
            spi[0],
            spi[1],
            spi[2],
            spi[3],
            sequence[0],
            sequence[1],
            sequence[2],
            sequence[3],
        ]
    }
}

/// Bytes of padding that bring `inner_len` bytes and the trailer to a multiple of `alignment`.
pub const fn padding_len(inner_len: usize, alignment: usize) -> usize {
    let rest = (inner_len + ESP_TRAILER_LEN) % alignment;
    if rest == 0 { 0 } else { alignment - rest }
}

/// Fills the end of `plaintext`, after `inner_len` bytes of payload, with padding 1, 2, 3..., pad length and next
/// header (section 2.4).
///
/// # Errors
/// [`EspError`] if what is left is less than the trailer or more than 255 bytes of padding.
pub fn write_trailer(plaintext: &mut [u8], inner_len: usize, next_header: u8) -> Result<(), EspError> {
    let tail = plaintext.get_mut(inner_len..).ok_or(EspError)?;
    let (padding, trailer) = tail.split_last_chunk_mut::<ESP_TRAILER_LEN>().ok_or(EspError)?;
    let pad_length = u8::try_from(padding.len()).map_err(|_| EspError)?;
    for (byte, value) in padding.iter_mut().zip(1..=255u8) {
        *byte = value;
    }
    *trailer = [pad_length, next_header];
    Ok(())
}

/// Splits a decrypted `plaintext` into the payload's length and the next header.
///
/// # Errors
/// [`EspError`] if the trailer is missing or the pad length exceeds what is there.
pub fn read_trailer(plaintext: &[u8]) -> Result<(usize, u8), EspError> {
    let (body, [pad_length, next_header]) =
        plaintext.split_last_chunk::<ESP_TRAILER_LEN>().ok_or(EspError)?;
    let inner_len = body.len().checked_sub(usize::from(*pad_length)).ok_or(EspError)?;
    Ok((inner_len, *next_header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_written() {
        let header = EspHeader {
            spi: 0x1234_5678,
            sequence: 0x9abc_def0,
        };
        assert_eq!(EspHeader::decode(&header.encode()), Ok(header));
        for length in 0..ESP_HEADER_LEN {
            assert_eq!(EspHeader::decode(&header.encode()[..length]), Err(EspError));
        }
    }

    #[test]
    fn padding_aligns_and_comes_off_again() {
        for alignment in [4usize, 8, 16] {
            for inner in 0..64usize {
                let padding = padding_len(inner, alignment);
                assert!(padding < alignment);
                let mut plaintext = vec![0xaau8; inner + padding + ESP_TRAILER_LEN];
                assert_eq!(plaintext.len() % alignment, 0);
                write_trailer(&mut plaintext, inner, 4).unwrap();
                assert_eq!(read_trailer(&plaintext), Ok((inner, 4)));
                assert!((0..padding).all(|index| plaintext[inner + index] == index as u8 + 1));
            }
        }
    }

    #[test]
    fn a_pad_length_beyond_the_packet_is_refused() {
        assert_eq!(read_trailer(&[1, 2, 3, 4, 4]), Err(EspError));
        assert_eq!(read_trailer(&[1, 2, 3, 3, 4]), Ok((0, 4)));
        assert_eq!(read_trailer(&[4]), Err(EspError));
        assert_eq!(write_trailer(&mut [0; 4], 3, 4), Err(EspError));
        assert_eq!(write_trailer(&mut [0; 300], 0, 4), Err(EspError));
    }
}
