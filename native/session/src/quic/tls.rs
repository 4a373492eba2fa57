//! Mutual TLS 1.3 for both ends: P-256 only, one ALPN, no resumption, no early data. The verifiers prove that the peer owns the
//! key of the leaf that it shows, and accept any chain: who the peer is, is decided above, before a byte is read.

use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

const ALPN: &[u8] = b"selvedge/1";
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

fn crypto_provider() -> Arc<CryptoProvider> {
    use provider::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![provider::kx_group::X25519, provider::kx_group::SECP256R1],
        ..provider::default_provider()
    })
}

pub fn server(credentials: Credentials, limits: ChainLimits) -> Result<Arc<QuicServerConfig>, String> {
    let mut config = rustls::ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(explain)?
        .with_client_cert_verifier(Arc::new(ProveKey(limits)))
        .with_single_cert(credentials.chain, credentials.key)
        .map_err(explain)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map(Arc::new).map_err(|error| error.to_string())
}

pub fn client(credentials: Credentials, limits: ChainLimits) -> Result<Arc<QuicClientConfig>, String> {
    let mut config = rustls::ClientConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(explain)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ProveKey(limits)))
        .with_client_auth_cert(credentials.chain, credentials.key)
        .map_err(explain)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).map(Arc::new).map_err(|error| error.to_string())
}

fn explain(error: Error) -> String {
    error.to_string()
}

#[derive(Debug)]
struct ProveKey(ChainLimits);

static P256: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[webpki::ring::ECDSA_P256_SHA256],
    mapping: &[(SignatureScheme::ECDSA_NISTP256_SHA256, &[webpki::ring::ECDSA_P256_SHA256])],
};

impl ProveKey {
    fn check_size(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let fits = 1 + rest.len() <= self.0.certs_max && rest.iter().chain([leaf]).all(|der| der.len() <= self.0.cert_bytes_max);
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
