//! One direction of a link, as a machine without a clock: frames go in at a time, and come out at the time they would arrive.
//!
//! A frame waits behind those before it (the queue, which drops at its tail), takes `bytes * 8 / rate` to leave, then travels for
//! `delay`. Times are computed from times, never from when somebody looked, so a late caller shifts one frame and not the line.

use std::collections::VecDeque;

/// Frames on their way are bounded even on a link without a rate: what travels at 10 Gbit/s for 50 ms.
const TRAVELLING_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What a direction does to frames. Changeable while frames are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bits a second, counted over whole Ethernet frames; 0 is no limit.
    pub rate_bps: u64,
    pub delay_ns: u64,
    /// Bytes that may wait. An empty queue takes one frame of any size.
    pub queue_bytes: u64,
    /// Frames lost at random, of a million.
    pub loss_ppm: u32,
}

impl Shape {
    pub const PLAIN: Shape = Shape {
        rate_bps: 0,
        delay_ns: 0,
        queue_bytes: 16 * 1024 * 1024,
        loss_ppm: 0,
    };

    fn sending_ns(&self, bytes: usize) -> u64 {
        if self.rate_bps == 0 {
            return 0;
        }
        (bytes as u128 * 8 * 1_000_000_000 / self.rate_bps as u128) as u64
    }
}

/// Counters since the start; the two peaks are since they were last read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub frames_in: u64,
    pub bytes_in: u64,
    pub frames_out: u64,
    pub bytes_out: u64,
    pub dropped_queue: u64,
    pub dropped_loss: u64,
    pub dropped_write: u64,
    pub queue_bytes: u64,
    pub queue_peak_bytes: u64,
    /// How late a frame was handed on, at worst: above some hundred microseconds the machine is too busy for the figures to be exact.
    pub late_peak_ns: u64,
}

pub struct Direction {
    shape: Shape,
    random: SplitMix,
    /// Not yet left, oldest first; the first one leaves at `first_leaves_ns`.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: u64,
    first_leaves_ns: u64,
    /// Left, with the time of arrival; these times never go down, so frames stay in order when the delay is made shorter.
    travelling: VecDeque<(u64, Vec<u8>)>,
    travelling_bytes: u64,
    last_arrival_ns: u64,
    stats: Stats,
}

impl Direction {
    pub fn new(shape: Shape, seed: u64) -> Direction {
        Direction {
            shape,
            random: SplitMix(seed),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            first_leaves_ns: 0,
            travelling: VecDeque::new(),
            travelling_bytes: 0,
            last_arrival_ns: 0,
            stats: Stats::default(),
        }
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// A frame enters at `now_ns`, which never goes down from call to call.
    pub fn enter(&mut self, now_ns: u64, frame: &[u8]) {
        self.advance(now_ns);
        let bytes = frame.len() as u64;
        self.stats.frames_in += 1;
        self.stats.bytes_in += bytes;
        if self.shape.loss_ppm > 0 && self.random.below(1_000_000) < u64::from(self.shape.loss_ppm) {
            self.stats.dropped_loss += 1;
            return;
        }
        let full = !self.waiting.is_empty() && self.waiting_bytes + bytes > self.shape.queue_bytes;
        if full || self.travelling_bytes + self.waiting_bytes + bytes > TRAVELLING_BYTES_MAX {
            self.stats.dropped_queue += 1;
            return;
        }
        if self.waiting.is_empty() {
            self.first_leaves_ns = now_ns + self.shape.sending_ns(frame.len());
        }
        self.waiting.push_back(frame.to_vec());
        self.waiting_bytes += bytes;
        self.stats.queue_peak_bytes = self.stats.queue_peak_bytes.max(self.waiting_bytes);
    }

    /// When the next frame arrives at the far end, if one is under way.
    pub fn next_arrival_ns(&self) -> Option<u64> {
        match self.travelling.front() {
            Some((arrival_ns, _)) => Some(*arrival_ns),
            None if self.waiting.is_empty() => None,
            None => Some(self.arrival_of(self.first_leaves_ns)),
        }
    }

    /// The next frame that has arrived by `now_ns`.
    pub fn leave(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        self.advance(now_ns);
        let (arrival_ns, _) = self.travelling.front()?;
        if *arrival_ns > now_ns {
            return None;
        }
        self.stats.late_peak_ns = self.stats.late_peak_ns.max(now_ns - arrival_ns);
        let (_, frame) = self.travelling.pop_front()?;
        let bytes = frame.len() as u64;
        self.travelling_bytes -= bytes;
        self.stats.frames_out += 1;
        self.stats.bytes_out += bytes;
        Some(frame)
    }

    /// The far end did not take a frame that `leave` gave.
    pub fn count_write_failure(&mut self) {
        self.stats.dropped_write += 1;
    }

    /// From `now_ns` on, what has not left is subject to the new shape; what travels keeps its time of arrival.
    pub fn reshape(&mut self, now_ns: u64, shape: Shape) {
        self.advance(now_ns);
        if let Some(first) = self.waiting.front() {
            // The part of the first frame that has not left yet takes as long as the new rate says.
            let whole_ns = self.shape.sending_ns(first.len());
            let rest_ns = self.first_leaves_ns.saturating_sub(now_ns);
            let new_whole_ns = shape.sending_ns(first.len());
            let new_rest_ns = if whole_ns == 0 {
                new_whole_ns
            } else {
                (new_whole_ns as u128 * rest_ns as u128 / whole_ns as u128) as u64
            };
            self.first_leaves_ns = now_ns + new_rest_ns;
        }
        self.shape = shape;
    }

    /// The counters; the peaks start anew.
    pub fn read_stats(&mut self, now_ns: u64) -> Stats {
        self.advance(now_ns);
        let stats = Stats {
            queue_bytes: self.waiting_bytes,
            ..self.stats
        };
        self.stats.queue_peak_bytes = self.waiting_bytes;
        self.stats.late_peak_ns = 0;
        stats
    }

    /// Lets everything leave the queue whose time has come.
    fn advance(&mut self, now_ns: u64) {
        while self.first_leaves_ns <= now_ns {
            let Some(frame) = self.waiting.pop_front() else { return };
            let left_ns = self.first_leaves_ns;
            let bytes = frame.len() as u64;
            self.waiting_bytes -= bytes;
            self.last_arrival_ns = self.arrival_of(left_ns);
            self.travelling_bytes += bytes;
            self.travelling.push_back((self.last_arrival_ns, frame));
            if let Some(next) = self.waiting.front() {
                self.first_leaves_ns = left_ns + self.shape.sending_ns(next.len());
            }
        }
    }

    fn arrival_of(&self, left_ns: u64) -> u64 {
        (left_ns + self.shape.delay_ns).max(self.last_arrival_ns)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): a few lines, and the same losses for the same seed.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z as u128 * bound as u128) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const UPLINK: Shape = Shape {
        rate_bps: 50_000_000,
        delay_ns: 20 * MS,
        queue_bytes: 1_250_000,
        loss_ppm: 0,
    };

    /// Takes everything out, at the very time it arrives.
    fn drain(direction: &mut Direction) -> Vec<(u64, usize)> {
        let mut out = Vec::new();
        while let Some(at) = direction.next_arrival_ns() {
            assert!(direction.leave(at - 1).is_none(), "nothing arrives early");
            out.push((at, direction.leave(at).expect("what is announced arrives").len()));
        }
        out
    }

    #[test]
    fn an_idle_frame_takes_its_sending_time_and_the_delay() {
        let mut direction = Direction::new(UPLINK, 1);
        direction.enter(5 * MS, &[0; 1250]);
        assert_eq!(drain(&mut direction), [(5 * MS + 200_000 + 20 * MS, 1250)]);
    }

    #[test]
    fn a_burst_leaves_at_the_rate_however_late_one_looks() {
        let mut direction = Direction::new(UPLINK, 1);
        for _ in 0..100 {
            direction.enter(0, &[0; 1250]);
        }
        let mut arrivals = 0;
        while direction.leave(20 * MS + 100 * 200_000).is_some() {
            arrivals += 1;
        }
        assert_eq!(arrivals, 100);
        direction.enter(40 * MS, &[0; 1250]);
        assert_eq!(direction.next_arrival_ns(), Some(60 * MS + 200_000));
    }

    #[test]
    fn a_backlog_is_served_back_to_back() {
        let mut direction = Direction::new(UPLINK, 1);
        for at in 0..1000 {
            direction.enter(at * 100_000, &[0; 1250]); // twice the rate
        }
        let out = drain(&mut direction);
        let gaps: Vec<u64> = out.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!(gaps.iter().all(|gap| *gap == 200_000), "50 Mbit/s is a frame of 1250 bytes each 200 us");
    }

    #[test]
    fn the_queue_drops_at_its_tail_and_an_empty_one_takes_any_frame() {
        let mut direction = Direction::new(Shape { queue_bytes: 2500, ..UPLINK }, 1);
        for _ in 0..5 {
            direction.enter(0, &[0; 1250]);
        }
        let stats = direction.read_stats(0);
        assert_eq!((stats.dropped_queue, stats.queue_peak_bytes), (3, 2500));
        let mut tiny = Direction::new(Shape { queue_bytes: 1, ..UPLINK }, 1);
        tiny.enter(0, &[0; 1250]);
        assert_eq!(tiny.read_stats(0).dropped_queue, 0);
    }

    #[test]
    fn two_hundred_milliseconds_of_queue_are_two_hundred_milliseconds_of_delay() {
        let mut direction = Direction::new(UPLINK, 1);
        for _ in 0..2000 {
            direction.enter(0, &[0; 1250]);
        }
        let out = drain(&mut direction);
        assert_eq!(out.len(), 1000);
        assert_eq!(out.last().expect("some").0, 220 * MS);
    }

    #[test]
    fn a_new_rate_holds_for_what_has_not_left_yet() {
        let mut direction = Direction::new(Shape { delay_ns: 0, ..UPLINK }, 1);
        direction.enter(0, &[0; 1250]);
        direction.enter(0, &[0; 1250]);
        direction.reshape(
            100_000,
            Shape {
                rate_bps: 10_000_000,
                delay_ns: 0,
                ..UPLINK
            },
        );
        // Half of the first frame is gone; the other half takes half a millisecond at 10 Mbit/s, the second frame a whole one.
        assert_eq!(drain(&mut direction), [(600_000, 1250), (1_600_000, 1250)]);
    }

    #[test]
    fn a_shorter_delay_does_not_reorder() {
        let mut direction = Direction::new(Shape { rate_bps: 0, ..UPLINK }, 1);
        direction.enter(0, &[0; 100]);
        assert_eq!(direction.next_arrival_ns(), Some(20 * MS));
        direction.reshape(MS, Shape { rate_bps: 0, delay_ns: MS, ..UPLINK });
        direction.enter(2 * MS, &[0; 200]);
        assert_eq!(drain(&mut direction), [(20 * MS, 100), (20 * MS, 200)]);
    }

    #[test]
    fn loss_is_as_asked_and_the_same_for_the_same_seed() {
        let lost = |seed| {
            let mut direction = Direction::new(
                Shape {
                    loss_ppm: 10_000,
                    rate_bps: 0,
                    ..UPLINK
                },
                seed,
            );
            for at in 0..100_000 {
                direction.enter(at * 1000, &[0; 60]);
                while direction.leave(at * 1000).is_some() {}
            }
            direction.read_stats(1_000_000_000).dropped_loss
        };
        assert_eq!(lost(7), lost(7));
        assert!((900..1100).contains(&lost(7)), "1 % of 100000, found {}", lost(7));
        assert_ne!(lost(7), lost(8));
    }

    #[test]
    fn a_link_without_a_rate_still_bounds_what_travels() {
        let mut direction = Direction::new(
            Shape {
                rate_bps: 0,
                delay_ns: 1_000 * MS,
                queue_bytes: u64::MAX,
                loss_ppm: 0,
            },
            1,
        );
        for _ in 0..50_000 {
            direction.enter(0, &[0; 1500]);
        }
        assert!(direction.travelling_bytes + direction.waiting_bytes <= TRAVELLING_BYTES_MAX);
        assert!(direction.read_stats(0).dropped_queue > 0);
    }

    #[test]
    fn nothing_is_left_and_all_is_counted_once_it_is_drained() {
        let mut direction = Direction::new(UPLINK, 1);
        for at in 0..500 {
            direction.enter(at * 150_000, &vec![0; 60 + at as usize]);
        }
        let out = drain(&mut direction);
        let stats = direction.read_stats(u64::MAX / 2);
        assert_eq!(stats.frames_in, stats.frames_out + stats.dropped_queue);
        assert_eq!((out.len() as u64, stats.queue_bytes, direction.travelling_bytes), (stats.frames_out, 0, 0));
    }
}
