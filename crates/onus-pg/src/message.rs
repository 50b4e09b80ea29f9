//! Building messages of the server's side, and reading the fields of its errors.

use bytes::{BufMut, Bytes, BytesMut};
use onus_pep::Violation;

/// One message: type, length, body.
pub fn message(kind: u8, body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    put_message(&mut out, kind, body);
    out.freeze()
}

/// Appends one message.
pub fn put_message(out: &mut BytesMut, kind: u8, body: &[u8]) {
    out.put_u8(kind);
    out.put_i32(i32::try_from(body.len() + 4).unwrap_or(i32::MAX));
    out.put_slice(body);
}

/// Severity of an ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The session ends.
    Fatal,
    /// The statement failed.
    Error,
    /// For information.
    Notice,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Notice => "NOTICE",
        }
    }
}

/// An ErrorResponse or NoticeResponse to be built.
#[derive(Debug, Clone, Copy)]
pub struct Diagnostic<'a> {
    /// Severity (`S` and `V`); decides between the two message types.
    pub severity: Severity,
    /// SQLSTATE (`C`).
    pub code: &'a str,
    /// The message (`M`), one line.
    pub message: &'a str,
    /// Detail (`D`).
    pub detail: Option<&'a str>,
    /// Hint (`H`): what to do next.
    pub hint: Option<&'a str>,
}

impl Diagnostic<'_> {
    /// The message's bytes. Zero bytes inside a text would end the field early, so they are left out.
    pub fn to_bytes(&self) -> Bytes {
        let mut body = BytesMut::with_capacity(256);
        let mut field = |kind: u8, text: &str| {
            body.put_u8(kind);
            body.extend(text.bytes().filter(|b| *b != 0));
            body.put_u8(0);
        };
        field(b'S', self.severity.as_str());
        field(b'V', self.severity.as_str());
        field(b'C', self.code);
        field(b'M', self.message);
        if let Some(detail) = self.detail {
            field(b'D', detail);
        }
        if let Some(hint) = self.hint {
            field(b'H', hint);
        }
        body.put_u8(0);
        message(if self.severity == Severity::Notice { b'N' } else { b'E' }, &body)
    }
}

/// What an ErrorResponse says, as far as it is needed here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorFields {
    /// `V`, or `S` from servers that have no `V`.
    pub severity: String,
    /// `C`.
    pub code: String,
    /// `M`.
    pub message: String,
}

/// Reads a whole ErrorResponse or NoticeResponse.
pub fn error_fields(message: &[u8]) -> Result<ErrorFields, Violation> {
    let mut body = crate::frame::Body::of_message(message);
    let mut fields = ErrorFields::default();
    loop {
        let kind = body.byte()?;
        if kind == 0 {
            return Ok(fields);
        }
        let text = String::from_utf8_lossy(body.cstr()?);
        match kind {
            b'V' => fields.severity = text.into_owned(),
            b'S' if fields.severity.is_empty() => fields.severity = text.into_owned(),
            b'C' => fields.code = text.into_owned(),
            b'M' => fields.message = text.into_owned(),
            _ => {}
        }
    }
}

/// AuthenticationOk.
pub fn authentication_ok() -> Bytes {
    message(b'R', &0i32.to_be_bytes())
}

/// ParameterStatus.
pub fn parameter_status(name: &str, value: &str) -> Bytes {
    message(b'S', &[name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat())
}

/// BackendKeyData: the key is 4 bytes for protocol 3.0, up to 256 for 3.2.
pub fn backend_key_data(pid: i32, key: &[u8]) -> Bytes {
    message(b'K', &[&pid.to_be_bytes()[..], key].concat())
}

/// ReadyForQuery with the transaction status `I`, `T` or `E`.
pub fn ready_for_query(status: u8) -> Bytes {
    message(b'Z', &[status])
}

/// NegotiateProtocolVersion: the version that is spoken, and the `_pq_.` options that are not.
pub fn negotiate_protocol_version(version: i32, unknown: &[String]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(version);
    body.put_i32(i32::try_from(unknown.len()).unwrap_or(i32::MAX));
    for name in unknown {
        body.put_slice(name.as_bytes());
        body.put_u8(0);
    }
    message(b'v', &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_reads_back() {
        let built = Diagnostic {
            severity: Severity::Error,
            code: "42501",
            message: "no\0pe",
            detail: Some("because"),
            hint: None,
        }
        .to_bytes();
        let read = error_fields(&built).unwrap();
        assert_eq!((read.severity.as_str(), read.code.as_str(), read.message.as_str()), ("ERROR", "42501", "nope"));
        assert_eq!(crate::frame::head(&built), Ok(Some((b'E', built.len()))));
    }

    #[test]
    fn version_negotiation_has_the_bytes_that_the_server_sends() {
        let built = negotiate_protocol_version(196_608, &["_pq_.foo".to_owned()]);
        assert_eq!(&built[..], b"v\0\0\0\x15\0\x03\0\0\0\0\0\x01_pq_.foo\0");
    }
}
