//! The UDP socket of an endpoint: batches in (recvmmsg, GRO), segments out (GSO), large buffers.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// Messages of one recvmmsg, each up to a whole GRO batch.
const BATCH: usize = 8;
const MESSAGE_BYTES: usize = 64 * 1024;
/// Kernel buffers, each way; as much of it as the system allows without root.
const KERNEL_BUFFER_BYTES: usize = 8 * 1024 * 1024;
/// Octets of one send: the most that an IP packet of segments may hold, with room for headers.
const SEND_BYTES_MAX: usize = 65_000;

pub struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<Box<[u8]>>,
    metas: [RecvMeta; BATCH],
}

/// A bound socket. `::` takes IPv4 as well.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    enlarge(&socket, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF);
    enlarge(&socket, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn enlarge(socket: &RawSocket, forced: libc::c_int, plain: libc::c_int) {
    let size = KERNEL_BUFFER_BYTES as libc::c_int;
    let set = |option| {
        // SAFETY: a live descriptor, and an int for an option that wants one.
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const size).cast(), size_of_val(&size) as libc::socklen_t) }
    };
    if set(forced) != 0 {
        set(plain);
    }
}

impl Socket {
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let buffers = (0..BATCH).map(|_| vec![0u8; MESSAGE_BYTES].into_boxed_slice()).collect();
        Ok(Socket { socket, state, buffers, metas: [RecvMeta::default(); BATCH] })
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Segments of `mtu` octets that one send may carry.
    pub fn segments(&self, mtu: usize) -> usize {
        self.state.max_gso_segments().min(SEND_BYTES_MAX / mtu.max(1)).max(1)
    }

    /// Hands each received message to `each`; returns whether there may be more.
    pub fn receive(&mut self, mut each: impl FnMut(&RecvMeta, &[u8])) -> io::Result<bool> {
        let mut slices: [IoSliceMut<'_>; BATCH] = {
            let mut buffers = self.buffers.iter_mut();
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().map_or(&mut [][..], |buffer| &mut buffer[..])))
        };
        let count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.metas) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused) => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in self.metas.iter().zip(&self.buffers).take(count) {
            each(meta, &buffer[..meta.len]);
        }
        Ok(count == BATCH)
    }

    pub fn send(&self, transmit: &quinn_proto::Transmit, contents: &[u8]) -> io::Result<()> {
        self.state.try_send(
            UdpSockRef::from(&self.socket),
            &Transmit {
                destination: transmit.destination,
                ecn: transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
                contents,
                segment_size: transmit.segment_size,
                src_ip: transmit.src_ip,
            },
        )
    }
}
