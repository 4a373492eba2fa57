//! Is this chain one that leads to these roots? Path building and the RFC 5280 checks are rustls-webpki's; this file hands over
//! bounded input, turns each refusal into a sentence, and reads the facts of the leaf that the caller's own profile judges.
//! It decides nothing about clusters, nodes or policy.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::signatures::ECDSA_P256_SHA256;

/// Certificates in one call, of a chain and of the roots, and octets in each: far above what the caller's limits allow.
pub const CERTS_MAX: usize = 64;
pub const CERT_BYTES_MAX: usize = 64 * 1024;
/// Names and extensions read from one leaf.
const ENTRIES_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    pub oid: String,
    pub critical: bool,
}

/// What the caller's profile needs to know of the leaf, and how long the path was.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Certificates of the path, leaf and root included.
    pub path_certs: u32,
    pub version: u32,
    pub serial: String,
    pub subject: String,
    pub issuer: String,
    pub not_before_ms: f64,
    pub not_after_ms: f64,
    pub key_algorithm: String,
    pub key_curve: Option<String>,
    pub signature_algorithm: String,
    pub spki_hash: Vec<u8>,
    pub fingerprint: Vec<u8>,
    pub is_ca: bool,
    /// Bit n is keyUsage's bit n (0 = digitalSignature); `None` without the extension.
    pub key_usage: Option<u32>,
    pub eku: Option<Vec<String>>,
    pub uri_names: Vec<String>,
    pub dns_names: Vec<String>,
    /// Subject alternative names of any other kind.
    pub other_names: u32,
    pub extensions: Vec<Extension>,
}

/// Judges `chain` (leaf first) against `roots` at `now_ms`. The error is a sentence fit for a log.
pub fn verify(chain: &[&[u8]], roots: &[&[u8]], now_ms: f64, usage: Usage) -> Result<Facts, String> {
    check_bounds(chain, "chain")?;
    check_bounds(roots, "roots")?;
    if !now_ms.is_finite() || now_ms < 0.0 {
        return Err("the time is not a time".into());
    }
    let certs: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(*der)).collect();
    let (leaf_der, rest) = certs.split_first().ok_or("the chain is empty")?;
    let root_certs: Vec<CertificateDer<'_>> = roots.iter().map(|der| CertificateDer::from(*der)).collect();
    let anchors = root_certs
        .iter()
        .map(|root| anchor_from_trusted_cert(root).map_err(|error| format!("a root cannot be read: {}", explain(&error))))
        .collect::<Result<Vec<_>, _>>()?;
    let leaf = EndEntityCert::try_from(leaf_der).map_err(|error| explain(&error))?;
    let key_usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    let time = UnixTime::since_unix_epoch(Duration::from_secs((now_ms / 1000.0) as u64));
    let path = leaf
        .verify_for_usage(&[ECDSA_P256_SHA256], &anchors, rest, time, key_usage, None, None)
        .map_err(|error| explain(&error))?;
    let path_certs = 2 + path.intermediate_certificates().count() as u32;
    facts_of(chain[0], path_certs)
}

fn check_bounds(certs: &[&[u8]], what: &str) -> Result<(), String> {
    if certs.is_empty() {
        return Err(format!("no certificate in {what}"));
    }
    if certs.len() > CERTS_MAX {
        return Err(format!("{} certificates in {what}, at most {CERTS_MAX} allowed", certs.len()));
    }
    match certs.iter().find(|der| der.len() > CERT_BYTES_MAX) {
        Some(der) => Err(format!("a certificate of {} octets in {what}, at most {CERT_BYTES_MAX} allowed", der.len())),
        None => Ok(()),
    }
}

fn facts_of(der: &[u8], path_certs: u32) -> Result<Facts, String> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(|error| format!("the leaf cannot be read: {error}"))?;
    if !rest.is_empty() {
        return Err("octets follow the leaf".into());
    }
    if cert.extensions().len() > ENTRIES_MAX {
        return Err(format!("{} extensions, at most {ENTRIES_MAX} allowed", cert.extensions().len()));
    }
    let spki = cert.public_key();
    let key_curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
    let mut facts = Facts {
        path_certs,
        version: cert.version().0 + 1,
        serial: hex(cert.raw_serial()),
        subject: cert.subject().to_string(),
        issuer: cert.issuer().to_string(),
        not_before_ms: cert.validity().not_before.timestamp() as f64 * 1000.0,
        not_after_ms: cert.validity().not_after.timestamp() as f64 * 1000.0,
        key_algorithm: spki.algorithm.algorithm.to_id_string(),
        key_curve,
        signature_algorithm: cert.signature_algorithm.algorithm.to_id_string(),
        spki_hash: sha256(spki.raw),
        fingerprint: sha256(der),
        is_ca: false,
        key_usage: None,
        eku: None,
        uri_names: Vec::new(),
        dns_names: Vec::new(),
        other_names: 0,
        extensions: Vec::new(),
    };
    for extension in cert.extensions() {
        facts.extensions.push(Extension { oid: extension.oid.to_id_string(), critical: extension.critical });
        read_extension(&mut facts, extension.parsed_extension())?;
    }
    Ok(facts)
}

fn read_extension(facts: &mut Facts, parsed: &ParsedExtension<'_>) -> Result<(), String> {
    match parsed {
        ParsedExtension::BasicConstraints(constraints) => facts.is_ca = constraints.ca,
        ParsedExtension::KeyUsage(usage) => facts.key_usage = Some(u32::from(usage.flags)),
        ParsedExtension::ExtendedKeyUsage(eku) => {
            let known = [
                (eku.any, "2.5.29.37.0"),
                (eku.server_auth, "1.3.6.1.5.5.7.3.1"),
                (eku.client_auth, "1.3.6.1.5.5.7.3.2"),
                (eku.code_signing, "1.3.6.1.5.5.7.3.3"),
                (eku.email_protection, "1.3.6.1.5.5.7.3.4"),
                (eku.time_stamping, "1.3.6.1.5.5.7.3.8"),
                (eku.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
            ];
            let named = known.iter().filter(|(present, _)| *present).map(|(_, oid)| (*oid).to_string());
            facts.eku = Some(named.chain(eku.other.iter().take(ENTRIES_MAX).map(|oid| oid.to_id_string())).collect());
        }
        ParsedExtension::SubjectAlternativeName(names) => {
            if names.general_names.len() > ENTRIES_MAX {
                return Err(format!("{} subject alternative names, at most {ENTRIES_MAX} allowed", names.general_names.len()));
            }
            for name in &names.general_names {
                match name {
                    GeneralName::URI(uri) => facts.uri_names.push((*uri).to_string()),
                    GeneralName::DNSName(dns) => facts.dns_names.push((*dns).to_string()),
                    _ => facts.other_names += 1,
                }
            }
        }
        ParsedExtension::ParseError { error } => return Err(format!("an extension cannot be read: {error}")),
        _ => {}
    }
    Ok(())
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// webpki's refusal as a sentence: what was expected and what was found where it knows that.
fn explain(error: &Error) -> String {
    match error {
        Error::CertExpired { time, not_after } => format!("expired at {}, it is {}", utc(*not_after), utc(*time)),
        Error::CertNotValidYet { time, not_before } => format!("not valid before {}, it is {}", utc(*not_before), utc(*time)),
        Error::UnknownIssuer => "it does not lead to a trusted root".into(),
        Error::InvalidSignatureForPublicKey => "a signature in the chain is wrong".into(),
        Error::CaUsedAsEndEntity => "a CA certificate was shown as a leaf".into(),
        Error::EndEntityUsedAsCa => "a leaf was used as a CA".into(),
        Error::PathLenConstraintViolated => "the path is longer than its CA allows".into(),
        Error::RequiredEkuNotFoundContext(_) => "the extended key usage does not allow this role".into(),
        Error::UnsupportedCriticalExtension => "a critical extension is unknown".into(),
        Error::BadDer | Error::BadDerTime | Error::MalformedExtensions | Error::ExtensionValueInvalid | Error::TrailingData(_) => {
            format!("it is not a well-formed certificate ({error})")
        }
        Error::SignatureAlgorithmMismatch | Error::UnsupportedSignatureAlgorithmContext(_) | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "it is not signed with ECDSA P-256 and SHA-256".into()
        }
        other => other.to_string(),
    }
}

fn utc(time: UnixTime) -> String {
    x509_parser::time::ASN1Time::from_timestamp(time.as_secs() as i64).map_or_else(|_| format!("{} s", time.as_secs()), |time| time.to_string())
}
