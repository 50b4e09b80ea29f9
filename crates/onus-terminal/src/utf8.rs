//! Text out of a byte stream that is cut anywhere.
//!
//! Lossy on purpose: bytes that are no UTF-8 become U+FFFD. Whoever needs the bytes themselves as evidence keeps them
//! elsewhere.

/// An incremental UTF-8 decoder for one stream.
///
/// A sequence torn at the end of a chunk is held until the next chunk; what can't become valid any more is replaced
/// by U+FFFD, one for each maximal invalid part. However the bytes are cut, the text is the same.
#[derive(Debug, Clone, Default)]
pub struct Utf8Decoder {
    held: [u8; 4],
    held_len: usize,
}

impl Utf8Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes `bytes` and appends the text to `out`.
    pub fn decode(&mut self, bytes: &[u8], out: &mut String) {
        let mut rest = bytes;
        while self.held_len > 0 {
            let Some((&first, after)) = rest.split_first() else { return };
            self.held[self.held_len] = first;
            match std::str::from_utf8(&self.held[..self.held_len + 1]) {
                Ok(text) => {
                    out.push_str(text);
                    self.held_len = 0;
                    rest = after;
                }
                Err(error) if error.error_len().is_none() => {
                    self.held_len += 1;
                    rest = after;
                }
                // The new byte doesn't belong to the held ones: those are invalid, and it starts afresh.
                Err(_) => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.held_len = 0;
                }
            }
        }
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    return;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    out.push_str(std::str::from_utf8(good).unwrap_or_default());
                    match error.error_len() {
                        Some(length) => {
                            out.push(char::REPLACEMENT_CHARACTER);
                            rest = &bad[length..];
                        }
                        None => {
                            self.held[..bad.len()].copy_from_slice(bad);
                            self.held_len = bad.len();
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Ends the stream: what was held for a rest that never came becomes one U+FFFD.
    pub fn finish(&mut self, out: &mut String) {
        if self.held_len > 0 {
            out.push(char::REPLACEMENT_CHARACTER);
            self.held_len = 0;
        }
    }

    /// Whether a torn sequence is held.
    pub fn is_torn(&self) -> bool {
        self.held_len > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> String {
        let mut decoder = Utf8Decoder::new();
        let mut out = String::new();
        for chunk in chunks {
            decoder.decode(chunk, &mut out);
        }
        decoder.finish(&mut out);
        out
    }

    #[test]
    fn a_torn_euro_sign_is_held() {
        let mut decoder = Utf8Decoder::new();
        let mut out = String::new();
        decoder.decode(b"\xe2\x82", &mut out);
        assert_eq!((out.as_str(), decoder.is_torn()), ("", true));
        decoder.decode(b"\xac", &mut out);
        assert_eq!((out.as_str(), decoder.is_torn()), ("\u{20ac}", false));
    }

    #[test]
    fn what_is_invalid_is_replaced() {
        assert_eq!(decode(&[b"a\xff\xfeb"]), "a\u{fffd}\u{fffd}b");
        assert_eq!(decode(&[b"\xe2\x82", b"x"]), "\u{fffd}x");
        assert_eq!(decode(&[b"\xed\xa0\x80"]), "\u{fffd}\u{fffd}\u{fffd}", "a lone surrogate is never produced");
        assert_eq!(decode(&[b"\xf0\x9f"]), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn any_chunking_gives_what_the_standard_library_gives(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac), Just(0xf0)], 0..60),
            cuts in prop::collection::vec(0usize..60, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(decode(&chunks), String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
