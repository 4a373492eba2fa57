//! The congestion controller of every connection: the stack's own (Cubic or BBR), and beside it, once the governor sets one, a window
//! with a loss answer of its own, of which the larger holds; and the view of single packets that the governor looks at. Shared with the JavaScript thread by atomics; it never locks.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{BbrConfig, Controller, ControllerFactory, CubicConfig};

const NONE: u64 = u64::MAX;
/// While the governor is in charge, at most one halving a round trip, and only when more than this part of a round was lost.
const LOSS_PART_MAX: f64 = 0.1;
/// The governor's window never goes below this many packets.
const WINDOW_PACKETS_MIN: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Cubic,
    Bbr,
}

/// What one connection's controllers (one per network path) and the JavaScript thread share.
#[derive(Debug)]
pub struct Control {
    window: AtomicU64,
    /// Octets of the bulk lane a second; the driver holds back what is beyond.
    pace: AtomicU64,
    rtt_min_us: AtomicU64,
    rtt_latest_us: AtomicU64,
    acked: AtomicU64,
    lost: AtomicU64,
    sent: AtomicU64,
    in_flight: AtomicU64,
    looked_acked: AtomicU64,
    looked_lost: AtomicU64,
    looked_sent: AtomicU64,
}

/// What happened since the last look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub rtt_min_us: Option<u64>,
    pub rtt_latest_us: Option<u64>,
    pub acked: u64,
    pub lost: u64,
    pub sent: u64,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            window: AtomicU64::new(NONE),
            pace: AtomicU64::new(NONE),
            rtt_min_us: AtomicU64::new(NONE),
            rtt_latest_us: AtomicU64::new(NONE),
            acked: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            looked_acked: AtomicU64::new(0),
            looked_lost: AtomicU64::new(0),
            looked_sent: AtomicU64::new(0),
        }
    }
}

impl Control {
    pub fn set_window(&self, bytes: Option<u64>) {
        self.window.store(bytes.unwrap_or(NONE), Relaxed);
    }

    fn window(&self) -> Option<u64> {
        Some(self.window.load(Relaxed)).filter(|bytes| *bytes != NONE)
    }

    pub fn set_pace(&self, bytes_per_s: Option<u64>) {
        self.pace.store(bytes_per_s.unwrap_or(NONE), Relaxed);
    }

    pub fn pace(&self) -> Option<u64> {
        Some(self.pace.load(Relaxed)).filter(|rate| *rate != NONE)
    }

    pub fn acked(&self) -> u64 {
        self.acked.load(Relaxed)
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// One looker only: the JavaScript thread.
    pub fn look(&self) -> Sample {
        let since = |total: &AtomicU64, looked: &AtomicU64| {
            let now = total.load(Relaxed);
            now - looked.swap(now, Relaxed)
        };
        Sample {
            rtt_min_us: Some(self.rtt_min_us.swap(NONE, Relaxed)).filter(|us| *us != NONE),
            rtt_latest_us: Some(self.rtt_latest_us.swap(NONE, Relaxed)).filter(|us| *us != NONE),
            acked: since(&self.acked, &self.looked_acked),
            lost: since(&self.lost, &self.looked_lost),
            sent: since(&self.sent, &self.looked_sent),
        }
    }
}

/// Builds the controller of each path of one connection.
pub struct GovernedConfig {
    pub control: Arc<Control>,
    pub algorithm: Algorithm,
    pub initial_window: u64,
}

impl ControllerFactory for GovernedConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = match self.algorithm {
            Algorithm::Cubic => {
                let mut config = CubicConfig::default();
                config.initial_window(self.initial_window);
                Arc::new(config).build(now, current_mtu)
            }
            Algorithm::Bbr => Arc::new(BbrConfig::default()).build(now, current_mtu),
        };
        Box::new(Governed { control: Arc::clone(&self.control), inner, mtu: u64::from(current_mtu), round: Round::new(now), backoff: 1.0, flight: 0 })
    }
}

/// What was acknowledged and lost in the round trip under way, for the loss answer under an imposed window.
#[derive(Debug, Clone)]
struct Round {
    started: Instant,
    acked: u64,
    lost: u64,
}

impl Round {
    fn new(started: Instant) -> Self {
        Round { started, acked: 0, lost: 0 }
    }
}

struct Governed {
    control: Arc<Control>,
    inner: Box<dyn Controller>,
    mtu: u64,
    round: Round,
    /// Part of the imposed window that losses leave.
    backoff: f64,
    /// In flight before the acknowledgements under way.
    flight: u64,
}

impl Governed {
    /// The end of a round: more than a tenth lost halves the window, a clean round gives a quarter of it back.
    fn end_round(&mut self, now: Instant) {
        let total = self.round.acked + self.round.lost;
        if total > 0 {
            let part = self.round.lost as f64 / total as f64;
            self.backoff = if part > LOSS_PART_MAX { (self.backoff / 2.0).max(1.0 / 64.0) } else { (self.backoff * 1.25).min(1.0) };
        }
        self.round = Round::new(now);
    }
}

impl Controller for Governed {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.control.sent.fetch_add(bytes, Relaxed);
        self.flight += bytes;
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        let us = now.saturating_duration_since(sent).as_micros() as u64;
        self.control.rtt_min_us.fetch_min(us, Relaxed);
        self.control.rtt_latest_us.store(us, Relaxed);
        self.control.acked.fetch_add(bytes, Relaxed);
        self.round.acked += bytes;
        if now.saturating_duration_since(self.round.started) >= rtt.get() {
            self.end_round(now);
        }
        // A window that is not used is not validated, so it does not grow (RFC 7661): where nothing is ever lost, it would without end.
        let unused = self.flight * 2 < self.inner.window();
        self.inner.on_ack(now, sent, bytes, app_limited || unused, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest_packet_num_acked: Option<u64>) {
        self.control.in_flight.store(in_flight, Relaxed);
        self.flight = in_flight;
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent_congestion: bool, lost_bytes: u64) {
        self.control.lost.fetch_add(lost_bytes, Relaxed);
        self.round.lost += lost_bytes;
        if is_persistent_congestion {
            self.end_round(now);
        }
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.inner.on_mtu_update(new_mtu);
    }

    /// Bulk is held by its pace, whatever the window is. So where the stack's own window is the larger one it holds: the governor's is made for the
    /// bulk that it lets go, which may be none while a screen is sent.
    fn window(&self) -> u64 {
        let imposed = self.control.window().map_or(0, |bytes| ((bytes as f64 * self.backoff) as u64).max(WINDOW_PACKETS_MIN * self.mtu));
        imposed.max(self.inner.window())
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Governed {
            control: Arc::clone(&self.control),
            inner: self.inner.clone_box(),
            mtu: self.mtu,
            round: self.round.clone(),
            backoff: self.backoff,
            flight: self.flight,
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn governed() -> (Arc<Control>, Box<dyn Controller>, Instant) {
        let control = Arc::new(Control::default());
        let config = GovernedConfig { control: Arc::clone(&control), algorithm: Algorithm::Cubic, initial_window: 14_720 };
        let now = Instant::now();
        (control, Arc::new(config).build(now, 1200), now)
    }

    #[test]
    fn the_stack_decides_until_the_governor_does() {
        let (control, controller, _) = governed();
        assert_eq!(controller.window(), 14_720);
        control.set_window(Some(100_000));
        assert_eq!(controller.window(), 100_000);
        control.set_window(Some(1));
        assert_eq!(controller.window(), 14_720);
        control.set_window(None);
        assert_eq!(controller.window(), 14_720);
    }

    #[test]
    fn the_larger_window_holds() {
        let (control, mut controller, now) = governed();
        control.set_window(Some(10_000));
        assert_eq!(controller.window(), 14_720, "what is not bulk keeps the stack's own window while there is little bulk");
        control.set_window(Some(400_000));
        controller.on_sent(now, 300_000, 1);
        controller.on_congestion_event(now, now, false, 3_000);
        assert_eq!(controller.window(), 400_000, "random loss lowers the stack's own alone");
        control.set_window(None);
        assert!(controller.window() < 14_720);
    }

    #[test]
    fn a_tenth_lost_is_ignored_and_more_halves_the_imposed_window() {
        let (control, mut controller, now) = governed();
        control.set_window(Some(100_000));
        controller.on_sent(now, 100_000, 1);
        controller.on_congestion_event(now, now, false, 5_000);
        assert_eq!(controller.window(), 100_000);
        controller.on_congestion_event(now, now, true, 20_000);
        assert_eq!(controller.window(), 50_000);
        let sample = control.look();
        assert_eq!((sample.sent, sample.lost), (100_000, 25_000));
    }

    #[test]
    fn a_look_tells_only_what_is_new() {
        let (control, mut controller, now) = governed();
        controller.on_sent(now, 1200, 1);
        assert_eq!(control.look().sent, 1200);
        assert_eq!(control.look(), Sample { rtt_min_us: None, rtt_latest_us: None, acked: 0, lost: 0, sent: 0 });
        controller.on_sent(now + Duration::from_millis(1), 1200, 2);
        assert_eq!(control.look().sent, 1200);
    }
}
