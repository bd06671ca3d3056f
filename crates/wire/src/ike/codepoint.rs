//! IANA numbers of IKEv2: integers with names, so that unknown values survive.

macro_rules! codepoints {
    ($($(#[$doc:meta])* $name:ident($int:ty) { $($(#[$cdoc:meta])* $constant:ident = $value:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            $($(#[$cdoc])* pub const $constant: Self = Self($value);)+

            /// The RFC's name for it, if we know one.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($constant)),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({})"), self.0),
                }
            }
        }
    )+};
}

pub(crate) use codepoints;

codepoints! {
    /// Exchange type (RFC 7296 section 3.1).
    ExchangeType(u8) {
        /// IKE_SA_INIT.
        IKE_SA_INIT = 34,
        /// IKE_AUTH.
        IKE_AUTH = 35,
        /// CREATE_CHILD_SA.
        CREATE_CHILD_SA = 36,
        /// INFORMATIONAL.
        INFORMATIONAL = 37,
        /// IKE_INTERMEDIATE (RFC 9242).
        IKE_INTERMEDIATE = 43,
        /// IKE_FOLLOWUP_KE (RFC 9370).
        IKE_FOLLOWUP_KE = 44,
    }
    /// Payload type (RFC 7296 section 3.2).
    PayloadType(u8) {
        /// No next payload.
        NONE = 0,
        /// Security Association.
        SA = 33,
        /// Key Exchange.
        KE = 34,
        /// Identification of the initiator.
        IDI = 35,
        /// Identification of the responder.
        IDR = 36,
        /// Certificate.
        CERT = 37,
        /// Certificate Request.
        CERTREQ = 38,
        /// Authentication.
        AUTH = 39,
        /// Nonce.
        NONCE = 40,
        /// Notify.
        NOTIFY = 41,
        /// Delete.
        DELETE = 42,
        /// Vendor ID.
        VENDOR_ID = 43,
        /// Traffic selectors of the initiator.
        TSI = 44,
        /// Traffic selectors of the responder.
        TSR = 45,
        /// Encrypted and Authenticated.
        SK = 46,
        /// Configuration.
        CP = 47,
        /// Extensible Authentication.
        EAP = 48,
        /// Encrypted and Authenticated Fragment (RFC 7383).
        SKF = 53,
    }
    /// Security protocol (RFC 7296 section 3.3.1).
    ProtocolId(u8) {
        /// None: the notify is about no SA or about the IKE SA it came on.
        NONE = 0,
        /// IKE.
        IKE = 1,
        /// AH.
        AH = 2,
        /// ESP.
        ESP = 3,
    }
    /// Kind of transform (RFC 7296 section 3.3.2).
    TransformType(u8) {
        /// Encryption algorithm.
        ENCR = 1,
        /// Pseudo-random function.
        PRF = 2,
        /// Integrity algorithm.
        INTEG = 3,
        /// Key exchange method.
        KE = 4,
        /// Extended sequence numbers.
        ESN = 5,
        /// First key exchange beside that of [`TransformType::KE`] (RFC 9370).
        ADDKE1 = 6,
        /// The second.
        ADDKE2 = 7,
        /// The third.
        ADDKE3 = 8,
        /// The fourth.
        ADDKE4 = 9,
        /// The fifth.
        ADDKE5 = 10,
        /// The sixth.
        ADDKE6 = 11,
        /// The seventh.
        ADDKE7 = 12,
    }
    /// Authentication method (RFC 7296 section 3.8).
    AuthMethod(u8) {
        /// RSA signature.
        RSA_SIGNATURE = 1,
        /// Shared key message integrity code.
        SHARED_KEY = 2,
        /// ECDSA with SHA-256 on P-256 (RFC 4754).
        ECDSA_P256_SHA256 = 9,
        /// ECDSA with SHA-384 on P-384 (RFC 4754).
        ECDSA_P384_SHA384 = 10,
        /// ECDSA with SHA-512 on P-521 (RFC 4754).
        ECDSA_P521_SHA512 = 11,
        /// Digital signature (RFC 7427).
        DIGITAL_SIGNATURE = 14,
    }
    /// Encoding of a certificate (RFC 7296 section 3.6).
    CertificateEncoding(u8) {
        /// One X.509 certificate in DER, or in requests hashes of authorities' keys.
        X509_SIGNATURE = 4,
    }
    /// Hash that a peer takes in digital signatures (RFC 7427 section 4, RFC 8420).
    HashAlgorithm(u16) {
        /// SHA-1.
        SHA1 = 1,
        /// SHA2-256.
        SHA2_256 = 2,
        /// SHA2-384.
        SHA2_384 = 3,
        /// SHA2-512.
        SHA2_512 = 4,
        /// The message itself is signed.
        IDENTITY = 5,
    }
    /// Type of an identification (RFC 7296 section 3.5).
    IdType(u8) {
        /// IPv4 address.
        IPV4_ADDR = 1,
        /// Fully qualified domain name.
        FQDN = 2,
        /// E-mail address.
        RFC822_ADDR = 3,
        /// IPv6 address.
        IPV6_ADDR = 5,
        /// X.500 distinguished name.
        DER_ASN1_DN = 9,
        /// Opaque bytes.
        KEY_ID = 11,
    }
    /// Traffic selector type (RFC 7296 section 3.13.1).
    TsType(u8) {
        /// Range of IPv4 addresses.
        IPV4_ADDR_RANGE = 7,
        /// Range of IPv6 addresses.
        IPV6_ADDR_RANGE = 8,
    }
    /// Notify message type (RFC 7296 section 3.10.1). Values below 16384 are errors.
    NotifyType(u16) {
        /// A critical payload is not understood.
        UNSUPPORTED_CRITICAL_PAYLOAD = 1,
        /// The IKE SPI is unknown.
        INVALID_IKE_SPI = 4,
        /// The major version is not supported.
        INVALID_MAJOR_VERSION = 5,
        /// The message is malformed.
        INVALID_SYNTAX = 7,
        /// The message id is outside the window.
        INVALID_MESSAGE_ID = 9,
        /// An ESP packet had an unknown SPI.
        INVALID_SPI = 11,
        /// No proposal is acceptable.
        NO_PROPOSAL_CHOSEN = 14,
        /// The KE payload is of another group than the one chosen.
        INVALID_KE_PAYLOAD = 17,
        /// Authentication failed.
        AUTHENTICATION_FAILED = 24,
        /// Only single pairs of addresses are accepted as selectors.
        SINGLE_PAIR_REQUIRED = 34,
        /// No more SAs are accepted.
        NO_ADDITIONAL_SAS = 35,
        /// Internal addresses could not be given.
        INTERNAL_ADDRESS_FAILURE = 36,
        /// A configuration payload was needed.
        FAILED_CP_REQUIRED = 37,
        /// No traffic selector is acceptable.
        TS_UNACCEPTABLE = 38,
        /// A packet did not fit the selectors of its SA.
        INVALID_SELECTORS = 39,
        /// Try again later.
        TEMPORARY_FAILURE = 43,
        /// The Child SA to act on does not exist.
        CHILD_SA_NOT_FOUND = 44,
        /// What the request refers to is not there any more (RFC 9370).
        STATE_NOT_FOUND = 47,
        /// No more Child SAs for the same traffic are accepted (RFC 9611).
        TS_MAX_QUEUE = 48,
        /// This is the only IKE SA between the two identities.
        INITIAL_CONTACT = 16384,
        /// Window size of the sender.
        SET_WINDOW_SIZE = 16385,
        /// Narrowed, but more selectors are possible.
        ADDITIONAL_TS_POSSIBLE = 16386,
        /// Compression is supported.
        IPCOMP_SUPPORTED = 16387,
        /// Hash of the sender's address and port.
        NAT_DETECTION_SOURCE_IP = 16388,
        /// Hash of the receiver's address and port.
        NAT_DETECTION_DESTINATION_IP = 16389,
        /// Repeat the request with this.
        COOKIE = 16390,
        /// Transport mode is wanted.
        USE_TRANSPORT_MODE = 16391,
        /// The exchange replaces this SA.
        REKEY_SA = 16393,
        /// No traffic flow confidentiality padding.
        ESP_TFC_PADDING_NOT_SUPPORTED = 16394,
        /// Non-first fragments go over the SA too.
        NON_FIRST_FRAGMENTS_ALSO = 16395,
        /// Mobility is supported (RFC 4555).
        MOBIKE_SUPPORTED = 16396,
        /// Seconds after which the initiator must authenticate anew (RFC 4478).
        AUTH_LIFETIME = 16403,
        /// Childless initiation is supported (RFC 6023).
        CHILDLESS_IKEV2_SUPPORTED = 16418,
        /// Fragmentation is supported (RFC 7383).
        IKEV2_FRAGMENTATION_SUPPORTED = 16430,
        /// Hash algorithms for signatures (RFC 7427).
        SIGNATURE_HASH_ALGORITHMS = 16431,
        /// IKE_INTERMEDIATE is supported (RFC 9242).
        INTERMEDIATE_EXCHANGE_SUPPORTED = 16438,
        /// Links the exchanges that make one SA with several key exchanges (RFC 9370).
        ADDITIONAL_KEY_EXCHANGE = 16441,
        /// One of several Child SAs for the same traffic (RFC 9611).
        SA_RESOURCE_INFO = 16444,
    }
}

impl NotifyType {
    /// Whether it reports an error rather than a status.
    pub const fn is_error(self) -> bool {
        self.0 < 16384
    }
}

/// Number of a transform; its meaning depends on the [`TransformType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransformId(pub u16);

impl TransformId {
    /// Encryption: triple DES.
    pub const ENCR_3DES: Self = Self(3);
    /// Encryption: AES-CBC.
    pub const ENCR_AES_CBC: Self = Self(12);
    /// Encryption: AES-GCM with an 8-byte ICV.
    pub const ENCR_AES_GCM_8: Self = Self(18);
    /// Encryption: AES-GCM with a 12-byte ICV.
    pub const ENCR_AES_GCM_12: Self = Self(19);
    /// Encryption: AES-GCM with a 16-byte ICV.
    pub const ENCR_AES_GCM_16: Self = Self(20);
    /// Encryption: ChaCha20-Poly1305.
    pub const ENCR_CHACHA20_POLY1305: Self = Self(28);
    /// PRF: HMAC-MD5.
    pub const PRF_HMAC_MD5: Self = Self(1);
    /// PRF: HMAC-SHA1.
    pub const PRF_HMAC_SHA1: Self = Self(2);
    /// PRF: HMAC-SHA2-256.
    pub const PRF_HMAC_SHA2_256: Self = Self(5);
    /// PRF: HMAC-SHA2-384.
    pub const PRF_HMAC_SHA2_384: Self = Self(6);
    /// PRF: HMAC-SHA2-512.
    pub const PRF_HMAC_SHA2_512: Self = Self(7);
    /// Integrity: none, as good as absent.
    pub const AUTH_NONE: Self = Self(0);
    /// Integrity: HMAC-MD5-96.
    pub const AUTH_HMAC_MD5_96: Self = Self(1);
    /// Integrity: HMAC-SHA1-96.
    pub const AUTH_HMAC_SHA1_96: Self = Self(2);
    /// Integrity: HMAC-SHA2-256-128.
    pub const AUTH_HMAC_SHA2_256_128: Self = Self(12);
    /// Integrity: HMAC-SHA2-384-192.
    pub const AUTH_HMAC_SHA2_384_192: Self = Self(13);
    /// Integrity: HMAC-SHA2-512-256.
    pub const AUTH_HMAC_SHA2_512_256: Self = Self(14);
    /// Key exchange: none.
    pub const KE_NONE: Self = Self(0);
    /// Key exchange: ML-KEM-768.
    pub const KE_ML_KEM_768: Self = Self(36);
    /// Sequence numbers of 32 bits.
    pub const ESN_NO: Self = Self(0);
    /// Extended sequence numbers of 64 bits.
    pub const ESN_YES: Self = Self(1);
}
