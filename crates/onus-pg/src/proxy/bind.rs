//! The part of Bind that holds the parameters: its check, and what of it is recorded.

use crate::frame::Body;
use bytes::Bytes;
use onus_pep::{Param, Violation};

/// Checks everything in a Bind after the two names: parameter formats, parameters, result formats, and nothing else.
pub(super) fn check(mut body: Body<'_>) -> Result<(), Violation> {
    let formats = body.count()?;
    body.take(formats * 2)?;
    for _ in 0..body.count()? {
        let length = body.int32()?;
        if length > 0 {
            body.take(length as usize)?;
        } else if length < -1 {
            return Err(Violation::new(crate::frame::PROTOCOL_VIOLATION, "a parameter states an impossible length"));
        }
    }
    let formats = body.count()?;
    body.take(formats * 2)?;
    body.end()
}

/// The parameters for the record, each cut to `each` bytes and all of them together to `all`.
///
/// `bind` was accepted by [`check`]; should it not be readable all the same, what can't be read is not shown.
pub(super) fn params(bind: &Bytes, each: usize, all: usize) -> Vec<Param> {
    let mut shown = Vec::new();
    let _ = read(bind, each, all, &mut shown);
    shown
}

fn read(bind: &Bytes, each: usize, mut all: usize, out: &mut Vec<Param>) -> Result<(), Violation> {
    let mut body = Body::new(bind);
    let count = body.count()?;
    let formats = body.take(count * 2)?;
    let binary = |i: usize| match count {
        0 => false,
        1 => formats[..2] != [0, 0],
        _ => formats.get(i * 2..i * 2 + 2).is_some_and(|f| f != [0, 0]),
    };
    let n = body.count()?;
    out.reserve_exact(n.min(1024));
    for i in 0..n {
        let length = body.int32()?;
        let Ok(length) = usize::try_from(length) else {
            out.push(Param::Null);
            continue;
        };
        let value = body.take(length)?;
        let text = (!binary(i)).then(|| std::str::from_utf8(value).ok()).flatten();
        let mut room = each.min(all).min(length);
        if let Some(text) = text {
            while !text.is_char_boundary(room) {
                room -= 1;
            }
        } else {
            room = room.min(each / 4);
        }
        all -= room;
        let from = bind.len() - body.rest().len() - length;
        let shown = bind.slice(from..from + room);
        out.push(match text {
            Some(_) => Param::Text { shown, bytes: length },
            None => Param::Binary { shown, bytes: length },
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_shown_by_format_and_cut_at_characters() {
        let mut bind = Vec::new();
        bind.extend([0, 2, 0, 0, 0, 1, 0, 3]);
        bind.extend([0, 0, 0, 3]);
        bind.extend("aé".as_bytes());
        bind.extend([0, 0, 0, 2, 0, 255]);
        bind.extend([255, 255, 255, 255, 0, 0]);
        let bind = Bytes::from(bind);
        assert_eq!(check(Body::new(&bind)), Ok(()));
        assert_eq!(
            params(&bind, 2, 100),
            [
                Param::Text { shown: Bytes::from_static(b"a"), bytes: 3 },
                Param::Binary { shown: Bytes::new(), bytes: 2 },
                Param::Null
            ]
        );
        assert_eq!(params(&bind, 100, 100)[1], Param::Binary { shown: Bytes::from_static(&[0, 255]), bytes: 2 });
        assert!(check(Body::new(&bind[..bind.len() - 1])).is_err());
    }
}
