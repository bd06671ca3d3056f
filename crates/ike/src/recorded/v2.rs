//! Recordings of IKEv2.

use isthmus_wire::ike::{
    AuthPayload, ExchangeType, Identification, IkeSpi, Message, NotifyType, Payload, ProtocolId,
};

use super::{Recording, refuses_other_logs};
use crate::auth::{SignedOctets, check_proof};
use crate::channel::{Channel, Role};
use crate::error::{AuthenticationFailure, IkeError, Violation};
use crate::keys::{IkeKeys, Nonces, SpiPair, child_keys, first_seed, ike_keys, rekey_seed};

const AES_GCM: &str = include_str!("../../tests/recordings/ikev2-aes256gcm16-ecp256.txt");
const AES_CBC: &str = include_str!("../../tests/recordings/ikev2-aes128-sha256-modp2048.txt");
const CHACHA20: &str = include_str!("../../tests/recordings/ikev2-chacha20-x25519.txt");

/// An IKE SA of a recording.
struct Sa {
    spis: SpiPair,
    keys: IkeKeys,
    /// Opens what the initiator sent.
    at_responder: Channel,
    /// Opens what the responder sent.
    at_initiator: Channel,
}

/// Nonces, and the SPI of an IKE SA or of a Child SA, out of the payloads of one side.
struct Offer {
    nonce: Vec<u8>,
    protocol: ProtocolId,
    spi: Vec<u8>,
}

/// What has been seen of a recording.
struct Replay {
    recording: Recording,
    sas: Vec<Sa>,
    nonces: (Vec<u8>, Vec<u8>),
    exchanges: Vec<ExchangeType>,
    children: usize,
}

#[test]
fn keys_messages_and_proofs_are_those_of_strongswan() {
    use ExchangeType as Of;
    let plain = [Of::IKE_SA_INIT, Of::IKE_AUTH, Of::INFORMATIONAL];
    assert_eq!(replay(AES_GCM), (1, plain.to_vec()));
    let rekeyed = [
        Of::IKE_SA_INIT,
        Of::IKE_AUTH,
        Of::CREATE_CHILD_SA,
        Of::INFORMATIONAL,
        Of::INFORMATIONAL,
    ];
    assert_eq!(replay(CHACHA20), (2, rekeyed.to_vec()));
    let everything = [
        Of::IKE_SA_INIT,
        Of::IKE_AUTH,
        // A Child SA with a key exchange of its own, the end of the old one.
        Of::CREATE_CHILD_SA,
        Of::INFORMATIONAL,
        // The IKE SA, the end of the old one.
        Of::CREATE_CHILD_SA,
        Of::INFORMATIONAL,
        Of::CREATE_CHILD_SA,
        Of::INFORMATIONAL,
        Of::INFORMATIONAL,
    ];
    assert_eq!(replay(AES_CBC), (3, everything.to_vec()));
}

#[test]
fn a_digit_that_strongswan_did_not_log_is_noticed() {
    for text in [AES_GCM, AES_CBC, CHACHA20] {
        refuses_other_logs(text, |text| drop(replay(text)));
    }
}

/// Goes through a recording and compares everything with what was logged. Yields the number of Child SAs and the exchanges.
fn replay(text: &str) -> (usize, Vec<ExchangeType>) {
    let recording = Recording::read(text);
    let messages = recording.messages.clone();
    let mut replay = Replay {
        recording,
        sas: Vec::new(),
        nonces: Default::default(),
        exchanges: Vec::new(),
        children: 0,
    };
    for pair in messages.chunks(2) {
        let [request, response] = pair else {
            panic!("a request without a response");
        };
        assert!(request.from_initiator && !response.from_initiator);
        let sent = [&request.bytes[..], &response.bytes];
        let decoded = sent.map(|bytes| Message::decode(bytes).unwrap());
        let exchange = decoded[0].header.exchange;
        assert_eq!(decoded[1].header.exchange, exchange);
        replay.exchanges.push(exchange);
        match exchange {
            ExchangeType::IKE_SA_INIT => replay.begin(&decoded),
            ExchangeType::IKE_AUTH => replay.authenticate(sent, &decoded, &messages[..2]),
            ExchangeType::CREATE_CHILD_SA => replay.create(sent, &decoded),
            ExchangeType::INFORMATIONAL => drop(replay.open(sent, &decoded)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(replay.recording.left_over(), Vec::<&str>::new());
    assert_eq!(replay.recording.children.len(), replay.children);
    (replay.children, replay.exchanges)
}

impl Replay {
    fn begin(&mut self, decoded: &[Message; 2]) {
        let [request, response] = decoded.each_ref().map(|message| offer(&message.payloads));
        let nonces = Nonces {
            initiator: &request.nonce,
            responder: &response.nonce,
        };
        let prf = self.recording.suite.prf;
        let secret = self.recording.logged("secret");
        let seed = first_seed(prf, &nonces, &secret);
        assert_eq!(*seed, self.recording.logged("seed"));
        // One bit of any of the inputs makes another seed.
        for (nonce, secret) in [
            (flipped(&request.nonce, 0), secret.clone()),
            (request.nonce.clone(), flipped(&secret, 7)),
        ] {
            let other = Nonces {
                initiator: &nonce,
                responder: &response.nonce,
            };
            assert_ne!(first_seed(prf, &other, &secret), seed);
        }
        let spis = SpiPair {
            initiator: decoded[1].header.initiator_spi,
            responder: decoded[1].header.responder_spi,
        };
        self.take_keys(&seed, &nonces, spis);
        self.nonces = (request.nonce, response.nonce);
    }

    fn take_keys(&mut self, seed: &[u8], nonces: &Nonces<'_>, spis: SpiPair) {
        let suite = self.recording.suite;
        let keys = ike_keys(&suite, seed, nonces, spis).unwrap();
        let recording = &mut self.recording;
        assert_eq!(*keys.derive, recording.logged("derive"));
        assert_eq!(
            keys.initiator.encryption(),
            recording.logged("encryption-initiator")
        );
        assert_eq!(
            keys.responder.encryption(),
            recording.logged("encryption-responder")
        );
        if suite.cipher.integrity().is_some() {
            assert_eq!(
                keys.initiator.integrity(),
                recording.logged("integrity-initiator")
            );
            assert_eq!(
                keys.responder.integrity(),
                recording.logged("integrity-responder")
            );
        }
        assert_eq!(*keys.prove_initiator, recording.logged("prove-initiator"));
        assert_eq!(*keys.prove_responder, recording.logged("prove-responder"));
        let channel = |role| Channel::new(role, spis, &suite, &keys, 0).unwrap();
        self.sas.push(Sa {
            spis,
            at_responder: channel(Role::Responder),
            at_initiator: channel(Role::Initiator),
            keys,
        });
    }

    /// Opens both messages with the keys of the SA whose SPIs they have, and no message that differs in a bit.
    fn open(&self, sent: [&[u8]; 2], decoded: &[Message; 2]) -> [Vec<Payload>; 2] {
        let spi = decoded[0].header.initiator_spi;
        let sa = self
            .sas
            .iter()
            .find(|sa| sa.spis.initiator == spi)
            .expect("an SA with that SPI");
        assert_eq!(decoded[1].header.responder_spi, sa.spis.responder);
        let channels = [&sa.at_responder, &sa.at_initiator];
        [0, 1].map(|side| {
            for at in 0..sent[side].len() {
                let changed = flipped(sent[side], at);
                let Ok(message) = Message::decode(&changed) else {
                    continue;
                };
                let refusal = channels[side].open(&changed, &message).unwrap_err();
                assert_eq!(refusal, IkeError::Violation(Violation::Integrity), "byte {at}");
            }
            // With the keys of the other direction it is no message.
            assert!(channels[1 - side].open(sent[side], &decoded[side]).is_err());
            channels[side].open(sent[side], &decoded[side]).unwrap()
        })
    }

    fn authenticate(&mut self, sent: [&[u8]; 2], decoded: &[Message; 2], first: &[super::Datagram]) {
        let opened = self.open(sent, decoded);
        let sa = self.sas.last().expect("an IKE SA");
        let (ni, nr) = &self.nonces;
        let sides = [
            (&first[0].bytes, nr, &sa.keys.prove_initiator),
            (&first[1].bytes, ni, &sa.keys.prove_responder),
        ];
        let function = self.recording.suite.prf;
        for ((message, other_nonce, prove_key), payloads) in sides.into_iter().zip(&opened) {
            let (identity, proof) = shown(payloads);
            let mut identity = identity.clone();
            let body = identity.body();
            let signed = SignedOctets {
                message,
                other_nonce,
                prove_key,
                identity: &body,
                intermediate: &[],
            };
            assert_eq!(check_proof(function, &self.recording.psk, &signed, proof), Ok(()));
            assert_eq!(proof.data, self.recording.logged("proof"));
            // Whatever differs in one bit was not proved.
            identity.data = flipped(&identity.data, 3);
            let other_identity = identity.body();
            let (other_message, nonce) = (flipped(message, 20), flipped(other_nonce, 31));
            let other_key = flipped(prove_key, 0);
            let others = [
                SignedOctets {
                    message: &other_message,
                    ..signed
                },
                SignedOctets {
                    other_nonce: &nonce,
                    ..signed
                },
                SignedOctets {
                    prove_key: &other_key,
                    ..signed
                },
                SignedOctets {
                    identity: &other_identity,
                    ..signed
                },
            ];
            let refused = Err(IkeError::Authentication(AuthenticationFailure::Key));
            for other in &others {
                assert_eq!(check_proof(function, &self.recording.psk, other, proof), refused);
            }
            for at in 0..proof.data.len() {
                let other = AuthPayload {
                    data: flipped(&proof.data, at),
                    ..proof.clone()
                };
                assert_eq!(
                    check_proof(function, &self.recording.psk, &signed, &other),
                    refused
                );
            }
        }
        let spis = opened.each_ref().map(|payloads| child_spi(payloads));
        self.child(&self.nonces.clone(), spis);
    }

    fn create(&mut self, sent: [&[u8]; 2], decoded: &[Message; 2]) {
        let opened = self.open(sent, decoded);
        let [request, response] = opened.each_ref().map(|payloads| offer(payloads));
        if request.protocol == ProtocolId::ESP {
            let rekeys = opened[0].iter().any(|payload| {
                matches!(payload, Payload::Notify(notify) if notify.notify_type == NotifyType::REKEY_SA)
            });
            assert!(rekeys, "a second Child SA");
            let spis = [spi_32(&request.spi), spi_32(&response.spi)];
            self.child(&(request.nonce, response.nonce), spis);
            return;
        }
        let nonces = Nonces {
            initiator: &request.nonce,
            responder: &response.nonce,
        };
        let old = self.sas.last().expect("an IKE SA");
        let secret = self.recording.logged("secret");
        let prf = self.recording.suite.prf;
        let seed = rekey_seed(prf, &old.keys.derive, &nonces, &secret, &[]);
        assert_eq!(*seed, self.recording.logged("seed"));
        let spi = |bytes: &[u8]| IkeSpi(u64::from_be_bytes(bytes.try_into().expect("eight bytes")));
        let spis = SpiPair {
            initiator: spi(&request.spi),
            responder: spi(&response.spi),
        };
        self.take_keys(&seed, &nonces, spis);
    }

    /// The keys of a Child SA whose SPIs the initiator and the responder chose.
    fn child(&mut self, nonces: &(Vec<u8>, Vec<u8>), [initiator_spi, responder_spi]: [u32; 2]) {
        let suite = self.recording.suite;
        let nonces = Nonces {
            initiator: &nonces.0,
            responder: &nonces.1,
        };
        let has_own_exchange = self.children > 0;
        let secret = has_own_exchange
            .then(|| self.recording.logged_if_any("child-secret"))
            .flatten();
        let derive = self.sas.last().expect("an IKE SA").keys.derive.clone();
        let cipher = self.recording.child;
        let keys = child_keys(suite.prf, &derive, cipher, secret.as_deref(), &[], &nonces).unwrap();
        let recording = &mut self.recording;
        for (word, key) in [
            ("child-encryption-initiator", keys.from_initiator.encryption()),
            ("child-encryption-responder", keys.from_responder.encryption()),
            ("child-integrity-initiator", keys.from_initiator.integrity()),
            ("child-integrity-responder", keys.from_responder.integrity()),
        ] {
            if !key.is_empty() {
                assert_eq!(
                    key,
                    recording.logged(word),
                    "{word} of Child SA {}",
                    self.children
                );
            }
        }
        assert_eq!(recording.children[self.children], (initiator_spi, responder_spi));
        self.children += 1;
    }
}

fn offer(payloads: &[Payload]) -> Offer {
    let (mut nonce, mut chosen) = (None, None);
    for payload in payloads {
        if let Payload::Nonce(bytes) = payload {
            nonce = Some(bytes.clone());
        } else if let Payload::Sa(proposals) = payload {
            chosen = proposals.first().cloned();
        }
    }
    let chosen = chosen.expect("a proposal");
    Offer {
        nonce: nonce.expect("a nonce"),
        protocol: chosen.protocol,
        spi: chosen.spi,
    }
}

fn child_spi(payloads: &[Payload]) -> u32 {
    let proposal = payloads.iter().find_map(|payload| {
        if let Payload::Sa(proposals) = payload {
            proposals.first()
        } else {
            None
        }
    });
    spi_32(&proposal.expect("a proposal").spi)
}

fn spi_32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// What a side shows of itself. The initiator may name the responder after itself.
fn shown(payloads: &[Payload]) -> (&Identification, &AuthPayload) {
    let (mut identity, mut proof) = (None, None);
    for payload in payloads {
        if let Payload::IdInitiator(found) | Payload::IdResponder(found) = payload {
            identity.get_or_insert(found);
        } else if let Payload::Auth(found) = payload {
            proof = Some(found);
        }
    }
    (identity.expect("an identity"), proof.expect("a proof"))
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}
