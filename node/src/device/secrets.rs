//! Secrets, made on the device. Invariant: a secret is made once and stays; it exists in one file that only this user
//! may read, and is never in an argument, a variable, a log or an answer of this code.

use super::{
    durable,
    error::{Result, io},
    layout::Place,
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
        let text = generate(&need.generate).map_err(io("draw randomness for", &path))?;
        durable::write(&path, text.as_bytes(), 0o600)?;
        made.push(need.key.clone());
    }
    Ok(made)
}

/// Text without a line end. Random bytes are written as hex: few programs read raw bytes from a file.
fn generate(how: &Generate) -> std::io::Result<String> {
    match *how {
        Generate::Bytes(n) => Ok(random(usize::from(n))?.iter().map(|b| format!("{b:02x}")).collect()),
        Generate::Password(n) => letters(usize::from(n)),
        Generate::Keypair => Err(std::io::Error::other("keypairs are not made yet")),
        Generate::Words(n) => {
            let words = random(2 * usize::from(n))?;
            Ok(words.chunks_exact(2).map(word).collect::<Vec<_>>().join("-"))
        }
    }
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
        let draw = |g: Generate| generate(&g).expect("randomness");
        assert_eq!(draw(Generate::Bytes(32)).len(), 64);
        assert_eq!(draw(Generate::Password(24)).len(), 24);
        assert_eq!(draw(Generate::Words(5)).split('-').map(str::len).collect::<Vec<_>>(), [5; 5]);
        assert_ne!(draw(Generate::Words(5)), draw(Generate::Words(5)));
        assert_eq!(word(&[0xff, 0xff]), "zuzuz");
    }
}
