//! What both transports use of TLS: mutual TLS 1.3, P-256 only, one ALPN, no resumption, no early data. The verifiers prove that the
//! peer owns the key of the leaf that it shows, and accept any chain: who the peer is, is decided above, before a byte is read.

use std::collections::VecDeque;
use std::sync::Arc;

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

pub const ALPN: &[u8] = b"selvedge/1";
/// Not sent (SNI is off); rustls wants a name.
pub const SERVER_NAME: &str = "selvedge.invalid";

/// Bounds on what a peer may show, given by the caller's limits.
#[derive(Debug, Clone, Copy)]
pub struct ChainLimits {
    pub certs_max: usize,
    pub cert_bytes_max: usize,
}

pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Credentials {
    pub fn new(chain: &[&[u8]], key: &[u8]) -> Self {
        Credentials {
            chain: chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_vec())),
        }
    }
}

/// What was made of credentials, by what it was made of: to make it costs as much as a handshake's own cryptography. A host has one
/// identity, and another while it renews.
pub struct Cache<T> {
    made: VecDeque<(Digest, Arc<T>)>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Cache { made: VecDeque::new() }
    }
}

type Digest = [u8; SHA256_OUTPUT_LEN];

const MADE_MAX: usize = 16;

impl<T> Cache<T> {
    pub fn of<E>(&mut self, chain: &[u8], key: &[u8], make: impl FnOnce() -> Result<Arc<T>, E>) -> Result<Arc<T>, E> {
        let digest = digest_of(chain, key);
        if let Some((_, known)) = self.made.iter().find(|(other, _)| *other == digest) {
            return Ok(Arc::clone(known));
        }
        let made = make()?;
        self.made.push_back((digest, Arc::clone(&made)));
        if self.made.len() > MADE_MAX {
            self.made.pop_front();
        }
        Ok(made)
    }
}

/// The first part behind its length, so that no other two give the same.
fn digest_of(chain: &[u8], key: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&(chain.len() as u64).to_be_bytes());
    context.update(chain);
    context.update(key);
    let mut digest = [0; SHA256_OUTPUT_LEN];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// AES-128 first: a quarter less CPU for each octet than AES-256, and no weaker link here.
fn crypto_provider() -> Arc<CryptoProvider> {
    use provider::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![provider::kx_group::X25519, provider::kx_group::SECP256R1],
        ..provider::default_provider()
    })
}

/// Asks for the peer's certificate; `mandatory`: ends the handshake of a peer that shows none.
pub fn server(credentials: Credentials, limits: ChainLimits, mandatory: bool) -> Result<ServerConfig, String> {
    let mut config = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(explain)?
        .with_client_cert_verifier(Arc::new(ProveKey { limits, mandatory }))
        .with_single_cert(credentials.chain, credentials.key)
        .map_err(explain)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

pub fn client(credentials: Credentials, limits: ChainLimits) -> Result<ClientConfig, String> {
    let mut config = ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(explain)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ProveKey { limits, mandatory: true }))
        .with_client_auth_cert(credentials.chain, credentials.key)
        .map_err(explain)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    Ok(config)
}

fn explain(error: Error) -> String {
    error.to_string()
}

#[derive(Debug)]
struct ProveKey {
    limits: ChainLimits,
    mandatory: bool,
}

static P256: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ECDSA_P256_SHA256],
    mapping: &[(SignatureScheme::ECDSA_NISTP256_SHA256, &[webpki::ring::ECDSA_P256_SHA256])],
};

impl ProveKey {
    fn check_size(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let fits = 1 + rest.len() <= self.limits.certs_max && rest.iter().chain([leaf]).all(|der| der.len() <= self.limits.cert_bytes_max);
        if fits { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::BadEncoding)) }
    }

    fn tls12() -> Error {
        Error::General("TLS 1.2 is not offered".into())
    }
}

impl ServerCertVerifier for ProveKey {
    fn verify_server_cert(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], _: &ServerName<'_>, _: &[u8], _: UnixTime) -> Result<ServerCertVerified, Error> {
        self.check_size(leaf, rest).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Err(Self::tls12())
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &P256)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ClientCertVerifier for ProveKey {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], _: UnixTime) -> Result<ClientCertVerified, Error> {
        self.check_size(leaf, rest).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Err(Self::tls12())
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, signed: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &P256)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
