//! A file transfer on a channel: its requests are taken out of the bytes, decided one by one, and put back in order.
//!
//! The protocols themselves are [`crate::sftp`] and [`crate::scp`]; here they are made alike for the proxy.

use crate::scp::{Role, ScpCommand, Sink, SinkPiece, SinkRequest, Source};
use crate::sftp::{self, Hashing, Sftp, Transfer};
use bytes::{Bytes, BytesMut};
use onus_core::operation::Operation;

/// A transfer being followed, with what arrived and was not understood yet.
pub(super) struct Tap {
    protocol: Protocol,
    client: BytesMut,
    upstream: BytesMut,
}

enum Protocol {
    Sftp(Box<Sftp>),
    Sink(Box<Sink>),
    Source(Box<Source>),
}

/// Bytes for the other side, with what must be decided before they go.
pub(super) struct Piece {
    pub bytes: Bytes,
    pub asked: Option<Asked>,
}

/// What a request asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub operations: Vec<Operation>,
    /// In words, for the record.
    pub text: Bytes,
    /// Why the protocol itself refuses it.
    pub forbidden: Option<String>,
    /// How many of the client's bytes it is.
    pub bytes: usize,
    request: Option<sftp::Request>,
}

/// What the client's bytes amount to.
#[derive(Default)]
pub(super) struct Cut {
    pub pieces: Vec<Piece>,
    /// Answers of the gateway's own.
    pub to_client: Vec<Bytes>,
    /// Remarks for the recording.
    pub notes: Vec<String>,
    /// The client's bytes that go nowhere, and for which the other side will never ask again.
    pub swallowed: usize,
}

/// What the other side's bytes amount to.
#[derive(Default)]
pub(super) struct Heard {
    pub to_client: Vec<Bytes>,
    pub notes: Vec<String>,
}

impl Tap {
    pub fn sftp() -> Self {
        Self::new(Protocol::Sftp(Box::new(Sftp::new(Hashing::Sequential))))
    }

    pub fn scp(command: &ScpCommand) -> Self {
        Self::new(match command.role {
            Role::Sink => Protocol::Sink(Box::new(Sink::new(command, Hashing::Sequential))),
            Role::Source => Protocol::Source(Box::new(Source::new(command, Hashing::Sequential))),
        })
    }

    fn new(protocol: Protocol) -> Self {
        Self { protocol, client: BytesMut::new(), upstream: BytesMut::new() }
    }

    /// Takes in bytes of the client's; none to go on after an answer or a decision.
    pub fn client(&mut self, bytes: BytesMut) -> Result<Cut, String> {
        append(&mut self.client, bytes);
        let before = self.client.len();
        let mut cut = Cut::default();
        let mut sent = 0;
        match &mut self.protocol {
            Protocol::Sftp(sftp) => {
                while let Some(piece) = sftp.client(&mut self.client).map_err(|error| error.to_string())? {
                    let piece = match piece {
                        sftp::Piece::Body(bytes) => Piece { bytes, asked: None },
                        sftp::Piece::Request(request) => sftp_piece(request),
                    };
                    sent += piece.bytes.len();
                    cut.pieces.push(piece);
                }
            }
            Protocol::Sink(sink) => {
                while let Some(piece) = sink.client(&mut self.client).map_err(|error| error.to_string())? {
                    match piece {
                        SinkPiece::Upstream(bytes) => {
                            sent += bytes.len();
                            cut.pieces.push(Piece { bytes, asked: None });
                        }
                        SinkPiece::Client(bytes) => cut.to_client.push(bytes),
                        SinkPiece::Request(SinkRequest { bytes, operation }) => {
                            let text = words("scp", &operation);
                            let asked = Asked {
                                operations: vec![operation],
                                text,
                                forbidden: None,
                                bytes: bytes.len(),
                                request: None,
                            };
                            sent += bytes.len();
                            cut.pieces.push(Piece { bytes, asked: Some(asked) });
                        }
                    }
                }
            }
            Protocol::Source(source) => {
                let mut replies = Vec::new();
                while let Some(bytes) =
                    source.client(&mut self.client, &mut replies).map_err(|error| error.to_string())?
                {
                    sent += bytes.len();
                    cut.pieces.push(Piece { bytes, asked: None });
                }
                let heard = sort(replies);
                cut.to_client.extend(heard.to_client);
                cut.notes.extend(heard.notes);
            }
        }
        cut.swallowed = (before - self.client.len()).saturating_sub(sent);
        Ok(cut)
    }

    /// Reads bytes of the other side's.
    pub fn upstream(&mut self, bytes: BytesMut) -> Result<Heard, String> {
        append(&mut self.upstream, bytes);
        let mut replies = Vec::new();
        match &mut self.protocol {
            Protocol::Sftp(sftp) => {
                sftp.upstream(&mut self.upstream, &mut replies).map_err(|error| error.to_string())?;
            }
            Protocol::Sink(sink) => {
                sink.upstream(&mut self.upstream, &mut replies).map_err(|error| error.to_string())?;
            }
            Protocol::Source(source) => {
                source.upstream(&mut self.upstream, &mut replies).map_err(|error| error.to_string())?;
            }
        }
        Ok(sort(replies))
    }

    /// A request goes to the other side now.
    pub fn relayed(&mut self, asked: &Asked) {
        match (&mut self.protocol, &asked.request) {
            (Protocol::Sftp(sftp), Some(request)) => sftp.relayed(request),
            (Protocol::Sink(sink), _) => sink.relayed(),
            _ => {}
        }
    }

    /// A request is refused. Returns what the client is told at once.
    pub fn refuse(&mut self, asked: &Asked, text: &str) -> Option<Bytes> {
        let line = text.replace("\n  ", "; ").replace('\n', " ");
        match (&mut self.protocol, &asked.request) {
            (Protocol::Sftp(sftp), Some(request)) => sftp.refuse(request, &line),
            (Protocol::Sink(sink), _) => Some(sink.refuse(&line)),
            _ => None,
        }
    }

    /// Whether nothing more can pass.
    pub fn is_over(&self) -> bool {
        match &self.protocol {
            Protocol::Sftp(_) => false,
            Protocol::Sink(sink) => sink.is_over(),
            Protocol::Source(source) => source.is_over(),
        }
    }

    /// The channel ended: what was under way, for the record.
    pub fn ended(self) -> Vec<String> {
        let replies = match self.protocol {
            Protocol::Sftp(sftp) => sftp.end().into_iter().map(sftp::Reply::Transfer).collect(),
            Protocol::Sink(sink) => sink.end(),
            Protocol::Source(source) => source.end(),
        };
        sort(replies).notes
    }
}

/// Puts bytes behind those that wait, without copying where none do.
fn append(waiting: &mut BytesMut, bytes: BytesMut) {
    if waiting.is_empty() {
        *waiting = bytes;
    } else {
        waiting.extend_from_slice(&bytes);
    }
}

fn sftp_piece(request: sftp::Request) -> Piece {
    let bytes = request.bytes.clone();
    let forbidden = request.forbidden.as_ref().map(|forbidden| forbidden.why.to_owned());
    if request.operation.is_none() && forbidden.is_none() {
        return Piece { bytes, asked: None };
    }
    let text = match &request.operation {
        Some(operation) => words("sftp", operation),
        None => Bytes::from_static(b"(sftp)"),
    };
    let operations = request.operation.iter().cloned().collect();
    Piece { asked: Some(Asked { operations, text, forbidden, bytes: bytes.len(), request: Some(request) }), bytes }
}

/// `(sftp file.read /var/log/syslog)`
fn words(protocol: &str, operation: &Operation) -> Bytes {
    let mut names: Vec<&str> = operation.objects.iter().map(|object| object.name.as_str()).collect();
    names.dedup();
    Bytes::from(format!("({protocol} {} {})", operation.action, names.join(" ")))
}

fn sort(replies: Vec<sftp::Reply>) -> Heard {
    let mut heard = Heard::default();
    for reply in replies {
        match reply {
            sftp::Reply::ToClient(bytes) => heard.to_client.push(bytes),
            sftp::Reply::Transfer(transfer) => heard.notes.push(note(&transfer)),
        }
    }
    heard
}

/// `transfer read /var/log/syslog: 1234 bytes, sha256 …, complete`
fn note(transfer: &Transfer) -> String {
    let Transfer { path, direction, bytes, sha256, complete, copied } = transfer;
    let mut text = format!("transfer {} {path}: {bytes} bytes", direction.as_str());
    if let Some(hash) = sha256 {
        text.push_str(", sha256 ");
        text.extend(hash.iter().map(|byte| format!("{byte:02x}")));
    }
    text.push_str(if *complete { ", complete" } else { ", not complete" });
    if *copied {
        text.push_str(", and copied on the host");
    }
    text
}
