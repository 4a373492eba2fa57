//! Signs with a key that stays in a PKCS#11 token. The vendor's library runs in this process alone: what it crashes or blocks is not the tower, and the
//! tower's memory is not its to read. One request a line on standard input, one answer a line on standard output; ends with its input.
//!
//! Texts and octets are hexadecimal. The PIN comes in the first line, so that it is in no argument list and no environment.

mod hex;
mod token;

use std::io::{self, BufRead, Write};

use token::{Failure, Token};

/// Longer than any request: a label of 64 octets and a digest, or four short texts.
const LINE_BYTES_MAX: usize = 16 * 1024;

fn main() {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut token = None;
    loop {
        let Some(line) = read_line(&mut input) else { return };
        let answer = match answer(&line, &mut token) {
            Ok(words) => format!("ok {words}\n"),
            Err(failure) => format!("error {} {}\n", failure.kind, hex::encode(failure.why.as_bytes())),
        };
        if output.write_all(answer.as_bytes()).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

/// None at the end of the input, and for a line that no tower writes.
fn read_line(input: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let mut bounded = io::Read::take(input, LINE_BYTES_MAX as u64);
    bounded.read_until(b'\n', &mut line).ok()?;
    if line.pop() != Some(b'\n') {
        return None;
    }
    String::from_utf8(line).ok()
}

fn answer(line: &str, token: &mut Option<Token>) -> Result<String, Failure> {
    let words: Vec<&str> = line.split(' ').collect();
    match (words.as_slice(), token) {
        (["open", module, label, pin], slot) => {
            *slot = Some(Token::open(&text(module)?, &text(label)?, text(pin)?)?);
            Ok(String::new())
        }
        (_, None) => Err(Failure::usage("nothing is open")),
        (["public", label], Some(token)) => Ok(hex::encode(&token.public_point(&text(label)?)?)),
        (["generate", label], Some(token)) => token.generate(&text(label)?).map(|()| String::new()),
        (["sign", label, digest], Some(token)) => Ok(hex::encode(&token.sign(&text(label)?, &octets(digest)?)?)),
        _ => Err(Failure::usage("no such request")),
    }
}

fn octets(word: &str) -> Result<Vec<u8>, Failure> {
    hex::decode(word).ok_or_else(|| Failure::usage("not hexadecimal"))
}

fn text(word: &str) -> Result<String, Failure> {
    String::from_utf8(octets(word)?).map_err(|_| Failure::usage("not UTF-8"))
}
