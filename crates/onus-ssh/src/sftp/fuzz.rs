//! Arbitrary bytes on an SFTP channel, from both sides, with a policy that permits some.

use bytes::BytesMut;

use super::{Hashing, Piece, Sftp};

/// Entry point for a fuzzer: whatever the bytes, the channel must return, and nothing forbidden may be mild.
///
/// The first byte of each step says who sends and how much, the next ones are what; what has an operation is permitted
/// or refused by turns.
pub fn fuzz(mut data: &[u8]) {
    let mut sftp = Sftp::new(Hashing::Sequential);
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    let mut permit = false;
    while let Some((&step, rest)) = data.split_first() {
        let (sent, rest) = rest.split_at(usize::from(step & 0x7f).min(rest.len()));
        data = rest;
        if step & 0x80 != 0 {
            down.extend_from_slice(sent);
            if sftp.upstream(&mut down, &mut Vec::new()).is_err() {
                break;
            }
            continue;
        }
        up.extend_from_slice(sent);
        loop {
            let request = match sftp.client(&mut up) {
                Ok(Some(Piece::Request(request))) => request,
                Ok(Some(Piece::Body(body))) => {
                    assert!(!body.is_empty());
                    continue;
                }
                Ok(None) => break,
                Err(_) => return,
            };
            assert!(request.forbidden.is_none() || request.operation.is_none());
            permit = !permit;
            if request.forbidden.is_some() || (request.operation.is_some() && !permit) {
                let _ = sftp.refuse(&request, "no");
            } else {
                sftp.relayed(&request);
            }
        }
    }
    for transfer in sftp.end() {
        assert!(!transfer.complete);
    }
}
