//! `selvedge-link`: the lab's link. It makes a TAP in each of two network namespaces and carries Ethernet frames between them with a
//! rate, a delay, a queue and loss per direction. One thread: wait for a frame, a command, or the next arrival, whichever is first.
//!
//! Speaks lines: commands on standard input, one JSON object for each on standard output (`options.rs` lists them).

mod direction;
mod options;
mod system;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;

use direction::{Direction, Stats};
use options::{Command, Options, USAGE, Way};

/// Largest Ethernet frame that passes: a jumbo frame with a VLAN tag.
const FRAME_BYTES_MAX: usize = 9_216;
/// Frames read from one end before the other end, the clock and the commands get their turn.
const FRAMES_PER_TURN: usize = 64;
const COMMAND_BYTES_MAX: usize = 1_024;
/// A frame that arrives this soon is handed on now: sleeping costs about as much.
const NEAR_NS: u64 = 5_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match options::parse_options(&arguments) {
        Ok(options) => options,
        Err(why) => return fail(2, &format!("{why}\n{USAGE}")),
    };
    let realtime = system::settle();
    match Link::open(&options) {
        Err(why) => fail(1, &why),
        Ok(mut link) => {
            say(&format!("{{\"ready\":true,\"realtime\":{realtime}}}"));
            match link.run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => fail(1, &why),
            }
        }
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("selvedge-link: {why}");
    ExitCode::from(code)
}

/// One line for the parent; when it is gone, there is nobody left to tell.
fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

struct Link {
    taps: [OwnedFd; 2],
    /// `ways[n]` carries from `taps[n]` to the other.
    ways: [Direction; 2],
    command: Vec<u8>,
}

impl Link {
    fn open(options: &Options) -> Result<Link, String> {
        let taps = [system::open_tap(&options.ends[0])?, system::open_tap(&options.ends[1])?];
        system::set_nonblocking(0).map_err(|error| format!("standard input: {error}"))?;
        let ways = [Direction::new(options.forward, options.seed), Direction::new(options.backward, !options.seed)];
        Ok(Link { taps, ways, command: Vec::new() })
    }

    fn run(&mut self) -> Result<(), String> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let descriptors = [self.taps[0].as_raw_fd(), self.taps[1].as_raw_fd(), 0];
        loop {
            self.hand_on(0);
            self.hand_on(1);
            let [from_first, from_second, commanded] = system::wait(descriptors, self.wait_ns()).map_err(|error| format!("waiting: {error}"))?;
            if from_first {
                self.take_in(0, &mut buffer)?;
            }
            if from_second {
                self.take_in(1, &mut buffer)?;
            }
            if commanded && !self.obey(&mut buffer)? {
                return Ok(());
            }
        }
    }

    fn wait_ns(&self) -> Option<u64> {
        let next = self.ways.iter().filter_map(Direction::next_arrival_ns).min()?;
        Some(next.saturating_sub(system::now_ns()))
    }

    fn take_in(&mut self, from: usize, buffer: &mut [u8]) -> Result<(), String> {
        for _ in 0..FRAMES_PER_TURN {
            match system::read(self.taps[from].as_raw_fd(), buffer) {
                Ok(Some(count)) => self.ways[from].enter(system::now_ns(), &buffer[..count]),
                Ok(None) => break,
                Err(error) => return Err(format!("reading end {}: {error}", from + 1)),
            }
        }
        Ok(())
    }

    fn hand_on(&mut self, from: usize) {
        let to = self.taps[1 - from].as_raw_fd();
        let way = &mut self.ways[from];
        while let Some(at) = way.next_arrival_ns() {
            let now = system::now_ns();
            if at > now + NEAR_NS {
                break;
            }
            let Some(frame) = way.leave(at.max(now)) else { break };
            if !system::write(to, &frame) {
                way.count_write_failure();
            }
        }
    }

    /// Reads commands; false at the end of standard input.
    fn obey(&mut self, buffer: &mut [u8]) -> Result<bool, String> {
        let count = match system::read(0, buffer).map_err(|error| format!("standard input: {error}"))? {
            Some(0) => return Ok(false),
            Some(count) => count,
            None => return Ok(true),
        };
        for &byte in &buffer[..count] {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&self.command).into_owned();
                self.command.clear();
                say(&self.answer(&line).unwrap_or_else(|why| format!("{{\"error\":{}}}", json_string(&why))));
            } else if self.command.len() < COMMAND_BYTES_MAX {
                self.command.push(byte);
            } else {
                return Err(format!("command longer than {COMMAND_BYTES_MAX} bytes"));
            }
        }
        Ok(true)
    }

    fn answer(&mut self, line: &str) -> Result<String, String> {
        let now = system::now_ns();
        match options::parse_command(line)? {
            Command::Stats => {
                let [forward, backward] = &mut self.ways;
                Ok(format!(
                    "{{\"forward\":{},\"backward\":{}}}",
                    stats_json(&forward.read_stats(now)),
                    stats_json(&backward.read_stats(now))
                ))
            }
            Command::Set(way, text) => {
                let direction = &mut self.ways[if way == Way::Forward { 0 } else { 1 }];
                let shape = options::parse_shape(direction.shape(), &text)?;
                direction.reshape(now, shape);
                Ok("{\"ok\":true}".to_string())
            }
        }
    }
}

fn stats_json(stats: &Stats) -> String {
    let Stats {
        frames_in,
        bytes_in,
        frames_out,
        bytes_out,
        dropped_queue,
        dropped_loss,
        dropped_write,
        queue_bytes,
        queue_peak_bytes,
        late_peak_ns,
    } = stats;
    let late_peak_us = late_peak_ns / 1000;
    format!(
        "{{\"frames_in\":{frames_in},\"bytes_in\":{bytes_in},\"frames_out\":{frames_out},\"bytes_out\":{bytes_out},\"dropped_queue\":{dropped_queue},\
         \"dropped_loss\":{dropped_loss},\"dropped_write\":{dropped_write},\"queue_bytes\":{queue_bytes},\"queue_peak_bytes\":{queue_peak_bytes},\"late_peak_us\":{late_peak_us}}}"
    )
}

fn json_string(text: &str) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|letter| {
            if letter.is_control() {
                "?".chars().collect::<Vec<_>>()
            } else if "\"\\".contains(letter) {
                vec!['\\', letter]
            } else {
                vec![letter]
            }
        })
        .collect();
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hostile_command_echoes_is_still_json() {
        assert_eq!(json_string("a\"b\\c\u{1}"), "\"a\\\"b\\\\c?\"");
    }
}
