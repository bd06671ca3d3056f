//! Numbers of IKEv1: integers with names, so that unknown values survive.

use crate::ike::codepoint::codepoints;

codepoints! {
    /// Exchange type (RFC 2408 section 3.1, RFC 2409 appendix A).
    ExchangeType(u8) {
        /// Main mode ("identity protection").
        MAIN = 2,
        /// Aggressive mode.
        AGGRESSIVE = 4,
        /// Informational.
        INFORMATIONAL = 5,
        /// Quick mode.
        QUICK = 32,
    }
    /// Payload type (RFC 2408 section 3.1, RFC 3947 section 3.2).
    PayloadType(u8) {
        /// No next payload.
        NONE = 0,
        /// Security association.
        SA = 1,
        /// Key exchange.
        KE = 4,
        /// Identification.
        ID = 5,
        /// Certificate.
        CERT = 6,
        /// Certificate request.
        CERT_REQUEST = 7,
        /// Hash.
        HASH = 8,
        /// Signature.
        SIGNATURE = 9,
        /// Nonce.
        NONCE = 10,
        /// Notification.
        NOTIFY = 11,
        /// Delete.
        DELETE = 12,
        /// Vendor ID.
        VENDOR_ID = 13,
        /// NAT detection.
        NAT_D = 20,
        /// NAT original address.
        NAT_OA = 21,
    }
    /// Security protocol (RFC 2407 section 4.4.1).
    ProtocolId(u8) {
        /// ISAKMP itself.
        ISAKMP = 1,
        /// AH.
        AH = 2,
        /// ESP.
        ESP = 3,
        /// Compression.
        IPCOMP = 4,
    }
    /// Type of an identification (RFC 2407 section 4.6.2.1).
    IdType(u8) {
        /// One IPv4 address.
        IPV4_ADDR = 1,
        /// A domain name.
        FQDN = 2,
        /// A name like an e-mail address.
        USER_FQDN = 3,
        /// An IPv4 address and mask.
        IPV4_ADDR_SUBNET = 4,
        /// One IPv6 address.
        IPV6_ADDR = 5,
        /// An IPv6 address and mask.
        IPV6_ADDR_SUBNET = 6,
        /// Two IPv4 addresses.
        IPV4_ADDR_RANGE = 7,
        /// Two IPv6 addresses.
        IPV6_ADDR_RANGE = 8,
        /// A distinguished name.
        DER_ASN1_DN = 9,
        /// A general name.
        DER_ASN1_GN = 10,
        /// Opaque bytes.
        KEY_ID = 11,
    }
    /// Type of a notification (RFC 2408 section 3.14.1, RFC 2407 section 4.6.3, RFC 3706).
    NotifyType(u16) {
        /// INVALID-PAYLOAD-TYPE.
        INVALID_PAYLOAD_TYPE = 1,
        /// SITUATION-NOT-SUPPORTED.
        SITUATION_NOT_SUPPORTED = 3,
        /// INVALID-COOKIE.
        INVALID_COOKIE = 4,
        /// INVALID-EXCHANGE-TYPE.
        INVALID_EXCHANGE_TYPE = 7,
        /// INVALID-MESSAGE-ID.
        INVALID_MESSAGE_ID = 9,
        /// INVALID-SPI.
        INVALID_SPI = 11,
        /// ATTRIBUTES-NOT-SUPPORTED.
        ATTRIBUTES_NOT_SUPPORTED = 13,
        /// NO-PROPOSAL-CHOSEN.
        NO_PROPOSAL_CHOSEN = 14,
        /// BAD-PROPOSAL-SYNTAX.
        BAD_PROPOSAL_SYNTAX = 15,
        /// PAYLOAD-MALFORMED.
        PAYLOAD_MALFORMED = 16,
        /// INVALID-KEY-INFORMATION.
        INVALID_KEY_INFORMATION = 17,
        /// INVALID-ID-INFORMATION.
        INVALID_ID_INFORMATION = 18,
        /// INVALID-HASH-INFORMATION.
        INVALID_HASH_INFORMATION = 23,
        /// AUTHENTICATION-FAILED.
        AUTHENTICATION_FAILED = 24,
        /// CONNECTED.
        CONNECTED = 16_384,
        /// RESPONDER-LIFETIME.
        RESPONDER_LIFETIME = 24_576,
        /// REPLAY-STATUS.
        REPLAY_STATUS = 24_577,
        /// INITIAL-CONTACT.
        INITIAL_CONTACT = 24_578,
        /// R-U-THERE (RFC 3706).
        R_U_THERE = 36_136,
        /// R-U-THERE-ACK (RFC 3706).
        R_U_THERE_ACK = 36_137,
    }
}

impl NotifyType {
    /// Whether it reports an error (RFC 2408 section 3.14.1).
    pub const fn is_error(self) -> bool {
        self.0 < 16_384
    }
}
