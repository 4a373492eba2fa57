use napi::bindgen_prelude::{Error, Result, Uint8Array};
use napi_derive::napi;

use crate::{blocks, chain};

#[napi(object)]
pub struct ExtensionFact {
    pub oid: String,
    pub critical: bool,
}

#[napi(object)]
pub struct ChainFacts {
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
    pub spki_hash: Uint8Array,
    pub fingerprint: Uint8Array,
    pub is_ca: bool,
    pub key_usage: Option<u32>,
    pub eku: Option<Vec<String>>,
    pub uri_names: Vec<String>,
    pub dns_names: Vec<String>,
    pub other_names: u32,
    pub extensions: Vec<ExtensionFact>,
}

/// `chain` and `roots` are packed (see `blocks`). Throws with the reason as its message.
#[napi(catch_unwind)]
pub fn verify_chain(chain: &[u8], roots: &[u8], now_ms: f64, as_client: bool) -> Result<ChainFacts> {
    let chain = blocks::unpack(chain).ok_or_else(|| Error::from_reason("the chain is not packed"))?;
    let roots = blocks::unpack(roots).ok_or_else(|| Error::from_reason("the roots are not packed"))?;
    let usage = if as_client { chain::Usage::Client } else { chain::Usage::Server };
    chain::verify(&chain, &roots, now_ms, usage).map(ChainFacts::from).map_err(Error::from_reason)
}

impl From<chain::Facts> for ChainFacts {
    fn from(facts: chain::Facts) -> Self {
        ChainFacts {
            path_certs: facts.path_certs,
            version: facts.version,
            serial: facts.serial,
            subject: facts.subject,
            issuer: facts.issuer,
            not_before_ms: facts.not_before_ms,
            not_after_ms: facts.not_after_ms,
            key_algorithm: facts.key_algorithm,
            key_curve: facts.key_curve,
            signature_algorithm: facts.signature_algorithm,
            spki_hash: facts.spki_hash.into(),
            fingerprint: facts.fingerprint.into(),
            is_ca: facts.is_ca,
            key_usage: facts.key_usage,
            eku: facts.eku,
            uri_names: facts.uri_names,
            dns_names: facts.dns_names,
            other_names: facts.other_names,
            extensions: facts.extensions.into_iter().map(|e| ExtensionFact { oid: e.oid, critical: e.critical }).collect(),
        }
    }
}
