//! The other side's packets: passed to the client under the client's own channel numbers, recorded where a person sees
//! them, and read for how things ended.

use super::channel::{Channel, Exit, State};
use super::{Owed, SshProtocol};
use crate::message::{Fields, PREFIX, Packet, bare, data, error_data, exit_status, next, number};
use bytes::{Bytes, BytesMut};
use onus_pep::{Done, Failure, Reply, Tape, Track, Violation};
use onus_terminal::{EventKind, Typed};

/// How much of the error stream is looked at for the word about the process group.
const ANNOUNCED: usize = 8 * 1024;

/// What a client is told of a channel that the other side did not open.
const NOT_OPENED: &str = "onus: the host did not open a channel for this";

/// Notes what was typed; it is recorded when it was echoed.
pub(super) fn typed(channel: &mut Channel, bytes: &[u8]) {
    if let Some(echo) = &mut channel.echo {
        echo.input(bytes, &mut channel.heard);
    }
}

/// What may be recorded of what was typed.
fn echoed(lane: u32, typed: Typed) -> Vec<Tape> {
    let piece = |kind| match kind {
        EventKind::Input(bytes) => Some(Tape { lane, track: Track::Input, bytes: bytes.into() }),
        EventKind::Marker(text) => Some(Tape { lane, track: Track::Marker, bytes: text.into() }),
        _ => None,
    };
    typed.into_kinds().into_iter().filter_map(piece).collect()
}

/// How what ran on a channel went.
pub(super) fn done(channel: &Channel) -> Done {
    let (tag, failure) = match &channel.exit {
        Some(exit) => {
            let failed = exit.code() != 0;
            (exit.tag(), failed.then(|| Failure { code: exit.tag(), message: String::new() }))
        }
        None => ("closed".to_owned(), None),
    };
    Done {
        op: channel.op,
        tag: tag.into(),
        rows: 0,
        bytes_in: channel.bytes_in,
        bytes_out: channel.bytes_out,
        failure,
        skipped: false,
        micros: channel.last.saturating_sub(channel.began),
    }
}

impl SshProtocol {
    pub(super) fn hear(
        &mut self,
        buffer: &mut BytesMut,
        micros: u64,
        replies: &mut Vec<Reply>,
    ) -> Result<(), Violation> {
        let result = loop {
            match next(buffer) {
                Ok(Some(length)) => {
                    let packet = buffer.split_to(length);
                    if let Err(violation) = self.heard(packet, micros, replies) {
                        break Err(violation);
                    }
                }
                Ok(None) => break Ok(()),
                Err(text) => break Err(Violation::new("malformed", text)),
            }
        };
        // One piece of tape for all that came at once: it stands before the first of it.
        for (at, lane, track, bytes) in self.gathered.drain(..) {
            replies[at] = Reply::Tape(Tape { lane, track, bytes: bytes.freeze() });
        }
        result
    }

    /// Records output that goes to the client, before it does.
    fn gather(&mut self, lane: u32, track: Track, bytes: &[u8], replies: &mut Vec<Reply>) {
        match self.gathered.iter_mut().rev().find(|(_, of, ..)| *of == lane) {
            Some((_, _, same, all)) if *same == track => all.extend_from_slice(bytes),
            _ => {
                let empty = Tape { lane, track, bytes: Bytes::new() };
                self.gathered.push((replies.len(), lane, track, BytesMut::from(bytes)));
                replies.push(Reply::Tape(empty));
            }
        }
    }

    fn heard(&mut self, mut packet: BytesMut, micros: u64, replies: &mut Vec<Reply>) -> Result<(), Violation> {
        let malformed = || Violation::new("malformed", "a malformed packet from the host");
        let mut fields = Fields(&packet[PREFIX..]);
        let kind = fields.byte().ok_or_else(malformed)?;
        match kind {
            number::CHANNEL_DATA | number::CHANNEL_EXTENDED_DATA => {
                let id = fields.number().ok_or_else(malformed)?;
                let error = kind == number::CHANNEL_EXTENDED_DATA;
                if error {
                    fields.number().ok_or_else(malformed)?;
                }
                let length = fields.string().ok_or_else(malformed)?.len();
                return self.output(id, error, length, packet, micros, replies);
            }
            number::CHANNEL_WINDOW_ADJUST => {
                let (id, more) = fields.number().zip(fields.number()).ok_or_else(malformed)?;
                let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
                if channel.parent.is_some() {
                    if let Some((parent, shell)) = self.parent(id) {
                        let acts = shell.credit(more);
                        self.acts(parent, acts);
                    }
                } else if let (Some(client), State::Running) = (channel.client, &channel.state) {
                    packet[PREFIX + 1..PREFIX + 5].copy_from_slice(&client.to_be_bytes());
                    replies.push(Reply::ToClient(packet.freeze()));
                } else {
                    channel.upstream_window = channel.upstream_window.saturating_add(more);
                }
            }
            number::CHANNEL_OPEN_CONFIRMATION => {
                let id = fields.number().ok_or_else(malformed)?;
                let upstream = fields.number().ok_or_else(malformed)?;
                let (window, largest) = fields.number().zip(fields.number()).ok_or_else(malformed)?;
                self.opened(id, upstream, window, largest, replies);
            }
            number::CHANNEL_OPEN_FAILURE => {
                let id = fields.number().ok_or_else(malformed)?;
                let rest = Bytes::copy_from_slice(fields.0);
                let reason = fields.number().and_then(|_| fields.text()).unwrap_or_default();
                let reason = onus_terminal::visible(reason);
                self.not_opened(id, &reason, &rest, replies);
            }
            number::CHANNEL_EOF => {
                let id = fields.number().ok_or_else(malformed)?;
                if let Some(client) = self.to_client(id) {
                    replies.push(Reply::ToClient(bare(kind, client)));
                }
            }
            number::CHANNEL_CLOSE => {
                let id = fields.number().ok_or_else(malformed)?;
                self.closed(id, micros, replies);
            }
            number::CHANNEL_SUCCESS | number::CHANNEL_FAILURE => {
                let id = fields.number().ok_or_else(malformed)?;
                let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
                let want = channel.answer_owed.take().unwrap_or_default();
                if kind == number::CHANNEL_FAILURE
                    && let Some((parent, shell)) = self.parent(id)
                {
                    let acts = shell.failed("the host refused to run it");
                    self.acts(parent, acts);
                }
                if let Some(client) = self.to_client(id).filter(|_| want) {
                    replies.push(Reply::ToClient(bare(kind, client)));
                }
            }
            number::CHANNEL_REQUEST => {
                let id = fields.number().ok_or_else(malformed)?;
                let name = fields.text().ok_or_else(malformed)?.to_owned();
                let want = fields.flag().ok_or_else(malformed)?;
                let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
                channel.last = micros;
                match name.as_str() {
                    "exit-status" => channel.exit = fields.number().map(Exit::Status),
                    "exit-signal" => {
                        let name = fields.text().unwrap_or("?");
                        channel.exit = Some(Exit::Signal(onus_terminal::visible(name)));
                    }
                    _ => {}
                }
                if want {
                    // OpenSSH's keep-alive: any answer will do.
                    if let Some(upstream) = channel.upstream {
                        self.send(id, bare(number::CHANNEL_FAILURE, upstream));
                    }
                    return Ok(());
                }
                // Also after the client's own CLOSE: it sends that when both streams have ended, which may be before the
                // exit status comes, and waits for it until ours.
                if let Some(client) = self.channels.get(&id).filter(|c| !c.told_client).and_then(|c| c.client) {
                    packet[PREFIX + 1..PREFIX + 5].copy_from_slice(&client.to_be_bytes());
                    replies.push(Reply::ToClient(packet.freeze()));
                }
            }
            number::CHANNEL_OPEN => self.offered(&packet.freeze(), replies)?,
            number::REQUEST_SUCCESS | number::REQUEST_FAILURE => {
                if let Some(Owed::Upstream) = self.owed.pop_front() {
                    replies.push(Reply::ToClient(packet.freeze()));
                }
                while let Some(Owed::Ours(answer)) = self.owed.front() {
                    replies.push(Reply::ToClient(answer.clone()));
                    self.owed.pop_front();
                }
            }
            number::GLOBAL_REQUEST => {
                // The host's keys are the gateway's affair, and so are its keep-alives.
                let name = fields.text().unwrap_or_default().to_owned();
                let want = fields.flag().unwrap_or_default();
                if name == super::ASSURANCE
                    && let Some(claims) = fields.text().filter(|claims| claims.len() <= super::CLAIMS)
                {
                    // Recorded as the host's word, and not believed: the session's tier stays what it is.
                    let text = format!("the host says what it enforces: {}", onus_terminal::visible(claims));
                    replies.push(Reply::Tape(Tape { lane: 0, track: Track::Marker, bytes: text.into() }));
                }
                if want {
                    self.send(0, Packet::new(number::REQUEST_FAILURE).done());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The client's number of a channel that the client still has open.
    fn to_client(&self, id: u32) -> Option<u32> {
        self.channels.get(&id).filter(|c| !c.told_client && !c.client_closed).and_then(|c| c.client)
    }

    fn output(
        &mut self,
        id: u32,
        error: bool,
        length: usize,
        mut packet: BytesMut,
        micros: u64,
        replies: &mut Vec<Reply>,
    ) -> Result<(), Violation> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        let head = packet.len() - length;
        if error && channel.announcing.is_some() {
            let Some(rest) = self.announced(id, &packet[head..]) else { return Ok(()) };
            if rest.is_empty() {
                return Ok(());
            }
            packet.truncate(head - 4);
            packet.extend_from_slice(&(rest.len() as u32).to_be_bytes());
            packet.extend_from_slice(&rest);
            let whole = (packet.len() - PREFIX) as u32;
            packet[..PREFIX].copy_from_slice(&whole.to_be_bytes());
            return self.output(id, error, rest.len(), packet, micros, replies);
        }
        channel.bytes_out += length as u64;
        channel.last = micros;
        if channel.parent.is_some() {
            let bytes = packet.split_off(head);
            if let Some(captured) = &mut channel.captured {
                if captured.len() < super::governed::CAPTURED {
                    captured.extend_from_slice(&bytes);
                }
                if let Some(upstream) = channel.upstream {
                    let more = Packet::of(number::CHANNEL_WINDOW_ADJUST, upstream).number(length as u32);
                    self.send(id, more.done());
                }
                return Ok(());
            }
            if let Some((parent, shell)) = self.parent(id) {
                let acts = shell.output(&bytes, error);
                self.acts(parent, acts);
            }
            return Ok(());
        }
        let Some(client) = channel.client.filter(|_| !channel.told_client && !channel.client_closed) else {
            return Ok(());
        };
        if let (Some(tap), false) = (&mut channel.tap, error) {
            let bytes = packet.split_off(head);
            let heard = tap.upstream(bytes).map_err(|text| Violation::new("transfer", text))?;
            let largest = channel.packet;
            for piece in heard.to_client {
                replies.push(Reply::ToClient(data(client, &piece, largest)));
            }
            for note in heard.notes {
                replies.push(Reply::Tape(Tape { lane: id, track: Track::Marker, bytes: note.into() }));
            }
            return self.transfer(id, BytesMut::new());
        }
        let terminal = channel.terminal.is_some();
        if terminal || (channel.session && channel.taped < self.options.record_output) {
            let left = self.options.record_output.saturating_sub(channel.taped) as usize;
            let shown = if terminal { length } else { length.min(left) };
            channel.taped += shown as u64;
            if let Some(echo) = &mut channel.echo {
                echo.output(&packet[head..], &mut channel.heard);
            }
            let input: Vec<Tape> = channel.heard.drain(..).flat_map(|typed| echoed(id, typed)).collect();
            let track = if error { Track::Error } else { Track::Output };
            let bytes = packet[head..head + shown].to_vec();
            self.gather(id, track, &bytes, replies);
            replies.extend(input.into_iter().map(Reply::Tape));
            let full = !terminal && left <= length;
            if full {
                let text = "more output follows that is counted and not recorded";
                replies.push(Reply::Tape(Tape { lane: id, track: Track::Marker, bytes: text.into() }));
            }
        }
        packet[PREFIX + 1..PREFIX + 5].copy_from_slice(&client.to_be_bytes());
        replies.push(Reply::ToClient(packet.freeze()));
        Ok(())
    }

    /// Takes the word about the process group out of the error stream: what is left of what came so far, or `None` while
    /// it may still come.
    fn announced(&mut self, id: u32, bytes: &[u8]) -> Option<BytesMut> {
        let marker = self.group_mark();
        let channel = self.channels.get_mut(&id)?;
        let kept = channel.announcing.as_mut()?;
        kept.extend_from_slice(bytes);
        let found = kept.windows(marker.len()).position(|window| window == marker.as_bytes());
        let end = found.and_then(|at| Some(at + kept[at..].iter().position(|b| *b == b'\n')? + 1));
        let (Some(at), Some(end)) = (found, end) else {
            // A login shell's own complaints may come first; more than this is something else.
            return if kept.len() > ANNOUNCED { channel.announcing.take() } else { None };
        };
        let mut all = channel.announcing.take()?;
        let after = all.split_off(end);
        let word = all.split_off(at);
        channel.group = std::str::from_utf8(&word[marker.len()..]).ok().and_then(|text| text.trim().parse().ok());
        all.extend_from_slice(&after);
        if let Some(upstream) = channel.upstream {
            // It was for us: the client's window must not shrink by it.
            let more = Packet::of(number::CHANNEL_WINDOW_ADJUST, upstream).number(word.len() as u32);
            self.send(id, more.done());
        }
        Some(all)
    }

    fn opened(&mut self, id: u32, upstream: u32, window: u32, largest: u32, replies: &mut Vec<Reply>) {
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.upstream.is_none()) else { return };
        channel.upstream = Some(upstream);
        channel.upstream_window = window;
        channel.upstream_packet = largest;
        let orphan = channel.parent.is_some() && !matches!(channel.state, State::Over) && self.parent(id).is_none();
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.client_closed || orphan {
            channel.state = State::Over;
            channel.told_upstream = true;
            let client = channel.client.filter(|_| !std::mem::replace(&mut channel.told_client, true));
            self.send(id, bare(number::CHANNEL_CLOSE, upstream));
            replies.extend(client.map(|client| Reply::ToClient(bare(number::CHANNEL_CLOSE, client))));
            return;
        }
        if channel.session {
            self.start(id);
        } else if let Some(client) = channel.client {
            channel.state = State::Running;
            let confirm = Packet::of(number::CHANNEL_OPEN_CONFIRMATION, client).number(id).number(window);
            replies.push(Reply::ToClient(confirm.number(largest).done()));
        }
    }

    fn not_opened(&mut self, id: u32, reason: &str, rest: &Bytes, replies: &mut Vec<Reply>) {
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| channel.upstream.is_none()) else { return };
        if channel.parent.is_some() {
            let text = format!("the host did not open a channel for it: {reason}");
            if let Some((parent, shell)) = self.parent(id) {
                let acts = shell.failed(&text);
                self.acts(parent, acts);
            }
            self.channels.remove(&id);
            return;
        }
        let Some(client) = channel.client else { return };
        if !channel.session {
            let answer = Packet::of(number::CHANNEL_OPEN_FAILURE, client).raw(rest).done();
            replies.push(Reply::ToClient(answer));
            self.finish(id);
            self.channels.remove(&id);
            return;
        }
        let State::Opening(pending) = std::mem::replace(&mut channel.state, State::Over) else { return };
        channel.told_client = true;
        if pending.want {
            replies.push(Reply::ToClient(bare(number::CHANNEL_SUCCESS, client)));
        }
        let text = format!("{NOT_OPENED}: {reason}\n");
        let largest = channel.packet;
        replies.push(Reply::ToClient(error_data(client, text.as_bytes(), largest)));
        replies.push(Reply::ToClient(exit_status(client, 255)));
        replies.push(Reply::ToClient(bare(number::CHANNEL_EOF, client)));
        replies.push(Reply::ToClient(bare(number::CHANNEL_CLOSE, client)));
        self.tidy(id);
    }

    fn closed(&mut self, id: u32, micros: u64, replies: &mut Vec<Reply>) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.upstream_closed = true;
        channel.last = micros;
        let mut late = Vec::new();
        if let Some(mut echo) = channel.echo.take() {
            echo.finish(&mut late);
        }
        let answer = channel.upstream.filter(|_| !std::mem::replace(&mut channel.told_upstream, true));
        let client = channel.client.filter(|_| !std::mem::replace(&mut channel.told_client, true));
        let notes = channel.tap.take().map(|tap| tap.ended()).unwrap_or_default();
        let exit = channel.exit.clone();
        let unsaid = channel.announcing.take().filter(|kept| !kept.is_empty());
        let largest = channel.packet;
        let recorded = channel.taped > 0 || channel.terminal.is_some();
        let captured = channel.captured.take();
        channel.state = State::Over;
        if let Some(upstream) = answer {
            self.send(id, bare(number::CHANNEL_CLOSE, upstream));
        }
        replies.extend(late.into_iter().flat_map(|typed| echoed(id, typed)).map(Reply::Tape));
        for note in notes {
            replies.push(Reply::Tape(Tape { lane: id, track: Track::Marker, bytes: note.into() }));
        }
        if let (Some(exit), true) = (&exit, recorded && client.is_some()) {
            let bytes = exit.code().to_string().into();
            replies.push(Reply::Tape(Tape { lane: id, track: Track::Exit, bytes }));
        }
        if let Some(client) = client {
            if let Some(unsaid) = &unsaid {
                replies.push(Reply::ToClient(error_data(client, unsaid, largest)));
            }
            replies.push(Reply::ToClient(bare(number::CHANNEL_CLOSE, client)));
        }
        self.finish(id);
        if let (Some(unsaid), Some((parent, shell))) = (&unsaid, self.parent(id)) {
            let acts = shell.output(unsaid, true);
            self.acts(parent, acts);
        }
        // Not of a line that was refused or could not be run: the shell is past that one.
        if let Some((parent, shell)) = self.parent(id).filter(|(_, shell)| shell.running() == Some(id)) {
            let acts = shell.finished(exit.map_or(255, |exit| exit.code()), captured.map(BytesMut::freeze));
            self.acts(parent, acts);
        }
        self.tidy(id);
    }

    /// A channel that the resource opens: only for what the client lent or listens on.
    fn offered(&mut self, packet: &Bytes, replies: &mut Vec<Reply>) -> Result<(), Violation> {
        let malformed = || Violation::new("malformed", "a malformed channel request from the host");
        let mut fields = Fields(&packet[PREFIX + 1..]);
        let kind = fields.text().ok_or_else(malformed)?.to_owned();
        let sender = fields.number().ok_or_else(malformed)?;
        let (window, largest) = fields.number().zip(fields.number()).ok_or_else(malformed)?;
        let rest = Bytes::copy_from_slice(fields.0);
        let lent = match kind.as_str() {
            "forwarded-tcpip" | "forwarded-streamlocal@openssh.com" => self.listening,
            "auth-agent@openssh.com" => self.channels.values().any(|channel| channel.agent),
            "x11" => self.channels.values().any(|channel| channel.x11.is_some()),
            _ => false,
        };
        if !lent || self.channels.len() >= super::CHANNELS {
            let refused = Packet::of(number::CHANNEL_OPEN_FAILURE, sender).number(1);
            self.send(0, refused.string("onus: nobody asked for this").string("").done());
            return Ok(());
        }
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).ok_or_else(|| Violation::new("channel", "no numbers left"))?;
        let mut channel = Channel::new(None, 0, largest);
        channel.session = false;
        channel.upstream = Some(sender);
        channel.state = State::Deciding;
        self.channels.insert(id, channel);
        let text = format!("the host opened {kind}").into();
        replies.push(Reply::Tape(Tape { lane: id, track: Track::Marker, bytes: text }));
        let open = Packet::new(number::CHANNEL_OPEN).string(&kind).number(id).number(window).number(largest);
        replies.push(Reply::ToClient(open.raw(&rest).done()));
        Ok(())
    }
}
