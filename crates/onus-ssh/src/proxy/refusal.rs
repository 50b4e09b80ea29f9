//! How a refusal is spelled in SSH: words on the error stream and exit status 126, a channel that is not opened, or a
//! request that fails. The session goes on.

use super::channel::State;
use super::{Note, SshProtocol, bare_global};
use crate::message::{Packet, bare, data, disconnect, error_data, exit_status, joined, number};
use bytes::Bytes;
use onus_pep::{EndCause, Refusal, RefusalKind};
use onus_terminal::visible;

/// What a shell says of a command that it may not run (POSIX, 2.8.2).
pub(super) const REFUSED: u32 = 126;

/// The words of a refusal, one to three lines.
pub(super) fn words(refusal: &Refusal<'_>) -> String {
    let Refusal { kind, decision, view } = refusal;
    let why = decision.reasons.first().map(String::as_str);
    let why = why.or(decision.determining.first().map(|d| d.why.as_str())).unwrap_or("no policy permits it");
    let mut text = match kind {
        RefusalKind::Denied { .. } => format!("onus: refused: {}", visible(why)),
        RefusalKind::Expired => "onus: refused: nobody confirmed it in time".to_owned(),
        RefusalKind::Declined { by, reason } => {
            format!("onus: refused: {} declined it: {}", visible(by), visible(reason))
        }
        RefusalKind::Overtaken => "onus: refused: the rules changed while it waited; run it again".to_owned(),
    };
    for d in &decision.determining {
        text.push_str(&format!("\n  policy `{}`, owned by {}: {}", d.policy, d.owner, visible(&d.why)));
    }
    for reason in decision.reasons.iter().filter(|reason| reason.as_str() != why) {
        text.push_str(&format!("\n  {}", visible(reason)));
    }
    match kind {
        RefusalKind::Expired | RefusalKind::Overtaken | RefusalKind::Denied { code: Some(_) } => {}
        RefusalKind::Denied { .. } | RefusalKind::Declined { .. } => text.push_str(&format!(
            "\n  a role that permits it can be asked for: onus request {} --role ROLE --purpose \"…\"",
            view.resource
        )),
    }
    text
}

impl SshProtocol {
    /// The refusal as the client will be told it.
    pub(super) fn spell(&self, note: &Note, refusal: &Refusal<'_>) -> Bytes {
        let text = words(refusal);
        let client = |id: &u32| self.channels.get(id).and_then(|channel| channel.client);
        match note {
            Note::Start { id, want, line: None, .. } => {
                let Some((client, channel)) = client(id).zip(self.channels.get(id)) else { return Bytes::new() };
                let terminal = channel.terminal.is_some();
                let said = if terminal {
                    data(client, format!("{}\r\n", text.replace('\n', "\r\n")).as_bytes(), channel.packet)
                } else {
                    error_data(client, format!("{text}\n").as_bytes(), channel.packet)
                };
                let mut packets = Vec::new();
                if *want {
                    packets.push(bare(number::CHANNEL_SUCCESS, client));
                }
                packets.push(said);
                packets.push(exit_status(client, REFUSED));
                packets.push(bare(number::CHANNEL_EOF, client));
                packets.push(bare(number::CHANNEL_CLOSE, client));
                joined(packets)
            }
            // In its own words, where it runs.
            Note::Start { .. } | Note::Scene { .. } | Note::Transfer { .. } => text.into(),
            Note::Terminal { id, want, .. }
            | Note::Agent { id, want }
            | Note::Display { id, want, .. }
            | Note::Governed { id, want } => {
                let Some((client, channel)) = client(id).zip(self.channels.get(id)) else { return Bytes::new() };
                let said = error_data(client, format!("{text}\n").as_bytes(), channel.packet);
                let failed = if *want { bare(number::CHANNEL_FAILURE, client) } else { Bytes::new() };
                joined([said, failed])
            }
            Note::Variable { id, want, .. } => {
                client(id).filter(|_| *want).map_or_else(Bytes::new, |id| bare(number::CHANNEL_FAILURE, id))
            }
            Note::Forward { id } => client(id).map_or_else(Bytes::new, |client| {
                let line = text.lines().next().unwrap_or_default();
                Packet::of(number::CHANNEL_OPEN_FAILURE, client).number(1).string(line).string("").done()
            }),
            Note::Listen { want } => {
                if *want {
                    bare_global(number::REQUEST_FAILURE)
                } else {
                    Bytes::new()
                }
            }
            Note::Plain => Bytes::new(),
        }
    }

    /// A frame is refused now. Returns what the client is told at once.
    pub(super) fn refused(&mut self, note: &Note, answer: Bytes) -> Option<Bytes> {
        match note {
            Note::Start { id, line, .. } => {
                let mut upstream = None;
                if let Some(channel) = self.channels.get_mut(id) {
                    channel.state = State::Over;
                    channel.told_client = true;
                    upstream = channel.upstream.filter(|_| !std::mem::replace(&mut channel.told_upstream, true));
                }
                if let Some(upstream) = upstream {
                    self.send(*id, bare(number::CHANNEL_CLOSE, upstream));
                }
                self.decided(*id);
                if line.is_some() {
                    let text = String::from_utf8_lossy(&answer).into_owned();
                    if let Some((parent, shell)) = self.parent(*id) {
                        let acts = shell.refused(&text);
                        self.acts(parent, acts);
                    }
                    return None;
                }
                self.tidy(*id);
            }
            Note::Scene { id, .. } => {
                let text = String::from_utf8_lossy(&answer).into_owned();
                if let Some(State::Governed(shell)) = self.channels.get_mut(id).map(|channel| &mut channel.state) {
                    let acts = shell.refused(&text);
                    self.acts(*id, acts);
                }
                return None;
            }
            Note::Transfer { id, piece } => {
                let text = String::from_utf8_lossy(&answer).into_owned();
                let channel = self.channels.get_mut(id)?;
                let (client, largest) = (channel.client?, channel.packet);
                let tap = channel.tap.as_mut()?;
                let said = tap.refuse(piece, &text);
                // What the other side never got, it never asks for again.
                let missing = piece.bytes;
                if missing > 0 {
                    self.say(Packet::of(number::CHANNEL_WINDOW_ADJUST, client).number(missing as u32).done());
                }
                self.again(*id);
                return said.map(|bytes| data(client, &bytes, largest));
            }
            Note::Terminal { id, .. }
            | Note::Variable { id, .. }
            | Note::Agent { id, .. }
            | Note::Display { id, .. }
            | Note::Governed { id, .. } => self.decided(*id),
            Note::Forward { id } => drop(self.channels.remove(id)),
            Note::Listen { want } => {
                if *want {
                    self.owe(answer);
                }
                return None;
            }
            Note::Plain => {}
        }
        (!answer.is_empty()).then_some(answer)
    }

    /// The last word to everybody, before both sides are closed.
    pub(super) fn last_words(&self, cause: EndCause, text: &str) -> Bytes {
        let text = visible(text);
        let said = match cause {
            EndCause::UpstreamClosed => format!("onus: the host closed the connection: {text}"),
            _ => format!("onus: session ended: {text}"),
        };
        let mut packets = Vec::new();
        for channel in self.channels.values().filter(|channel| channel.session && !channel.told_client) {
            let Some(client) = channel.client else { continue };
            if channel.terminal.is_some() {
                packets.push(data(client, format!("\r\n{said}\r\n").as_bytes(), channel.packet));
            }
        }
        packets.push(disconnect(&said));
        joined(packets)
    }
}
