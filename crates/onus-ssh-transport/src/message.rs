//! The numbers of the transport's messages (RFC 4250 §4.1.2) and of the reasons to disconnect (§4.2.2).
//!
//! Messages of authentication and of the connection protocol are not named here: the transport only carries them.

/// Ends the connection, with a reason.
pub const DISCONNECT: u8 = 1;
/// To be ignored.
pub const IGNORE: u8 = 2;
/// Answers a message that was not understood.
pub const UNIMPLEMENTED: u8 = 3;
/// Text for debugging.
pub const DEBUG: u8 = 4;
/// Asks for a service; carried as a packet.
pub const SERVICE_REQUEST: u8 = 5;
/// Grants a service; carried as a packet.
pub const SERVICE_ACCEPT: u8 = 6;
/// Extensions (RFC 8308).
pub const EXT_INFO: u8 = 7;
/// Begins a key exchange.
pub const KEXINIT: u8 = 20;
/// From here on the new keys are used.
pub const NEWKEYS: u8 = 21;
/// The client's half of an exchange, whichever method.
pub const KEX_INIT: u8 = 30;
/// The server's half of an exchange, whichever method.
pub const KEX_REPLY: u8 = 31;
/// The last number that belongs to the transport.
pub const LAST_OF_TRANSPORT: u8 = 49;
/// Asks for a [`PONG`] (`ping@openssh.com`, OpenSSH PROTOCOL §1.10).
pub const PING: u8 = 192;
/// Answers a [`PING`] with its data.
pub const PONG: u8 = 193;

/// Why a connection is ended.
pub mod reason {
    /// A broken protocol.
    pub const PROTOCOL_ERROR: u32 = 2;
    /// No agreement on keys.
    pub const KEY_EXCHANGE_FAILED: u32 = 3;
    /// A packet that was tampered with.
    pub const MAC_ERROR: u32 = 5;
    /// Another version of the protocol.
    pub const PROTOCOL_VERSION_NOT_SUPPORTED: u32 = 8;
    /// The server's key is not the expected one.
    pub const HOST_KEY_NOT_VERIFIABLE: u32 = 9;
    /// Whoever uses the transport has ended it.
    pub const BY_APPLICATION: u32 = 11;
    /// No way left to authenticate.
    pub const NO_MORE_AUTH_METHODS_AVAILABLE: u32 = 14;
}
