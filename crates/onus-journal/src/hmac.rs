//! HMAC-SHA256 (RFC 2104) and HKDF (RFC 5869), as far as keys of one hash's length need them.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// HMAC-SHA256 over the parts, one after the other.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut inner_pad = Zeroizing::new([0x36_u8; 64]);
    let mut outer_pad = Zeroizing::new([0x5c_u8; 64]);
    let mut hashed = Zeroizing::new([0; 32]);
    let key = if key.len() > 64 {
        *hashed = Sha256::digest(key).into();
        &hashed[..]
    } else {
        key
    };
    for (at, byte) in key.iter().enumerate() {
        inner_pad[at] ^= byte;
        outer_pad[at] ^= byte;
    }
    let mut inner = Sha256::new_with_prefix(&inner_pad[..]);
    for part in parts {
        inner.update(part);
    }
    let outer = Sha256::new_with_prefix(&outer_pad[..]).chain_update(inner.finalize());
    Zeroizing::new(outer.finalize().into())
}

/// HKDF-Extract.
pub(crate) fn extract(salt: &[u8], secret: &[u8]) -> Zeroizing<[u8; 32]> {
    hmac(salt, &[secret])
}

/// The first 32 bytes of HKDF-Expand: one block, so no chaining.
pub(crate) fn expand(key: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut parts = info.to_vec();
    parts.push(&[0x01]);
    hmac(key, &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    #[test]
    fn rfc_4231() {
        let cases = [
            (vec![0x0b; 20], b"Hi There".to_vec(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (vec![0xaa; 20], vec![0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            ((1..=25).collect(), vec![0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (key, data, expected) in cases {
            assert_eq!(hex::encode(*hmac(&key, &[&data])), expected);
            let (left, right) = data.split_at(data.len() / 2);
            assert_eq!(hex::encode(*hmac(&key, &[left, right])), expected);
        }
    }

    #[test]
    fn rfc_5869() {
        // Only the first 32 bytes of the output keying material; the vectors go on to 42 and 82.
        let prk = extract(&bytes("000102030405060708090a0b0c"), &[0x0b; 22]);
        assert_eq!(hex::encode(*prk), "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        assert_eq!(
            hex::encode(*expand(&prk, &[&bytes("f0f1f2f3f4f5f6f7f8f9")])),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        );

        let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        let prk = extract(&range(0x60, 0xaf), &range(0x00, 0x4f));
        assert_eq!(hex::encode(*prk), "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244");
        assert_eq!(
            hex::encode(*expand(&prk, &[&range(0xb0, 0xff)])),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        );

        let prk = extract(&[], &[0x0b; 22]);
        assert_eq!(hex::encode(*prk), "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04");
        assert_eq!(hex::encode(*expand(&prk, &[])), "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
    }
}
