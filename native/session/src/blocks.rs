//! Lists of byte strings as one array: [u32 length, big endian][octets]…. One argument of a call instead of many means that
//! nothing of the caller's runs between reading the first and the last.

pub fn unpack(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut list = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*head) as usize;
        if length > tail.len() {
            return None;
        }
        let (block, after) = tail.split_at(length);
        list.push(block);
        rest = after;
    }
    Some(list)
}

pub fn pack<'a>(list: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in list {
        bytes.extend_from_slice(&(block.len() as u32).to_be_bytes());
        bytes.extend_from_slice(block);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks() {
        let packed = pack([&b"ab"[..], b"", b"c"].into_iter());
        assert_eq!(unpack(&packed).unwrap(), vec![&b"ab"[..], b"", b"c"]);
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert!(unpack(&[0, 0, 0, 2, 1]).is_none());
        assert!(unpack(&[0, 0, 1]).is_none());
        assert!(unpack(&[255, 255, 255, 255]).is_none());
    }
}
