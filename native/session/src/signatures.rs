//! ECDSA P-256 with SHA-256, remembering what was good. Whether a signature is good depends on its key, message and octets alone, so the
//! answer for the same three may be kept; everything that depends on time, use or revocation is judged anew each time, elsewhere.
//! It saves both signatures of a chain whenever a node comes back, and the intermediate's for every node.

use std::collections::{HashSet, VecDeque};
use std::sync::{LazyLock, Mutex};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use webpki::ring::ECDSA_P256_SHA256 as PLAIN;

use crate::mailbox::lock;

/// Good signatures that are remembered; the oldest go. Bad ones never are: a stranger must not push out what is of use.
const REMEMBERED_MAX: usize = 8_192;

pub static ECDSA_P256_SHA256: &dyn SignatureVerificationAlgorithm = &Remembering;

type Key = [u8; SHA256_OUTPUT_LEN];

#[derive(Default)]
struct Good {
    known: HashSet<Key>,
    order: VecDeque<Key>,
}

static GOOD: LazyLock<Mutex<Good>> = LazyLock::new(Mutex::default);

#[derive(Debug)]
struct Remembering;

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = key_of(&[public_key, message, signature]);
        if lock(&GOOD).known.contains(&key) {
            return Ok(());
        }
        PLAIN.verify_signature(public_key, message, signature)?;
        remember(key);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        PLAIN.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        PLAIN.signature_alg_id()
    }
}

/// Each part behind its length, so that no other three parts give the same.
fn key_of(parts: &[&[u8]]) -> Key {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut key = [0; SHA256_OUTPUT_LEN];
    key.copy_from_slice(context.finish().as_ref());
    key
}

fn remember(key: Key) {
    let mut good = lock(&GOOD);
    if !good.known.insert(key) {
        return;
    }
    good.order.push_back(key);
    if good.order.len() > REMEMBERED_MAX
        && let Some(oldest) = good.order.pop_front()
    {
        good.known.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    #[test]
    fn a_good_signature_stays_good_and_a_changed_part_is_refused() {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).expect("a pair");
        let signature = pair.sign(&random, b"message").expect("a signature");
        let public = pair.public_key().as_ref();
        for _ in 0..2 {
            assert!(ECDSA_P256_SHA256.verify_signature(public, b"message", signature.as_ref()).is_ok());
            assert!(ECDSA_P256_SHA256.verify_signature(public, b"massage", signature.as_ref()).is_err());
            let mut broken = signature.as_ref().to_vec();
            *broken.last_mut().expect("octets") ^= 1;
            assert!(ECDSA_P256_SHA256.verify_signature(public, b"message", &broken).is_err());
        }
    }
}
