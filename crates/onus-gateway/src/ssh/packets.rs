//! An SSH transport as a stream of packets: what is read from it and written to it are payloads with their length before
//! them, in four bytes. So the session task, which moves bytes, needs to know nothing of SSH.
//!
//! It holds no more than a packet on the way in, and stops taking when too much is on the way out.

use bytes::{Buf, Bytes, BytesMut};
use onus_ssh_transport::{Event, Transport};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait for the socket before nothing more is taken.
const WAITING: usize = 256 * 1024;

/// How much is read at once while there is much to read, and while there is little.
const MUCH: usize = 128 * 1024;
const LITTLE: usize = 4 * 1024;

/// How long keys are used at most (RFC 4253, section 9).
const REKEY_AFTER: Duration = Duration::from_secs(3600);

/// A socket with an SSH transport on it, after authentication.
pub struct Packets<S> {
    socket: S,
    transport: Transport,
    /// The packet that is being read: what is left of its length and payload.
    head: Bytes,
    payload: Bytes,
    /// How much the last reads brought.
    much: bool,
    ended: bool,
    keyed: Instant,
}

impl<S> Packets<S> {
    /// Takes over a connection.
    pub fn new(socket: S, transport: Transport) -> Self {
        Self {
            socket,
            transport,
            head: Bytes::new(),
            payload: Bytes::new(),
            much: false,
            ended: false,
            keyed: Instant::now(),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Packets<S> {
    /// Writes what is on the way out, as far as the socket takes it.
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.transport.output().is_empty() {
            let output = self.transport.output();
            match Pin::new(&mut self.socket).poll_write(cx, output) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.transport.output().advance(n),
                other => return other.map_ok(drop),
            }
        }
        let output = self.transport.output();
        if output.capacity() > LITTLE && !self.much {
            *output = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads from the socket into the transport. `false` at its end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let wanted = if self.much { MUCH } else { LITTLE };
        let input = self.transport.input();
        input.reserve(wanted);
        let before = input.len();
        let read = std::pin::pin!(tokio::io::AsyncReadExt::read_buf(&mut self.socket, input));
        match std::future::Future::poll(read, cx) {
            Poll::Ready(Ok(_)) => {
                let n = self.transport.input().len() - before;
                self.much = n >= wanted.min(LITTLE) && n > 1024;
                Poll::Ready(Ok(n > 0))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // An idle session holds no buffer.
                let input = self.transport.input();
                if input.is_empty() {
                    *input = BytesMut::new();
                    self.much = false;
                }
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Packets<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let began = buf.filled().len();
        loop {
            for part in [&mut this.head, &mut this.payload] {
                let n = part.len().min(buf.remaining());
                buf.put_slice(&part[..n]);
                part.advance(n);
            }
            if buf.remaining() == 0 || this.ended {
                return Poll::Ready(Ok(()));
            }
            match this.transport.next().map_err(io::Error::other)? {
                Some(Event::Packet(payload)) => {
                    // Whole packets, where they fit at all: who stops reading then stops between two.
                    let fits = payload.len() + 4 <= buf.remaining();
                    this.head = Bytes::copy_from_slice(&(payload.len() as u32).to_be_bytes());
                    this.payload = payload;
                    if !fits && buf.filled().len() > began {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
                Some(Event::Ready) => continue,
                Some(Event::Disconnected { .. }) => {
                    this.ended = true;
                    return Poll::Ready(Ok(()));
                }
                None => {}
            }
            // What the transport has to say by itself: a key exchange's part, mostly.
            if !this.transport.output().is_empty()
                && let Poll::Ready(Err(error)) = this.drain(cx)
            {
                return Poll::Ready(Err(error));
            }
            if buf.filled().len() > began {
                return Poll::Ready(Ok(()));
            }
            if !ready!(this.fill(cx))? {
                this.ended = true;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Packets<S> {
    /// Takes whole packets only; the session task hands them over whole.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.transport.output().len() >= WAITING || this.transport.queued() > 0 {
            ready!(this.drain(cx))?;
            if this.transport.queued() >= WAITING {
                // A key exchange is under way; its answer wakes the reading side, which drives the rest.
                return Poll::Pending;
            }
        }
        let mut taken = 0;
        while let Some(length) = bytes.get(taken..taken + 4) {
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let Some(payload) = bytes.get(taken + 4..taken + 4 + length) else { break };
            match payload {
                [1, rest @ ..] => {
                    let mut fields = onus_ssh::message::Fields(rest);
                    let reason = fields.number().unwrap_or(11);
                    this.transport.disconnect(reason, fields.text().unwrap_or_default());
                }
                _ => this.transport.send(&[payload]).map_err(io::Error::other)?,
            }
            taken += 4 + length;
            if this.transport.output().len() >= WAITING {
                break;
            }
        }
        if taken == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(io::Error::other("half a packet")));
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.keyed.elapsed() >= REKEY_AFTER {
            self.keyed = Instant::now();
            self.transport.rekey().map_err(io::Error::other)?;
        }
        ready!(self.drain(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.disconnect(11, "goodbye");
        ready!(self.drain(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
