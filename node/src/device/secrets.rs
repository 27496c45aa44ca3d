//! Secrets, made on the device. Invariant: a secret is made once and stays; it exists in one file that only this user
//! may read, and is never in an argument, a variable, a log or an answer of this code. Of a keypair the public half lies
//! beside it, written first: where the secret is, its `.pub` is as well.

use super::{
    durable,
    error::{Result, io},
    layout::Place,
};
use ed25519_dalek::{
    SigningKey,
    pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, KeypairBytes, spki::der::pem::LineEnding},
};
use softservice_protocol::{instance::SecretNeed, release::Generate};

/// Makes those that do not exist yet; answers their keys.
pub(super) fn make(place: &Place, needs: &[SecretNeed]) -> Result<Vec<String>> {
    let mut made = Vec::new();
    for need in needs {
        let path = place.secrets().join(&need.key);
        if path.exists() {
            continue;
        }
        let made_up = generate(&need.generate).map_err(io("draw randomness for", &path))?;
        if let Some(public) = made_up.public {
            durable::write(&place.secrets().join(format!("{}.pub", need.key)), public.as_bytes(), 0o644)?;
        }
        durable::write(&path, made_up.text.as_bytes(), 0o600)?;
        made.push(need.key.clone());
    }
    Ok(made)
}

/// A secret's text, and what belongs to it that everybody may know.
struct MadeUp {
    text: String,
    public: Option<String>,
}

/// Text without a line end, but for PEM, which has its own. Random bytes are written as hex: few programs read raw bytes
/// from a file.
fn generate(how: &Generate) -> std::io::Result<MadeUp> {
    let text = match *how {
        Generate::Bytes(n) => random(usize::from(n))?.iter().map(|b| format!("{b:02x}")).collect(),
        Generate::Password(n) => letters(usize::from(n))?,
        Generate::Words(n) => {
            let words = random(2 * usize::from(n))?;
            words.chunks_exact(2).map(word).collect::<Vec<_>>().join("-")
        }
        Generate::Keypair => return keypair(),
    };
    Ok(MadeUp { text, public: None })
}

/// PKCS#8 in its first version, without the public key inside: every program that reads such files reads this one.
fn keypair() -> std::io::Result<MadeUp> {
    let mut secret_key = [0; 32];
    getrandom::fill(&mut secret_key).map_err(std::io::Error::other)?;
    let key = SigningKey::from_bytes(&secret_key);
    let private = KeypairBytes { secret_key, public_key: None }.to_pkcs8_pem(LineEnding::LF);
    let private = private.map_err(std::io::Error::other)?;
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(std::io::Error::other)?;
    Ok(MadeUp { text: (*private).clone(), public: Some(public) })
}

fn random(n: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; n];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

/// Letters and digits that nobody confuses; bytes beyond the last whole multiple are drawn again, so that all are alike.
fn letters(n: usize) -> std::io::Result<String> {
    const ALPHABET: &[u8; 56] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789";
    let mut text = String::with_capacity(n);
    while text.len() < n {
        let fair = random(n)?.into_iter().filter(|b| usize::from(*b) < 256 / ALPHABET.len() * ALPHABET.len());
        let drawn = fair.filter_map(|b| ALPHABET.get(usize::from(b) % ALPHABET.len()));
        let missing = n - text.len();
        text.extend(drawn.take(missing).map(|b| char::from(*b)));
    }
    Ok(text)
}

/// Sixteen bits as a word that can be spoken: consonant, vowel, and so on.
fn word(bits: &[u8]) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aiou";
    let bits = bits.iter().fold(0u32, |sum, b| sum << 8 | u32::from(*b));
    let consonant = |shift: u32| CONSONANTS.get((bits >> shift & 15) as usize).copied().unwrap_or(b'b');
    let vowel = |shift: u32| VOWELS.get((bits >> shift & 3) as usize).copied().unwrap_or(b'a');
    [consonant(12), vowel(10), consonant(6), vowel(4), consonant(0)].iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_shape_and_differ() {
        let draw = |g: Generate| generate(&g).expect("randomness").text;
        assert_eq!(draw(Generate::Bytes(32)).len(), 64);
        assert_eq!(draw(Generate::Password(24)).len(), 24);
        assert_eq!(draw(Generate::Words(5)).split('-').map(str::len).collect::<Vec<_>>(), [5; 5]);
        assert_ne!(draw(Generate::Words(5)), draw(Generate::Words(5)));
        assert_eq!(word(&[0xff, 0xff]), "zuzuz");
    }

    #[test]
    fn a_keypair_signs_and_its_public_half_verifies() {
        use ed25519_dalek::{
            Signer as _, VerifyingKey,
            pkcs8::{DecodePrivateKey as _, DecodePublicKey as _},
        };
        let made = keypair().expect("randomness");
        let public = made.public.expect("a public half");
        let key = SigningKey::from_pkcs8_pem(&made.text).expect("a private key");
        let verifying = VerifyingKey::from_public_key_pem(&public).expect("a public key");
        assert!(verifying.verify_strict(b"said", &key.sign(b"said")).is_ok());
        assert!(made.text.ends_with("-----END PRIVATE KEY-----\n") && public.starts_with("-----BEGIN PUBLIC KEY-----"));
        assert_ne!(made.text, keypair().expect("randomness").text);
    }
}
