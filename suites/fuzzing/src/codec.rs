//! IKE messages of both versions.

use isthmus_wire::ike::{HEADER_LEN, Message, PayloadType, decode_chain, encode_chain, encode_message};
use isthmus_wire::isakmp::{self, Chain, IsakmpHeader};

/// A message in clear, and the content of an encrypted payload: what was read is read again from what is written of it.
pub fn ike_message(data: &[u8]) {
    if let Ok(mut message) = Message::decode(data) {
        // Ours is written, whatever was read.
        message.header.minor_version = 0;
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

/// An IKEv1 message in clear, and the content of an encrypted one: as [`ike_message`].
pub fn isakmp_message(data: &[u8]) {
    if let Ok(header) = IsakmpHeader::decode(data)
        && let Ok(chain) = Chain::decode(header.next_payload, &data[HEADER_LEN..])
    {
        let written = isakmp::encode_message(header, &chain.payloads);
        let again = IsakmpHeader::decode(&written).expect("a header that was written can be read");
        assert_eq!(
            (
                again.initiator_cookie,
                again.responder_cookie,
                again.next_payload,
                again.exchange,
                again.flags
            ),
            (
                header.initiator_cookie,
                header.responder_cookie,
                header.next_payload,
                header.exchange,
                header.flags
            ),
        );
        same_chain(again.next_payload, &written[HEADER_LEN..], &chain);
    }
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    if let Ok(chain) = Chain::decode(isakmp::PayloadType(*first), bytes) {
        assert!(chain.len <= bytes.len());
        let mut written = Vec::new();
        let first = isakmp::encode_chain(&chain.payloads, &mut written);
        same_chain(first, &written, &chain);
    }
}

fn same_chain(first: isakmp::PayloadType, written: &[u8], chain: &Chain) {
    let again = Chain::decode(first, written).expect("a chain that was written can be read");
    assert_eq!(again.payloads, chain.payloads);
    assert_eq!(again.len, written.len());
    for index in 0..again.payloads.len() {
        assert!(again.body(index, written).is_some(), "it has a place");
    }
}
