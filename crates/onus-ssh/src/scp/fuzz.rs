//! Arbitrary bytes on the channels of a copy, from both sides, with a policy that permits some.

use bytes::BytesMut;

use super::{Sink, SinkPiece, Source, parse_command};
use crate::sftp::Hashing;

/// Entry point for a fuzzer: whatever the bytes, both channels must return, and every name that goes upstream must be
/// that of a file below the target.
///
/// The first byte of each step says who sends and how much, the next ones are what; announcements are permitted or
/// refused by turns.
pub fn fuzz(mut data: &[u8]) {
    let words = |flags: &str| ["scp", flags, "--", "/t"].map(str::to_owned);
    let (Some(upload), Some(download)) = (parse_command(&words("-rpt")), parse_command(&words("-rpf"))) else { return };
    let mut sink = Sink::new(&upload, Hashing::Sequential);
    let mut source = Source::new(&download, Hashing::Sequential);
    let (mut up, mut down, mut word, mut came) = (BytesMut::new(), BytesMut::new(), BytesMut::new(), BytesMut::new());
    let (mut uploading, mut downloading, mut permit) = (true, true, false);
    while let Some((&step, rest)) = data.split_first() {
        let (sent, rest) = rest.split_at(usize::from(step & 0x7f).min(rest.len()));
        data = rest;
        let mut replies = Vec::new();
        if step & 0x80 != 0 {
            down.extend_from_slice(sent);
            came.extend_from_slice(sent);
            uploading = uploading && sink.upstream(&mut down, &mut replies).is_ok();
            downloading = downloading && source.upstream(&mut came, &mut replies).is_ok();
        } else {
            up.extend_from_slice(sent);
            word.extend_from_slice(sent);
            while downloading {
                match source.client(&mut word, &mut replies) {
                    Ok(Some(bytes)) => assert!(matches!(&bytes[..], b"\0" | b"\x01refused\n" | b"\x02refused\n")),
                    Ok(None) => break,
                    Err(_) => downloading = false,
                }
            }
        }
        while uploading {
            match sink.client(&mut up) {
                Ok(Some(SinkPiece::Request(request))) => {
                    let below = |name: &str| name == "/t" || name.starts_with("/t/");
                    assert!(request.operation.objects.iter().all(|object| below(&object.name)));
                    assert!(!request.operation.has("dotdot"));
                    permit = !permit;
                    if permit {
                        sink.relayed();
                    } else {
                        let _ = sink.refuse("no");
                    }
                }
                Ok(Some(SinkPiece::Upstream(_) | SinkPiece::Client(_))) => {}
                Ok(None) => break,
                Err(_) => uploading = false,
            }
        }
    }
    let _ = (sink.end(), source.end());
}
