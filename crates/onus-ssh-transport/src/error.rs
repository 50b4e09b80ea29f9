//! What can end a transport. Every one of these is final: the connection is over and has said so to the peer.
//!
//! None of them carries keys or payloads.

use crate::host_key::HostKeyRefused;
use crate::message::reason;

/// Why a transport came to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The first line isn't SSH's (or a server's first 21 are not).
    #[error("the peer does not speak ssh")]
    NotSsh,
    /// The identification line exceeds 255 bytes.
    #[error("the peer's version line is too long")]
    VersionTooLong,
    /// The peer speaks another version than 2.0.
    #[error("the peer speaks `{version}`, only ssh 2.0 is supported")]
    VersionUnsupported {
        /// What it said.
        version: String,
    },
    /// A packet states a length above the limit; nothing of it was buffered for.
    #[error("a packet of {length} bytes exceeds the limit of {limit}")]
    PacketTooLong {
        /// What it stated.
        length: usize,
        /// What is taken.
        limit: usize,
    },
    /// A packet's length or padding can't be right.
    #[error("a packet's length or padding is malformed")]
    PacketMalformed,
    /// A packet isn't what the peer sealed.
    #[error("a packet failed its integrity check")]
    Tampered,
    /// A message of the transport that can't be read.
    #[error("message {message} is malformed")]
    MessageMalformed {
        /// Its number.
        message: u8,
    },
    /// A message that has no place here.
    #[error("message {message} is not allowed {during}")]
    MessageUnexpected {
        /// Its number.
        message: u8,
        /// When it came.
        during: &'static str,
    },
    /// Both sides claim strict key exchange, but the first packet was something else than KEXINIT: an attempt to
    /// insert packets (CVE-2023-48795).
    #[error("strict key exchange: KEXINIT was not the first packet")]
    KexInitNotFirst,
    /// Nothing in common.
    #[error("no common {list}: the peer offers `{offered}`")]
    NoCommonAlgorithm {
        /// What is missing: `key exchange method`, `host key algorithm`, `cipher`, `compression`.
        list: &'static str,
        /// The peer's list.
        offered: String,
    },
    /// `chacha20-poly1305@openssh.com` without strict key exchange is open to prefix truncation (CVE-2023-48795).
    #[error(
        "the peer lacks strict key exchange, without which chacha20-poly1305 is unsafe (CVE-2023-48795); \
         update it or use aes128-gcm@openssh.com"
    )]
    StrictRequired,
    /// The peer's half of the exchange is no valid public value.
    #[error("the peer's key exchange value is invalid")]
    BadExchangeValue,
    /// The server's host key can't be read, or isn't of the negotiated algorithm.
    #[error("the server's host key is malformed or not of the negotiated algorithm")]
    HostKeyMalformed,
    /// The server doesn't hold the key it presents, or someone changed the negotiation on its way.
    #[error("the server's signature over the key exchange is wrong")]
    SignatureInvalid,
    /// The verifier doesn't want this key.
    #[error(transparent)]
    HostKeyRefused(#[from] HostKeyRefused),
    /// Another host key than at first, in a later exchange.
    #[error("the server's host key changed during the connection")]
    HostKeyChanged,
    /// A peer that goes on sending without answering a key exchange.
    #[error("the peer does not answer a due key exchange")]
    RekeyOverdue,
    /// A peer that asks for replies and doesn't read them.
    #[error("the peer does not read the replies it asks for")]
    RepliesUnread,
    /// Too much was sent while a key exchange runs.
    #[error("more than {limit} bytes wait for the key exchange")]
    QueueFull {
        /// The bound, in bytes.
        limit: usize,
    },
    /// A payload that is empty or longer than [`MAX_PAYLOAD`](crate::MAX_PAYLOAD).
    #[error("a payload of {length} bytes cannot be sent")]
    PayloadLength {
        /// Its length.
        length: usize,
    },
    /// The cryptographic library refused, e.g. for lack of randomness.
    #[error("the cryptographic library failed")]
    Crypto,
    /// The transport is over.
    #[error("the connection is closed")]
    Closed,
}

impl TransportError {
    /// The reason code with which the peer is told (RFC 4250 §4.2.2).
    pub fn reason(&self) -> u32 {
        match self {
            Self::NotSsh | Self::VersionTooLong | Self::VersionUnsupported { .. } => {
                reason::PROTOCOL_VERSION_NOT_SUPPORTED
            }
            Self::Tampered => reason::MAC_ERROR,
            Self::NoCommonAlgorithm { .. } | Self::StrictRequired | Self::BadExchangeValue | Self::Crypto => {
                reason::KEY_EXCHANGE_FAILED
            }
            Self::HostKeyMalformed | Self::SignatureInvalid | Self::HostKeyRefused(_) | Self::HostKeyChanged => {
                reason::HOST_KEY_NOT_VERIFIABLE
            }
            Self::QueueFull { .. } | Self::PayloadLength { .. } | Self::Closed => reason::BY_APPLICATION,
            Self::PacketTooLong { .. }
            | Self::PacketMalformed
            | Self::MessageMalformed { .. }
            | Self::MessageUnexpected { .. }
            | Self::KexInitNotFirst
            | Self::RekeyOverdue
            | Self::RepliesUnread => reason::PROTOCOL_ERROR,
        }
    }
}
