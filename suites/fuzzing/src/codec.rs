//! IKEv2 messages.

use isthmus_wire::ike::{Message, PayloadType, decode_chain, encode_chain, encode_message};

/// A message in clear, and the content of an encrypted payload: what was read is read again from what is written of it.
pub fn ike_message(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        match &message.encrypted {
            Some(place) => assert_eq!(place.body.end, data.len()),
            None => {
                let written = encode_message(message.header, &message.payloads);
                assert_eq!(Message::decode(&written), Ok(message));
            }
        }
    }
    let Some((first, chain)) = data.split_first() else {
        return;
    };
    if let Ok(payloads) = decode_chain(PayloadType(*first), chain) {
        let mut written = Vec::new();
        let first = encode_chain(&payloads, &mut written);
        assert_eq!(decode_chain(first, &written), Ok(payloads));
    }
}
