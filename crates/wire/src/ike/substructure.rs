//! Proposals and transforms stand in each other behind headers that both versions have (RFC 7296 section 3.3.1, RFC 2408
//! section 3.5): what follows, a reserved byte, and a length.

use super::cursor::{Cursor, length_u16};
use super::{DecodeError, Element};

/// What a proposal says that another one follows.
pub(crate) const MORE_PROPOSALS: u8 = 2;
/// What a transform says that another one follows.
pub(crate) const MORE_TRANSFORMS: u8 = 3;

/// What follows, and the content after the header.
pub(crate) fn substructure<'a>(
    cursor: &mut Cursor<'a>,
    element: Element,
) -> Result<(u8, &'a [u8]), DecodeError> {
    let more = cursor.u8()?;
    cursor.u8()?;
    let length = usize::from(cursor.u16()?);
    let content = cursor.take(length.checked_sub(4).ok_or(DecodeError::Malformed(element))?)?;
    Ok((more, content))
}

/// Writes the length of what was appended since `start` to the two bytes at `start + 2`.
pub(crate) fn fix_length(out: &mut [u8], start: usize) {
    let length = length_u16(out.len() - start);
    if let Some(place) = out.get_mut(start + 2..start + 4) {
        place.copy_from_slice(&length);
    }
}
