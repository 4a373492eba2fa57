//! One connection's protocol: rustls without buffers of its own. It reads and writes its socket when the I/O thread says so; no call
//! waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{AlertDescription, ClientConfig, Error, ServerConfig};

use super::shared::{End, Link};
use crate::credentials::{ALPN, SERVER_NAME};

/// Plaintext that is encrypted for one call of the system.
const BATCH_BYTES: usize = 128 * 1024;
/// Batches of one connection before others get their turn.
const BATCHES_PER_TURN: usize = 4;
/// For each 16 KiB that leave: head, kind and tag of a TLS record; and a key update may go before them.
const RECORD_PLAIN_BYTES: usize = 16 * 1024;
const RECORD_EXTRA_BYTES: usize = 22;
const SEALED_SLACK_BYTES: usize = 512;
/// A young connection may send less than a record of full size before the first acknowledgement: what leaves first leaves in records that
/// fit one segment each, so that the peer reads it as it comes, and not a round trip later.
const FIRST_BYTES: usize = 16 * 1024;
const FIRST_RECORD_BYTES: usize = 1_300;
/// A record that is not whole yet, or a message over several: more than rustls takes is nothing to wait for.
const INPUT_BYTES_MAX: usize = 96 * 1024;

/// Steps in which an alert comes out.
const ALERT_STEPS_MAX: usize = 4;

enum Tls {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Where a look at the records ended.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Step {
    Again,
    /// The handshake wants more of the peer.
    Blocked,
    /// The handshake is over.
    Open,
    PeerEnded,
}

/// Ciphertext on its way to the kernel. The array stays as large as it is; `at..end` is what waits.
#[derive(Default)]
pub struct Out {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
}

impl Out {
    pub fn is_empty(&self) -> bool {
        self.at == self.end
    }

    fn room(&mut self, count: usize) -> &mut [u8] {
        if self.bytes.len() < self.end + count {
            self.bytes.resize(self.end + count, 0);
        }
        &mut self.bytes[self.end..]
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Ending {
    No,
    /// What was handed over leaves, then close_notify.
    Flushing,
    /// Nothing leaves any more; the peer's end is waited for.
    Said,
}

pub struct Machine {
    tls: Option<Tls>,
    /// Received and not yet understood: the start of a record.
    input: Vec<u8>,
    out: Out,
    /// Octets of frames in `out`, and all of what `out` was made of.
    out_payload: usize,
    /// Taken from the outbox and not yet encrypted.
    plain: Vec<u8>,
    plain_at: usize,
    plain_payload: usize,
    /// Of `FIRST_BYTES`, what is still to come.
    first_left: usize,
    pub readable: bool,
    pub writable: bool,
    pub hung_up: bool,
    pub is_open: bool,
    peer_ended: bool,
    ending: Ending,
}

/// What came of reading.
pub struct Received {
    pub plain: Vec<u8>,
    /// Octets that were read from the socket.
    pub bytes: usize,
    pub end: Option<End>,
}

impl Machine {
    pub fn client(config: Arc<ClientConfig>) -> Result<Self, Error> {
        let name = ServerName::try_from(SERVER_NAME).map_err(|_| Error::General("no name".into()))?;
        Ok(Machine::new(Some(Tls::Client(UnbufferedClientConnection::new(config, name)?))))
    }

    /// Begins with `serve`, when the ClientHello was looked at.
    pub fn server() -> Self {
        Machine::new(None)
    }

    fn new(tls: Option<Tls>) -> Self {
        Machine {
            tls,
            input: Vec::new(),
            out: Out::default(),
            out_payload: 0,
            plain: Vec::new(),
            plain_at: 0,
            plain_payload: 0,
            first_left: FIRST_BYTES,
            readable: true,
            writable: true,
            hung_up: false,
            is_open: false,
            peer_ended: false,
            ending: Ending::No,
        }
    }

    pub fn serve(&mut self, config: Arc<ServerConfig>) -> Result<(), Error> {
        self.tls = Some(Tls::Server(UnbufferedServerConnection::new(config)?));
        Ok(())
    }

    /// Whether nothing of it waits to leave.
    pub fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.plain_at == self.plain.len()
    }

    pub fn is_ending(&self) -> bool {
        self.ending != Ending::No
    }

    pub fn end(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::Flushing;
        }
    }

    /// Whether both sides know that it is over.
    pub fn is_over(&self) -> bool {
        self.ending == Ending::Said && self.peer_ended
    }

    pub fn peer_ended(&self) -> bool {
        self.peer_ended
    }

    /// DER certificates of the peer, leaf first.
    pub fn peer_chain(&self) -> Vec<Vec<u8>> {
        let certificates = match &self.tls {
            Some(Tls::Client(tls)) => tls.peer_certificates(),
            Some(Tls::Server(tls)) => tls.peer_certificates(),
            None => None,
        };
        certificates.unwrap_or_default().iter().map(|der| der.to_vec()).collect()
    }

    pub fn speaks_fabric(&self) -> bool {
        let name = match &self.tls {
            Some(Tls::Client(tls)) => tls.alpn_protocol(),
            Some(Tls::Server(tls)) => tls.alpn_protocol(),
            None => None,
        };
        name == Some(ALPN)
    }

    /// Reads once, without deciphering, until there are `most` octets: the look at a ClientHello. Also: whether the peer has ended.
    pub fn peek(&mut self, stream: &TcpStream, most: usize, buffer: &mut Vec<u8>) -> Result<(&[u8], bool), End> {
        let room = most.saturating_sub(self.input.len());
        if buffer.len() < most {
            buffer.resize(most, 0);
        }
        let count = self.read(stream, &mut buffer[..room])?;
        let ended = count == Some(0) && room > 0;
        self.input.extend_from_slice(&buffer[..count.unwrap_or(0)]);
        Ok((&self.input, ended))
    }

    pub fn take_input(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.input)
    }

    /// The handshake begins with what was read before.
    pub fn begin(&mut self, input: &mut [u8]) -> Result<(), Error> {
        let used = self.process(input, &mut Vec::new())?;
        self.input = input[used..].to_vec();
        Ok(())
    }

    /// Reads once, at most `room` octets, and deciphers what is whole. `buffer` is the thread's.
    pub fn receive(&mut self, stream: &TcpStream, room: usize, buffer: &mut Vec<u8>) -> Received {
        let mut received = Received { plain: Vec::new(), bytes: 0, end: None };
        let kept = self.input.len();
        if buffer.len() < kept + room {
            buffer.resize(kept + room, 0);
        }
        buffer[..kept].copy_from_slice(&self.input);
        match self.read(stream, &mut buffer[kept..kept + room]) {
            Ok(Some(0)) => {
                self.peer_ended = true;
                received.end = Some(End::Ended);
            }
            Ok(count) => received.bytes = count.unwrap_or(0),
            Err(end) => {
                self.peer_ended = true;
                received.end = Some(end);
            }
        }
        let filled = kept + received.bytes;
        if received.end.is_some() || (received.bytes == 0 && kept == 0) {
            return received;
        }
        if !self.is_ending() {
            received.plain.reserve(filled);
        }
        match self.process(&mut buffer[..filled], &mut received.plain) {
            Ok(used) => {
                self.input.clear();
                self.input.extend_from_slice(&buffer[used..filled]);
                if self.input.is_empty() {
                    self.input = Vec::new();
                } else if self.input.len() > INPUT_BYTES_MAX {
                    received.end = Some(End::Tls("a handshake message is too large".into()));
                }
                if self.peer_ended {
                    received.end = Some(End::Ended);
                }
            }
            Err(error) => {
                self.peer_ended = true;
                received.end = Some(end_of(&error));
            }
        }
        if self.is_ending() {
            received.plain.clear();
        }
        received
    }

    /// None: nothing there now.
    fn read(&mut self, mut stream: &TcpStream, into: &mut [u8]) -> Result<Option<usize>, End> {
        if into.is_empty() {
            return Ok(None);
        }
        loop {
            match stream.read(into) {
                Ok(count) => {
                    // Less than was asked for is all there was; what comes later is told anew. But an end that was told is told once.
                    if count < into.len() && !self.hung_up {
                        self.readable = false;
                    }
                    return Ok(Some(count));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(end_of_system(&error)),
            }
        }
    }

    /// Deciphers whole records; the number of octets that are done with. Answers of the handshake wait in `out` then.
    pub fn process(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> Result<usize, Error> {
        let mut used = 0;
        loop {
            let (discard, step) = self.step(&mut input[used..], plain);
            used += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerEnded) => self.peer_ended = true,
                Ok(Step::Blocked) => return Ok(used),
                Ok(Step::Open) => {
                    self.is_open = true;
                    return Ok(used);
                }
                Err(error) => {
                    // The alert that says so.
                    // It is asked for with the same octets: what the stack remembers of them holds for these only.
                    for _ in 0..ALERT_STEPS_MAX {
                        let (discard, step) = self.step(&mut input[used..], plain);
                        used += discard;
                        if !matches!(step, Ok(Step::Again)) {
                            break;
                        }
                    }
                    self.give_up();
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self, input: &mut [u8], plain: &mut Vec<u8>) -> (usize, Result<Step, Error>) {
        match &mut self.tls {
            Some(Tls::Client(tls)) => step(tls.process_tls_records(input), plain, &mut self.out),
            Some(Tls::Server(tls)) => step(tls.process_tls_records(input), plain, &mut self.out),
            None => (0, Ok(Step::Blocked)),
        }
    }

    /// Enciphers and writes what there is, until the kernel takes no more; true if it is only this connection's turn that is over.
    /// `spare` is the thread's array for ciphertext.
    pub fn flush(&mut self, link: &Link, spare: &mut Out) -> Result<bool, End> {
        for _ in 0..BATCHES_PER_TURN {
            if !self.write_out(&link.stream)? {
                return Ok(false);
            }
            link.unsent.fetch_sub(std::mem::take(&mut self.out_payload), SeqCst);
            self.give_back(spare);
            if !self.is_open {
                return Ok(false);
            }
            if self.plain_at == self.plain.len() {
                let outbox = link.take_outbox();
                self.plain = outbox.bytes;
                self.plain_at = 0;
                self.plain_payload = outbox.payload;
            }
            if self.plain_at == self.plain.len() {
                return self.say_end(&link.stream).map(|()| false);
            }
            std::mem::swap(spare, &mut self.out);
            self.encrypt_batch().map_err(|error| end_of(&error))?;
        }
        Ok(true)
    }

    /// A drained array serves whoever is next.
    fn give_back(&mut self, spare: &mut Out) {
        let mut out = std::mem::take(&mut self.out);
        if out.bytes.len() > spare.bytes.len() {
            out.at = 0;
            out.end = 0;
            *spare = out;
        }
    }

    /// After a breach of the protocol, or a fault: nothing is deciphered or enciphered any more; an alert may still leave.
    pub fn give_up(&mut self) {
        self.tls = None;
        self.input = Vec::new();
        self.is_open = false;
        self.peer_ended = true;
    }

    /// Nothing more can leave: what waits is dropped.
    pub fn break_off(&mut self) {
        self.out = Out::default();
        self.plain = Vec::new();
        self.plain_at = 0;
        self.hung_up = true;
        self.readable = true;
        if self.ending == Ending::Flushing {
            self.ending = Ending::Said;
        }
    }

    /// False: the kernel takes no more now.
    fn write_out(&mut self, mut stream: &TcpStream) -> Result<bool, End> {
        while !self.out.is_empty() {
            if !self.writable {
                return Ok(false);
            }
            match stream.write(&self.out.bytes[self.out.at..self.out.end]) {
                Ok(count) => self.out.at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) => return Err(end_of_system(&error)),
            }
        }
        Ok(true)
    }

    fn encrypt_batch(&mut self) -> Result<(), Error> {
        let end = (self.plain_at + BATCH_BYTES).min(self.plain.len());
        let plain = std::mem::take(&mut self.plain);
        let result = self.encrypt(&plain[self.plain_at..end]);
        self.plain = plain;
        result?;
        // Heads of records count in, so that the sum may be reached a little early.
        self.out_payload = self.plain_payload.min(end - self.plain_at);
        self.plain_at = end;
        if self.plain_at == self.plain.len() {
            self.plain = Vec::new();
            self.plain_at = 0;
            self.out_payload = self.plain_payload;
        }
        self.plain_payload -= self.out_payload;
        Ok(())
    }

    fn encrypt(&mut self, plain: &[u8]) -> Result<(), Error> {
        let (first, rest) = plain.split_at(plain.len().min(self.first_left));
        self.first_left -= first.len();
        for piece in first.chunks(FIRST_RECORD_BYTES) {
            self.encrypt_piece(piece)?;
        }
        if rest.is_empty() { Ok(()) } else { self.encrypt_piece(rest) }
    }

    fn encrypt_piece(&mut self, plain: &[u8]) -> Result<(), Error> {
        self.traffic(|traffic, out| {
            let room = out.room(plain.len() + plain.len().div_ceil(RECORD_PLAIN_BYTES) * RECORD_EXTRA_BYTES + SEALED_SLACK_BYTES);
            traffic.encrypt(plain, room)
        })
    }

    fn say_end(&mut self, stream: &TcpStream) -> Result<(), End> {
        if self.ending != Ending::Flushing {
            return Ok(());
        }
        self.ending = Ending::Said;
        self.traffic(|traffic, out| traffic.close_notify(out.room(SEALED_SLACK_BYTES))).map_err(|error| end_of(&error))?;
        // A few octets, and if there is no room even for them, the end of the stream says the same.
        let _ = self.write_out(stream);
        self.out = Out::default();
        let _ = stream.shutdown(Shutdown::Write);
        Ok(())
    }

    /// Runs `act` where application data may be written; answers of TLS itself go first.
    fn traffic(&mut self, mut act: impl FnMut(&mut dyn Traffic, &mut Out) -> Result<usize, EncryptError>) -> Result<(), Error> {
        // Whole records are never kept: they are deciphered when they are read.
        let mut input = std::mem::take(&mut self.input);
        let mut ignored = Vec::new();
        let result = loop {
            let (discard, step) = match &mut self.tls {
                Some(Tls::Client(tls)) => write_step(tls.process_tls_records(&mut input), &mut ignored, &mut self.out, &mut act),
                Some(Tls::Server(tls)) => write_step(tls.process_tls_records(&mut input), &mut ignored, &mut self.out, &mut act),
                None => break Err(Error::HandshakeNotComplete),
            };
            input.drain(..discard);
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerEnded) => self.peer_ended = true,
                Ok(Step::Open) => break Ok(()),
                Ok(Step::Blocked) => break Err(Error::HandshakeNotComplete),
                Err(error) => {
                    self.give_up();
                    return Err(error);
                }
            }
        };
        self.input = input;
        result
    }
}

trait Traffic {
    fn encrypt(&mut self, plain: &[u8], into: &mut [u8]) -> Result<usize, EncryptError>;
    fn close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError>;
}

impl<Data> Traffic for rustls::unbuffered::WriteTraffic<'_, Data> {
    fn encrypt(&mut self, plain: &[u8], into: &mut [u8]) -> Result<usize, EncryptError> {
        rustls::unbuffered::WriteTraffic::encrypt(self, plain, into)
    }

    fn close_notify(&mut self, into: &mut [u8]) -> Result<usize, EncryptError> {
        self.queue_close_notify(into)
    }
}

fn write_step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut Vec<u8>,
    out: &mut Out,
    act: &mut dyn FnMut(&mut dyn Traffic, &mut Out) -> Result<usize, EncryptError>,
) -> (usize, Result<Step, Error>) {
    match status {
        UnbufferedStatus { discard, state: Ok(ConnectionState::WriteTraffic(mut traffic)) } => match act(&mut traffic, out) {
            Ok(count) => {
                out.end += count;
                (discard, Ok(Step::Open))
            }
            Err(_) => (discard, Err(Error::EncryptError)),
        },
        other => step(other, plain, out),
    }
}

fn step<Data>(status: UnbufferedStatus<'_, '_, Data>, plain: &mut Vec<u8>, out: &mut Out) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state, .. } = status;
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    plain.extend_from_slice(record.payload);
                    discard += record.discard;
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            let mut count = SEALED_SLACK_BYTES;
            loop {
                match data.encode(out.room(count)) {
                    Ok(written) => {
                        out.end += written;
                        break Ok(Step::Again);
                    }
                    Err(EncodeError::InsufficientSize(needed)) => count = needed.required_size,
                    Err(EncodeError::AlreadyEncoded) => break Err(Error::General("encoded twice".into())),
                }
            }
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => Ok(Step::Open),
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerEnded),
        Ok(_) => Err(Error::General("unexpected state".into())),
    };
    (discard, step)
}

fn end_of_system(error: &io::Error) -> End {
    End::System(error.raw_os_error().unwrap_or(0))
}

fn end_of(error: &Error) -> End {
    match error {
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) | Error::NoApplicationProtocol => End::Foreign,
        Error::AlertReceived(alert) => End::Tls(format!("the peer says: {}", words(&format!("{alert:?}")))),
        Error::InvalidMessage(_) => End::Tls("the peer does not speak TLS 1.3".into()),
        other => End::Tls(other.to_string()),
    }
}

/// `HandshakeFailure` as words.
fn words(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() && !words.ends_with(|last: char| last.is_uppercase()) {
            words.push(' ');
        }
        words.push(letter);
    }
    words.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn client() -> Machine {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
        let mut machine = Machine::client(Arc::new(config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())).expect("a client");
        machine.begin(&mut []).expect("a ClientHello");
        machine
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        (near, listener.accept().expect("its other end").0)
    }

    #[test]
    fn what_is_no_tls_ends_it_and_later_calls_change_nothing() {
        let answers: [&[u8]; 4] = [b"HTTP/1.0 400 Bad Request\r\n\r\n", &[22, 3, 3, 0, 4, 2, 0, 0, 0], &[21, 3, 3, 0, 2, 2, 120], &[23, 3, 3, 0, 1, 0]];
        for answer in answers {
            let (near, mut far) = pair();
            let mut machine = client();
            let link = Link::new(1, near, client()).expect("a link");
            let mut spare = Out::default();
            assert_eq!(machine.flush(&link, &mut spare), Ok(false));
            far.write_all(answer).expect("written");
            link.stream.set_nonblocking(false).expect("a wait");
            machine.readable = true;
            let received = machine.receive(&link.stream, 16_384, &mut Vec::new());
            match received.end {
                Some(End::Foreign) => assert_eq!(answer[0], 21),
                Some(End::Tls(_)) => {}
                other => panic!("{other:?} after {answer:?}"),
            }
            assert!(received.plain.is_empty() && machine.peer_ended() && !machine.is_open);
            link.outbox.lock().expect("the outbox").record(0, &[1], &[2]);
            assert_eq!(machine.flush(&link, &mut spare), Ok(false));
        }
    }

    #[test]
    fn a_record_without_end_is_bounded() {
        let (near, mut far) = pair();
        let link = Link::new(1, near, client()).expect("a link");
        let mut machine = client();
        link.stream.set_nonblocking(false).expect("a wait");
        // Pieces of one handshake message, each whole, the message never.
        let piece: Vec<u8> = [&[22, 3, 3, 0x40, 0][..], &[2, 0, 0xff, 0xff], &[0; 16_380]].concat();
        let more: Vec<u8> = [&[22, 3, 3, 0x40, 0][..], &[0; 16_384]].concat();
        let writer = std::thread::spawn(move || far.write_all(&piece).and_then(|()| (0..40).try_for_each(|_| far.write_all(&more))));
        let mut buffer = Vec::new();
        let mut bytes = 0;
        loop {
            machine.readable = true;
            let received = machine.receive(&link.stream, 16_384, &mut buffer);
            bytes += received.bytes;
            if received.end.is_some() {
                break;
            }
            assert!(bytes <= INPUT_BYTES_MAX + 16_384);
        }
        drop(link);
        let _ = writer.join();
    }

    #[test]
    fn names_of_alerts_become_words() {
        assert_eq!(words("HandshakeFailure"), "handshake failure");
        assert_eq!(words("UnknownCA"), "unknown ca");
    }
}
