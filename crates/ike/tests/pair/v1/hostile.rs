use std::net::SocketAddr;
use std::time::Duration;

use isthmus_simnet::{Pair, Side};
use isthmus_wire::ike::{HEADER_LEN, IkeSpi};
use isthmus_wire::isakmp::{
    DeletePayload, ExchangeType, IsakmpFlags, IsakmpHeader, NotifyPayload, NotifyType, Payload, PayloadType,
    ProtocolId, encode_message,
};

use super::settled;
use crate::lost;

fn remote() -> SocketAddr {
    SocketAddr::new(Side::Left.address(), 500)
}

fn header(exchange: ExchangeType, flags: IsakmpFlags) -> IsakmpHeader {
    IsakmpHeader {
        initiator_cookie: IkeSpi(0x1234),
        responder_cookie: IkeSpi::ZERO,
        next_payload: PayloadType::NONE,
        minor_version: 0,
        exchange,
        flags,
        message_id: 0,
        length: 0,
    }
}

fn still_works(pair: &mut Pair) {
    let received = pair.peer(Side::Left).received;
    pair.run_for(Duration::from_secs(30));
    assert!(pair.is_settled(), "{:?}", pair.discord());
    assert!(pair.peer(Side::Left).received > received);
    assert_eq!(lost(pair), 0);
}

#[test]
fn no_first_message_without_its_payloads_makes_a_state_or_a_panic() {
    let mut pair = settled(1);
    for exchange in [2, 4, 5, 32, 99] {
        for flags in [0, 1, 2, 3, 4] {
            for payloads in [
                vec![],
                vec![Payload::Ke(vec![0; 256])],
                vec![Payload::Nonce(vec![0; 16]), Payload::Hash(vec![0; 20])],
                vec![Payload::Hash(Vec::new())],
            ] {
                let message = encode_message(header(ExchangeType(exchange), IsakmpFlags(flags)), &payloads);
                pair.inject(Side::Right, 500, remote(), &message);
            }
        }
    }
    still_works(&mut pair);
}

/// Everything that was said once is said again, changed in one place, with the cookies of the SAs.
#[test]
fn changed_messages_do_no_harm() {
    let mut pair = settled(2);
    let recorded = pair.recorded(Side::Right);
    assert!(recorded.len() >= 3, "something was recorded");
    for message in &recorded {
        for place in 0..message.len() {
            for bit in [0x01, 0x80] {
                let mut changed = message.clone();
                changed[place] ^= bit;
                pair.inject(Side::Right, 500, remote(), &changed);
            }
        }
        for len in 0..message.len() {
            pair.inject(Side::Right, 500, remote(), &message[..len]);
        }
    }
    still_works(&mut pair);
}

#[test]
fn what_was_said_once_counts_only_once() {
    let mut pair = settled(3);
    let before = crate::child_spi(&pair, Side::Right);
    for message in pair.recorded(Side::Right) {
        for _ in 0..3 {
            pair.inject(Side::Right, 500, remote(), &message);
        }
    }
    still_works(&mut pair);
    assert_eq!(crate::child_spi(&pair, Side::Right), before);
}

/// The cookies are no secret: only a hash makes a delete or notification count.
#[test]
fn a_delete_without_hash_deletes_nothing() {
    let mut pair = settled(4);
    let known = pair.recorded(Side::Right);
    let quick = known
        .iter()
        .find(|message| message[18] == ExchangeType::QUICK.0)
        .expect("quick mode was recorded");
    let cookies = quick[..16].to_vec();
    let outbound = {
        let status = pair
            .peer(Side::Right)
            .endpoint
            .status(Side::Right.connection())
            .unwrap();
        status.children[0].outbound_spi
    };
    let deletes = [
        Payload::Delete(DeletePayload::one(ProtocolId::ISAKMP, cookies.clone())),
        Payload::Delete(DeletePayload::one(
            ProtocolId::ESP,
            outbound.to_be_bytes().to_vec(),
        )),
        Payload::Notify(NotifyPayload::new(
            ProtocolId::ISAKMP,
            cookies.clone(),
            NotifyType::INITIAL_CONTACT,
            Vec::new(),
        )),
    ];
    for delete in deletes {
        for flags in [IsakmpFlags::NONE, IsakmpFlags::ENCRYPTION] {
            for payloads in [
                vec![delete.clone()],
                vec![Payload::Hash(vec![0; 32]), delete.clone()],
                vec![Payload::Hash(Vec::new()), delete.clone(), delete.clone()],
            ] {
                let mut message = encode_message(
                    IsakmpHeader {
                        message_id: 77,
                        ..header(ExchangeType::INFORMATIONAL, flags)
                    },
                    &payloads,
                );
                message[..16].copy_from_slice(&cookies);
                message.resize(message.len().next_multiple_of(16) - HEADER_LEN % 16, 0);
                let len = u32::try_from(message.len()).unwrap();
                message[24..28].copy_from_slice(&len.to_be_bytes());
                pair.inject(Side::Right, 500, remote(), &message);
            }
        }
    }
    still_works(&mut pair);
}

#[test]
fn a_flood_of_first_messages_leaves_the_tunnel_alone() {
    let mut pair = settled(5);
    let first = pair
        .recorded(Side::Right)
        .into_iter()
        .find(|message| message[8..16] == [0; 8])
        .unwrap();
    for number in 0u64..5000 {
        let mut message = first.clone();
        message[..8].copy_from_slice(&(number + 1).to_be_bytes());
        pair.inject(Side::Right, 500, remote(), &message);
    }
    still_works(&mut pair);
}
