//! Credit of the bulk lane's octets, growing with time at the governor's rate. Here, on the I/O thread, it goes on while the JavaScript
//! thread pauses, and what that hands over at once leaves evenly.

use std::time::{Duration, Instant};

/// What leaves at once: two packets, or so long at the rate. A sleeping thread's timer is about as exact.
const BURST_BYTES: f64 = 3_000.0;
const BURST_SECONDS: f64 = 0.000_5;
/// Credit that is saved while this thread does not get the processor: never a burst of the size of a long pause.
const SAVED_SECONDS: f64 = 0.003;

pub struct Pacer {
    at: Instant,
    /// Octets; negative after more left than there was credit for.
    credit: f64,
}

impl Pacer {
    pub fn new(now: Instant) -> Self {
        Pacer { at: now, credit: BURST_BYTES }
    }

    /// Octets that may leave now: none, or a burst. `rate` in octets a second.
    pub fn credit(&mut self, now: Instant, rate: u64) -> usize {
        let rate = rate as f64;
        let burst = burst(rate);
        self.credit = (self.credit + rate * now.saturating_duration_since(self.at).as_secs_f64()).min((2.0 * burst).max(rate * SAVED_SECONDS));
        self.at = now;
        // Half a burst at the least: a wake-up for every few octets would cost more than it is worth.
        if self.credit * 2.0 < burst { 0 } else { self.credit as usize }
    }

    pub fn spend(&mut self, bytes: usize) {
        self.credit -= bytes as f64;
    }

    /// Whether it is the credit that is missing.
    pub fn is_spent(&self, rate: u64) -> bool {
        self.credit * 2.0 < burst(rate as f64)
    }

    /// When there is a burst of credit.
    pub fn next(&self, now: Instant, rate: u64) -> Instant {
        let rate = (rate as f64).max(1.0);
        now + Duration::from_secs_f64(((burst(rate) - self.credit) / rate).clamp(0.000_02, 1.0))
    }
}

fn burst(rate: f64) -> f64 {
    BURST_BYTES.max(rate * BURST_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_over_a_second_is_the_rate_whatever_the_wakeups() {
        for step_us in [50, 300, 1_000, 2_500, 9_000] {
            let start = Instant::now();
            let mut pacer = Pacer::new(start);
            let mut left = 0u64;
            let mut largest = 0;
            let mut now = start;
            while now < start + Duration::from_secs(1) {
                let bytes = pacer.credit(now, 6_000_000);
                pacer.spend(bytes);
                left += bytes as u64;
                largest = largest.max(bytes);
                now += Duration::from_micros(step_us);
            }
            let least = if step_us > 3_000 { 5_950_000 * 3_000 / step_us } else { 5_950_000 };
            assert!((least..6_010_000).contains(&left), "{left} with a step of {step_us} us");
            assert!(largest <= 18_000, "{largest}");
        }
    }

    #[test]
    fn the_next_burst_is_told_in_time() {
        let now = Instant::now();
        let mut pacer = Pacer::new(now);
        let bytes = pacer.credit(now, 1_000_000);
        assert_eq!(bytes, 3_000);
        pacer.spend(bytes);
        assert!(pacer.is_spent(1_000_000));
        let next = pacer.next(now, 1_000_000);
        assert_eq!(next.duration_since(now), Duration::from_millis(3));
        assert_eq!(pacer.credit(next, 1_000_000), 3_000);
    }
}
