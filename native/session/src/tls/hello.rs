//! A look at a ClientHello before anybody answers it: does this client speak fabric? Only its ALPN list is read; whatever is odd is left
//! to the TLS stack that then gets the same octets.

use crate::credentials::ALPN;

/// A ClientHello of ours is half a KiB; browsers' with post-quantum shares are 2 KiB.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// Not whole yet.
    Incomplete,
    Fabric,
    Other,
    /// No ClientHello at all, or one that is too large.
    Broken,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_ALPN: usize = 16;

/// What the first octets of a connection are.
pub fn look(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((head, tail)) = rest.split_first_chunk::<5>() else {
            return if rest.first().is_none_or(|kind| *kind == HANDSHAKE) { more(bytes) } else { Hello::Broken };
        };
        let [kind, major, _, high, low] = *head;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE || major != 3 || length == 0 {
            return Hello::Broken;
        }
        message.extend_from_slice(&tail[..length.min(tail.len())]);
        if let Some([kind, a, b, c, body @ ..]) = message.get(..) {
            let wanted = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if *kind != CLIENT_HELLO || wanted > HELLO_BYTES_MAX {
                return Hello::Broken;
            }
            if let Some(body) = body.get(..wanted) {
                return speaks_fabric(body).map_or(Hello::Broken, |fabric| if fabric { Hello::Fabric } else { Hello::Other });
            }
        }
        if tail.len() < length {
            return more(bytes);
        }
        rest = &tail[length..];
    }
}

fn more(bytes: &[u8]) -> Hello {
    if bytes.len() >= HELLO_BYTES_MAX { Hello::Broken } else { Hello::Incomplete }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, octets: usize) -> Option<usize> {
        Some(self.take(octets)?.iter().fold(0, |number, octet| number << 8 | usize::from(*octet)))
    }

    /// Octets behind their length, which takes so many octets itself.
    fn block(&mut self, length_octets: usize) -> Option<Reader<'a>> {
        let length = self.number(length_octets)?;
        self.take(length).map(Reader)
    }
}

fn speaks_fabric(body: &[u8]) -> Option<bool> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?;
    reader.block(1)?;
    reader.block(2)?;
    reader.block(1)?;
    if reader.0.is_empty() {
        return Some(false);
    }
    let mut extensions = reader.block(2)?;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut content = extensions.block(2)?;
        if kind == EXTENSION_ALPN {
            let mut names = content.block(2)?;
            while !names.0.is_empty() {
                if names.block(1)?.0 == ALPN {
                    return Some(true);
                }
            }
            return Some(false);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(names: &[&[u8]], padding: usize) -> Vec<u8> {
        let list: Vec<u8> = names.iter().flat_map(|name| [&[name.len() as u8][..], name].concat()).collect();
        let block = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
        let mut extensions = [vec![0, 21], block(&vec![0; padding])].concat();
        extensions.extend([vec![0, 16], block(&block(&list))].concat());
        let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &block(&extensions)].concat();
        let length = body.len() as u32;
        [&[1][..], &length.to_be_bytes()[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat()).collect()
    }

    #[test]
    fn the_alpn_decides_however_it_is_cut() {
        for (names, expected) in [
            (&[&b"h2"[..], b"selvedge/1"][..], Hello::Fabric),
            (&[b"selvedge/1"], Hello::Fabric),
            (&[b"http/1.1"], Hello::Other),
            (&[b"selvedge/10"], Hello::Other),
            (&[], Hello::Other),
        ] {
            for size in [1, 3, 100, 16_000] {
                let bytes = records(&hello(names, 300), size);
                for end in 0..bytes.len() {
                    let part = look(&bytes[..end]);
                    assert!(part == Hello::Incomplete || part == expected, "{part:?} after {end} of {}", bytes.len());
                }
                assert_eq!(look(&bytes), expected);
            }
        }
    }

    #[test]
    fn what_is_no_hello_or_too_large_is_broken() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"S", &[22, 3, 1, 0, 0, 0], &[22, 3, 1, 0, 4, 2, 0, 0, 0], &[22, 3, 1, 0, 4, 1, 0, 64, 1]] {
            assert_eq!(look(bytes), Hello::Broken, "{bytes:?}");
        }
        assert_eq!(look(&records(&hello(&[b"selvedge/1"], 16_400), 16_000)), Hello::Broken);
        let endless: Vec<u8> = records(&[1, 0, 63, 255], 4).into_iter().chain(records(&[0; 16_000], 1)).take(HELLO_BYTES_MAX).collect();
        assert_eq!(look(&endless), Hello::Broken);
    }

    #[test]
    fn nothing_breaks_the_look() {
        let good = records(&hello(&[b"selvedge/1"], 40), 64);
        for at in 0..good.len() {
            for value in [0, 1, 127, 255] {
                let mut bad = good.clone();
                bad[at] = value;
                look(&bad);
            }
        }
    }
}
