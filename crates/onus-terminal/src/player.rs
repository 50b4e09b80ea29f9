//! Plays a recording: what to write to a terminal, and how long to wait before it.
//!
//! Pure: the player sleeps nowhere and reads no key; whoever drives it does. Time is the recording's, in microseconds.

use std::num::NonZeroU32;

use crate::asciicast::{Event, EventKind};
use crate::harmless::Harmless;

/// Full reset of a terminal: the screen a recording starts from.
const RESET: &[u8] = b"\x1bc";

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How long to wait before it.
    pub delay_us: u64,
    /// What to write then.
    pub bytes: Vec<u8>,
    /// The terminal's size from then on, where it changed: columns, rows.
    pub size: Option<(u16, u16)>,
}

/// How to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Speed in percent of the original.
    pub speed_percent: NonZeroU32,
    /// Pauses longer than this are shortened to it, before speed is applied.
    pub idle_limit_us: Option<u64>,
    /// What of the output reaches the terminal.
    pub passing: Passing,
}

/// What of a recording's output reaches the terminal it is played on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Passing {
    /// Only what draws, see [`Harmless`]: the recorded party must not act on the viewer's terminal.
    #[default]
    Harmless,
    /// Every byte; for a terminal that is itself an emulator without side effects.
    Everything,
}

impl Default for Options {
    fn default() -> Self {
        Self { speed_percent: NonZeroU32::MIN.saturating_add(99), idle_limit_us: None, passing: Passing::Harmless }
    }
}

/// An iterator over the steps of a recording.
///
/// It ends with the recording; while paused it gives `None` too, see [`Player::is_finished`]. After a seek the first
/// step holds everything before the target at once, so that the screen is right.
#[derive(Debug, Clone)]
pub struct Player {
    /// The size at the start, to go back to.
    size: (u16, u16),
    events: Vec<Event>,
    options: Options,
    filter: Harmless,
    /// How many events the terminal has seen.
    played: usize,
    at_us: u64,
    jump: Option<Jump>,
    is_paused: bool,
}

#[derive(Debug, Clone, Copy)]
struct Jump {
    /// How many events the terminal shall have seen.
    played: usize,
    at_us: u64,
}

impl Player {
    /// A player at the start of `events`, which are in order of time, on a terminal that already has the recording's
    /// initial `size` (columns, rows).
    pub fn new(size: (u16, u16), events: Vec<Event>, options: Options) -> Self {
        Self { size, events, options, filter: Harmless::new(), played: 0, at_us: 0, jump: None, is_paused: false }
    }

    /// Changes how to play, from the next step on.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Goes to a moment, forwards or backwards; what happened at it counts as past.
    pub fn seek(&mut self, at_us: u64) {
        let at_us = at_us.min(self.duration_us());
        let played = self.events.partition_point(|event| event.at_us <= at_us);
        self.jump = Some(Jump { played, at_us });
    }

    /// Goes to the marker of operation `op`; false, and nothing changes, when there is none.
    pub fn seek_operation(&mut self, op: u64) -> bool {
        let of_op =
            |event: &Event| matches!(&event.kind, EventKind::Marker(label) if marker_operation(label) == Some(op));
        let Some(index) = self.events.iter().position(of_op) else { return false };
        self.jump = Some(Jump { played: index + 1, at_us: self.events[index].at_us });
        true
    }

    /// Stops giving steps; a seek still shows its screen.
    pub fn pause(&mut self) {
        self.is_paused = true;
    }

    /// Goes on after a pause.
    pub fn resume(&mut self) {
        self.is_paused = false;
    }

    /// Whether steps are held back by [`Player::pause`].
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether nothing is left to play.
    pub fn is_finished(&self) -> bool {
        self.jump.is_none() && self.played == self.events.len()
    }

    /// The moment in the recording that the terminal shows.
    pub fn position_us(&self) -> u64 {
        self.jump.map_or(self.at_us, |jump| jump.at_us)
    }

    /// The recording's length.
    pub fn duration_us(&self) -> u64 {
        self.events.last().map_or(0, |event| event.at_us)
    }

    /// Everything between what the terminal shows and the jump's target, without delay.
    fn land(&mut self, jump: Jump) -> Step {
        let mut step = Step { delay_us: 0, bytes: Vec::new(), size: None };
        if jump.played < self.played {
            self.filter = Harmless::new();
            step.bytes.extend_from_slice(RESET);
            step.size = Some(self.size);
            self.played = 0;
        }
        while self.played < jump.played {
            self.show(&mut step);
        }
        self.at_us = jump.at_us;
        step
    }

    /// Adds the next event to `step`; whether a terminal sees anything of it.
    fn show(&mut self, step: &mut Step) -> bool {
        let event = &self.events[self.played];
        self.played += 1;
        match &event.kind {
            EventKind::Output(bytes) => match self.options.passing {
                Passing::Harmless => self.filter.filter(bytes, &mut step.bytes),
                Passing::Everything => step.bytes.extend_from_slice(bytes),
            },
            EventKind::Resize(cols, rows) => step.size = Some((*cols, *rows)),
            EventKind::Input(_) | EventKind::Marker(_) | EventKind::Exit(_) => return false,
        }
        true
    }
}

impl Iterator for Player {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some(jump) = self.jump.take() {
            return Some(self.land(jump));
        }
        if self.is_paused {
            return None;
        }
        let mut step = Step { delay_us: 0, bytes: Vec::new(), size: None };
        while let Some(event) = self.events.get(self.played) {
            let at_us = event.at_us;
            if self.show(&mut step) {
                let gap_us = at_us.saturating_sub(self.at_us).min(self.options.idle_limit_us.unwrap_or(u64::MAX));
                let delay_us = u128::from(gap_us) * 100 / u128::from(self.options.speed_percent.get());
                step.delay_us = u64::try_from(delay_us).unwrap_or(u64::MAX);
                self.at_us = self.at_us.max(at_us);
                return Some(step);
            }
        }
        self.at_us = self.duration_us();
        None
    }
}

/// The operation's number in a marker's label: the member `op` of a JSON object.
pub fn marker_operation(label: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(label).ok()?.get("op")?.as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording() -> Vec<Event> {
        let output = |at_us, text: &str| Event { at_us, kind: EventKind::Output(text.into()) };
        vec![
            output(1_000, "a"),
            Event { at_us: 2_000, kind: EventKind::Input(b"x".to_vec()) },
            output(3_000, "b"),
            Event { at_us: 4_000, kind: EventKind::Marker(r#"{"onus":"permit","op":7}"#.to_owned()) },
            Event { at_us: 4_000, kind: EventKind::Resize(100, 30) },
            output(10_000, "\u{1b}[6nc"),
            Event { at_us: 11_000, kind: EventKind::Exit(0) },
        ]
    }

    type Seen = (u64, String, Option<(u16, u16)>);

    fn steps(player: &mut Player) -> Vec<Seen> {
        player.map(|step| (step.delay_us, String::from_utf8(step.bytes).unwrap(), step.size)).collect()
    }

    fn step(delay_us: u64, text: &str) -> Seen {
        (delay_us, text.to_owned(), None)
    }

    #[test]
    fn plays_to_the_end_without_what_a_terminal_answers() {
        let mut player = Player::new((80, 24), recording(), Options::default());
        let resized = (1_000, String::new(), Some((100, 30)));
        assert_eq!(steps(&mut player), [step(1_000, "a"), step(2_000, "b"), resized, step(6_000, "c")]);
        assert!(player.is_finished());
        assert_eq!(player.position_us(), 11_000);
    }

    #[test]
    fn idle_limit_comes_before_speed() {
        let options = Options {
            speed_percent: NonZeroU32::new(200).unwrap(),
            idle_limit_us: Some(1_500),
            passing: Passing::Everything,
        };
        let delays: Vec<u64> = Player::new((80, 24), recording(), options).map(|step| step.delay_us).collect();
        assert_eq!(delays, [500, 750, 500, 750]);
    }

    #[test]
    fn seeking_shows_the_screen_of_that_moment_at_once() {
        let mut player = Player::new((80, 24), recording(), Options::default());
        player.seek(5_000);
        assert_eq!(steps(&mut player), [(0, "ab".to_owned(), Some((100, 30))), step(5_000, "c")]);
        player.seek(1_000);
        player.pause();
        assert_eq!(steps(&mut player), [(0, "\u{1b}ca".to_owned(), Some((80, 24)))], "backwards, and while paused");
        assert!(!player.is_finished() && player.position_us() == 1_000);
        player.resume();
        assert_eq!(player.next().map(|step| (step.delay_us, step.bytes)), Some((2_000, b"b".to_vec())));
        player.seek(u64::MAX);
        assert_eq!(steps(&mut player), [(0, "c".to_owned(), Some((100, 30)))]);
    }

    #[test]
    fn seeking_an_operation_goes_to_its_marker() {
        let mut player = Player::new((80, 24), recording(), Options::default());
        assert!(!player.seek_operation(8));
        assert!(player.seek_operation(7));
        assert_eq!(player.next().map(|step| step.bytes), Some(b"ab".to_vec()));
        assert_eq!(player.position_us(), 4_000);
    }

    #[test]
    fn two_seeks_before_a_step_are_the_last_one() {
        let mut player = Player::new((80, 24), recording(), Options::default());
        player.seek(10_000);
        player.seek(1_500);
        assert_eq!(player.next().map(|step| step.bytes), Some(b"a".to_vec()), "no reset: nothing was shown yet");
    }
}
