//! The kernel's pacing of a TCP connection, and its view of the path (tcp(7), `TCP_INFO`).

use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use napi::bindgen_prelude::{Error, Result};

use super::registry::invalid;

/// Offsets in `struct tcp_info` of linux/tcp.h; the kernel only ever appends to it.
const RTT_US: usize = 68;
const BYTES_ACKED: usize = 120;
const NOT_SENT: usize = 144;
const BYTES_SENT: usize = 200;
const BYTES_RETRANSMITTED: usize = 208;
const INFO_BYTES: usize = 216;

/// Octets a second that the kernel lets leave at most; negative: as fast as the congestion window allows.
pub fn pace(stream: &TcpStream, rate: f64) -> Result<()> {
    let rate = if rate >= 0.0 { rate as u64 } else { u64::MAX };
    // SAFETY: eight octets that live through the call.
    let result = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, (&raw const rate).cast(), size_of::<u64>() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(Error::from_reason(std::io::Error::last_os_error().to_string())) }
}

/// The congestion control that keeps what it believed of the path over a pause, and one that everybody may choose.
const KEEPS: &[u8] = b"bbr";
const OTHER: &[u8] = b"reno";
const NAME_BYTES: usize = 16;

/// Begins the congestion control anew where it is BBR: for the kernel that is another one, and back. Others begin anew after a pause by themselves.
pub fn restart(stream: &TcpStream) -> std::io::Result<()> {
    if congestion(stream)? != KEEPS {
        return Ok(());
    }
    // Who may not choose it, where somebody else chose it for this connection, could not come back.
    // SAFETY: numbers only; the descriptor is nobody else's.
    let scratch = match unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) } {
        -1 => return Err(std::io::Error::last_os_error()),
        fd => unsafe { OwnedFd::from_raw_fd(fd) },
    };
    if choose(&scratch, OTHER).and_then(|()| choose(&scratch, KEEPS)).is_err() {
        return Ok(());
    }
    choose(stream, OTHER).and_then(|()| choose(stream, KEEPS))
}

fn congestion(socket: &impl AsRawFd) -> std::io::Result<Vec<u8>> {
    let mut name = [0u8; NAME_BYTES];
    let mut length = NAME_BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into the array, and says how many.
    let result = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_mut_ptr().cast(), &mut length) };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(name.into_iter().take(length as usize).take_while(|octet| *octet != 0).collect())
}

fn choose(socket: &impl AsRawFd, name: &[u8]) -> std::io::Result<()> {
    // SAFETY: the octets live through the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_ptr().cast(), name.len() as libc::socklen_t) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// [smoothed rtt ms, acknowledged, retransmitted, sent, not yet sent]: octets since the connection began, but for the last.
pub fn look(stream: &TcpStream, out: &mut [f64]) -> Result<()> {
    let mut info = [0u8; INFO_BYTES];
    let mut length = INFO_BYTES as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` octets into the array, and says how many.
    let result = unsafe { libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length) };
    if result != 0 {
        return Err(Error::from_reason(std::io::Error::last_os_error().to_string()));
    }
    if (length as usize) < INFO_BYTES {
        return Err(Error::from_reason("this kernel's TCP_INFO is too short"));
    }
    let u32_at = |at: usize| f64::from(u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]));
    let u64_at = |at: usize| {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(&info[at..at + 8]);
        u64::from_ne_bytes(bytes) as f64
    };
    let out = out.get_mut(..5).ok_or_else(|| invalid("the array for the look is too short"))?;
    out.copy_from_slice(&[u32_at(RTT_US) / 1000.0, u64_at(BYTES_ACKED), u64_at(BYTES_RETRANSMITTED), u64_at(BYTES_SENT), u32_at(NOT_SENT)]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn a_connection_goes_on_with_the_congestion_control_that_it_had() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut far = listener.accept().unwrap().0;
        let before = congestion(&near).unwrap();
        near.write_all(&[1]).unwrap();
        restart(&near).unwrap();
        near.write_all(&[2]).unwrap();
        assert_eq!(congestion(&near).unwrap(), before);
        let mut octets = [0; 2];
        far.read_exact(&mut octets).unwrap();
        assert_eq!(octets, [1, 2]);
    }
}
