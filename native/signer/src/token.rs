//! One token, logged in, and keys of P-256 in it, found by their labels.

use std::fmt::Display;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

/// OBJECT IDENTIFIER prime256v1.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// An uncompressed point, and what an OCTET STRING of it begins with.
const POINT_BYTES: usize = 65;
const DIGEST_BYTES: usize = 32;

/// What the other side tells apart: `usage` is its own fault, `pin` and `missing` are for the operator, `token` may pass.
pub struct Failure {
    pub kind: &'static str,
    pub why: String,
}

impl Failure {
    pub fn usage(why: &str) -> Self {
        Failure { kind: "usage", why: why.into() }
    }

    fn missing(why: impl Display) -> Self {
        Failure {
            kind: "missing",
            why: why.to_string(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Pkcs11(RvError::PinIncorrect | RvError::PinLocked | RvError::PinInvalid | RvError::PinExpired | RvError::PinLenRange, _) => "pin",
            Error::LibraryLoading(_) => "missing",
            _ => "token",
        };
        Failure { kind, why: error.to_string() }
    }
}

pub struct Token {
    session: Session,
    slot: Slot,
    context: Pkcs11,
}

impl Token {
    /// `module` is the vendor's library. The PIN is cleared from memory once the token has it.
    pub fn open(module: &str, label: &str, pin: String) -> Result<Self, Failure> {
        let context = Pkcs11::new(module)?;
        context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let slot = find_slot(&context, label)?;
        let session = context.open_rw_session(slot)?;
        session.login(UserType::User, Some(&AuthPin::new(pin.into())))?;
        Ok(Token { session, slot, context })
    }

    /// The public half of a key, as an uncompressed point.
    pub fn public_point(&self, label: &str) -> Result<Vec<u8>, Failure> {
        let key = self.find(ObjectClass::PUBLIC_KEY, label)?;
        for attribute in self.session.get_attributes(key, &[AttributeType::EcParams, AttributeType::EcPoint])? {
            match attribute {
                Attribute::EcParams(curve) if curve != P256 => return Err(Failure::missing(format!("key '{label}' is not of P-256"))),
                // PKCS#11 wants an OCTET STRING around the point; some tokens leave it out.
                Attribute::EcPoint(point) if point.len() == POINT_BYTES + 2 && point[..2] == [0x04, POINT_BYTES as u8] => return Ok(point[2..].to_vec()),
                Attribute::EcPoint(point) if point.len() == POINT_BYTES => return Ok(point),
                _ => {}
            }
        }
        Err(Failure::missing(format!("the point of key '{label}' cannot be read")))
    }

    /// A new key that cannot leave the token. Refuses a label that is taken.
    pub fn generate(&self, label: &str) -> Result<(), Failure> {
        if !self.all(ObjectClass::PRIVATE_KEY, label)?.is_empty() {
            return Err(Failure {
                kind: "taken",
                why: format!("the token has a key '{label}' already"),
            });
        }
        let shared = [Attribute::Token(true), Attribute::Label(label.into()), Attribute::Id(label.into()), Attribute::KeyType(KeyType::EC)];
        let public = [&shared[..], &[Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(P256.to_vec())]].concat();
        let private = [
            &shared[..],
            &[Attribute::Private(true), Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Sign(true)],
        ]
        .concat();
        self.session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
        Ok(())
    }

    /// The two numbers of the signature, one after the other.
    pub fn sign(&self, label: &str, digest: &[u8]) -> Result<Vec<u8>, Failure> {
        if digest.len() != DIGEST_BYTES {
            return Err(Failure::usage("not a SHA-256"));
        }
        // A token that was taken out is told as such, where the library would only say that its handle is not valid.
        self.context.get_token_info(self.slot)?;
        let key = self.find(ObjectClass::PRIVATE_KEY, label)?;
        Ok(self.session.sign(&Mechanism::Ecdsa, key, digest)?)
    }

    fn find(&self, class: ObjectClass, label: &str) -> Result<ObjectHandle, Failure> {
        match self.all(class, label)?.as_slice() {
            [one] => Ok(*one),
            [] => Err(Failure::missing(format!("the token has no key '{label}'"))),
            _ => Err(Failure::missing(format!("the token has several keys '{label}'"))),
        }
    }

    fn all(&self, class: ObjectClass, label: &str) -> Result<Vec<ObjectHandle>, Failure> {
        Ok(self.session.find_objects(&[Attribute::Class(class), Attribute::Label(label.into())])?)
    }
}

fn find_slot(context: &Pkcs11, label: &str) -> Result<Slot, Failure> {
    for slot in context.get_slots_with_token()? {
        if context.get_token_info(slot)?.label().trim_end() == label {
            return Ok(slot);
        }
    }
    Err(Failure::missing(format!("no token '{label}' is there")))
}
