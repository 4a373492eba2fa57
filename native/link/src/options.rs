//! The command line and the lines of standard input, as values. Nothing here touches the system.

use crate::direction::Shape;

pub const USAGE: &str = "usage: selvedge-link --end NETNS_PATH:INTERFACE --end NETNS_PATH:INTERFACE [--forward SHAPE] [--backward SHAPE] [--seed N]
SHAPE is KEY=NUMBER,...: rate (bit/s, 0 none), delay (us), queue (bytes), loss (of a million)
On standard input, a line each: 'set forward|backward SHAPE', 'stats'. Ends with its parent or with standard input.";

/// As the kernel has it: 15 characters and a zero.
const INTERFACE_CHARS_MAX: usize = 15;
const RATE_BPS_MAX: u64 = 100_000_000_000;
const DELAY_US_MAX: u64 = 10_000_000;
const QUEUE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub struct End {
    pub netns: String,
    pub interface: String,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub ends: [End; 2],
    pub forward: Shape,
    pub backward: Shape,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Forward,
    Backward,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Stats,
    /// The text of the shape, to be read over the one that holds.
    Set(Way, String),
}

pub fn parse_options(arguments: &[String]) -> Result<Options, String> {
    let mut ends = Vec::new();
    let mut forward = Shape::PLAIN;
    let mut backward = Shape::PLAIN;
    let mut seed = 1;
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{name}: a value must follow"))?;
        match name.as_str() {
            "--end" => ends.push(parse_end(value)?),
            "--forward" => forward = parse_shape(forward, value).map_err(|why| format!("--forward: {why}"))?,
            "--backward" => backward = parse_shape(backward, value).map_err(|why| format!("--backward: {why}"))?,
            "--seed" => seed = value.parse().map_err(|_| format!("--seed: '{value}' is not a whole number from 0 to {}", u64::MAX))?,
            _ => return Err(format!("unknown option '{name}'")),
        }
    }
    let count = ends.len();
    let ends = <[End; 2]>::try_from(ends).map_err(|_| format!("--end must be given twice, found {count}"))?;
    Ok(Options { ends, forward, backward, seed })
}

fn parse_end(text: &str) -> Result<End, String> {
    let (netns, interface) = text.rsplit_once(':').ok_or_else(|| format!("--end: '{text}' is not NETNS_PATH:INTERFACE"))?;
    let fits = !interface.is_empty() && interface.len() <= INTERFACE_CHARS_MAX && interface.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !fits || interface == "." || interface == ".." {
        return Err(format!("--end: '{interface}' is not an interface name: letters, digits, '.', '_', '-', 1 to {INTERFACE_CHARS_MAX}"));
    }
    if netns.is_empty() || netns.contains('\0') {
        return Err(format!("--end: '{netns}' is not the path of a network namespace"));
    }
    Ok(End {
        netns: netns.to_string(),
        interface: interface.to_string(),
    })
}

/// `text` names what changes; the rest of `shape` stays.
pub fn parse_shape(shape: Shape, text: &str) -> Result<Shape, String> {
    let mut shape = shape;
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("'{part}' is not KEY=NUMBER"))?;
        let number = |max: u64, unit: &str| match value.parse::<u64>() {
            Ok(number) if number <= max => Ok(number),
            _ => Err(format!("{key}: '{value}' is not a whole number of {unit} from 0 to {max}")),
        };
        match key {
            "rate" => shape.rate_bps = number(RATE_BPS_MAX, "bit/s")?,
            "delay" => shape.delay_ns = number(DELAY_US_MAX, "microseconds")? * 1000,
            "queue" => shape.queue_bytes = number(QUEUE_BYTES_MAX, "bytes")?,
            "loss" => shape.loss_ppm = number(1_000_000, "frames of a million")? as u32,
            _ => return Err(format!("unknown key '{key}'; allowed: rate, delay, queue, loss")),
        }
    }
    Ok(shape)
}

pub fn parse_command(line: &str) -> Result<Command, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["stats"] => Ok(Command::Stats),
        ["set", "forward", shape] => Ok(Command::Set(Way::Forward, shape.to_string())),
        ["set", "backward", shape] => Ok(Command::Set(Way::Backward, shape.to_string())),
        _ => Err("not a command; allowed: stats, set forward SHAPE, set backward SHAPE".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        parse_options(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_whole_command_line_is_understood() {
        let read = options("--end /run/netns/x:wan --end /run/netns/y:p0 --forward rate=50000000,delay=20000,queue=1250000 --backward loss=10 --seed 3").expect("valid");
        assert_eq!(
            read.ends[1],
            End {
                netns: "/run/netns/y".into(),
                interface: "p0".into()
            }
        );
        assert_eq!(
            read.forward,
            Shape {
                rate_bps: 50_000_000,
                delay_ns: 20_000_000,
                queue_bytes: 1_250_000,
                loss_ppm: 0
            }
        );
        assert_eq!(read.backward, Shape { loss_ppm: 10, ..Shape::PLAIN });
    }

    #[test]
    fn a_wrong_argument_is_named_with_what_is_allowed() {
        for (line, part) in [
            ("", "--end must be given twice, found 0"),
            ("--end /a:b", "found 1"),
            ("--end", "a value must follow"),
            ("--end nothing --end /a:b", "is not NETNS_PATH:INTERFACE"),
            ("--end /a:sixteen-letters- --end /a:b", "1 to 15"),
            ("--end /a:b/c --end /a:b", "is not an interface name"),
            ("--end /a:b --end /a:c --forward rate=fast", "rate: 'fast' is not a whole number of bit/s from 0 to 100000000000"),
            ("--end /a:b --end /a:c --forward rate=-1", "not a whole number"),
            ("--end /a:b --end /a:c --forward delay=99999999999999999999999", "microseconds from 0 to 10000000"),
            ("--end /a:b --end /a:c --backward loss=1000001", "--backward: loss"),
            ("--end /a:b --end /a:c --forward speed=1", "allowed: rate, delay, queue, loss"),
            ("--end /a:b --end /a:c --forward rate", "'rate' is not KEY=NUMBER"),
            ("--end /a:b --end /a:c --seed x", "--seed"),
            ("--what 1", "unknown option '--what'"),
        ] {
            let why = options(line).expect_err(line);
            assert!(why.contains(part), "{line}: {why}");
        }
    }

    #[test]
    fn commands_are_two_and_anything_else_is_refused() {
        assert_eq!(parse_command("stats"), Ok(Command::Stats));
        assert_eq!(parse_command(" set  backward rate=1 "), Ok(Command::Set(Way::Backward, "rate=1".into())));
        for line in ["", "stat", "set", "set forward", "set sideways rate=1", "set forward rate=1 delay=2"] {
            assert!(parse_command(line).is_err(), "{line}");
        }
    }
}
