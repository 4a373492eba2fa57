//! Addresses as limits see them.

use std::net::IpAddr;

/// Who counts as one sender before anything is known of him: an IPv4 address, or the /64 of an IPv6 address.
pub fn address_group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}
