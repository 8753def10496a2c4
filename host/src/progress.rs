//! Progress of long work, on standard error: a bar on a terminal, otherwise a plain line at most every ten seconds.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Tells how far a piece of work is, how fast it goes and how long it will take.
pub struct Progress {
    what: String,
    unit: String,
    total: u64,
    /// Done before this run: not counted in the rate.
    start: u64,
    done: u64,
    began: Instant,
    last_line: Instant,
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins work named `what` ("teacher") of `total` `unit`s ("pictures").
    pub fn new(what: &str, total: u64, unit: &str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix}  {bar:24}  {msg}");
            ProgressBar::new(total).with_style(style.expect("the template is valid")).with_prefix(what.to_owned())
        });
        let now = Instant::now();
        Progress { what: what.into(), unit: unit.into(), total, start: 0, done: 0, began: now, last_line: now, bar }
    }

    /// Says that `done` units were done by an earlier run; the rate counts from here.
    pub fn start_at(&mut self, done: u64) {
        self.start = done;
        self.done = done;
        self.began = Instant::now();
    }

    /// Reports that `done` units are done in all. `message` ("loss 0.1873") may be empty. Cheap enough for every step.
    pub fn set(&mut self, done: u64, message: &str) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(self.status(message));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.print(&self.status(message));
        }
    }

    /// Ends the work with a last line that stays.
    pub fn finish(&mut self, message: &str) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let took = format!("done in {}", duration(self.began.elapsed()));
        self.print(&join(&[&count(self.done, self.total, &self.unit), &took, message]));
    }

    fn print(&self, status: &str) {
        // Progress that nobody can read is no reason to stop the work.
        let _ = writeln!(std::io::stderr(), "{}  {status}", self.what);
    }

    fn status(&self, message: &str) -> String {
        status(self.start, self.done, self.total, &self.unit, self.began.elapsed(), message)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // Work that failed leaves its bar where it stood.
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// "12800/240000 pictures  412/s  9 min left  loss 0.1873".
fn status(start: u64, done: u64, total: u64, unit: &str, elapsed: Duration, message: &str) -> String {
    let new = done.saturating_sub(start) as f64;
    let rate = new / elapsed.as_secs_f64().max(1e-3);
    let (speed, left) = if new > 0.0 {
        let seconds = total.saturating_sub(done) as f64 / rate;
        (speed(rate), format!("{} left", duration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))))
    } else {
        Default::default()
    };
    join(&[&count(done, total, unit), &speed, &left, message])
}

fn count(done: u64, total: u64, unit: &str) -> String {
    format!("{done}/{total} {unit}")
}

fn speed(per_second: f64) -> String {
    match per_second {
        r if r >= 10.0 => format!("{r:.0}/s"),
        r if r >= 1.0 => format!("{r:.1}/s"),
        r => format!("{:.1}/min", r * 60.0),
    }
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..100 => format!("{s} s"),
        s @ 100..6000 => format!("{} min", (s + 30) / 60),
        s @ 6000..172_800 => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
        s => format!("{} days", s / 86_400),
    }
}

/// The parts that are not empty, two spaces between them.
fn join(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_rate_and_time_left() {
        assert_eq!(
            status(0, 12_800, 240_000, "pictures", Duration::from_secs(31), "loss 0.1873"),
            "12800/240000 pictures  413/s  9 min left  loss 0.1873"
        );
    }

    #[test]
    fn rate_counts_only_new_work() {
        assert_eq!(status(900, 950, 1000, "steps", Duration::from_secs(10), ""), "950/1000 steps  5.0/s  10 s left");
    }

    #[test]
    fn nothing_done_yet_has_no_rate() {
        assert_eq!(status(5, 5, 10, "steps", Duration::from_secs(3), "warming up"), "5/10 steps  warming up");
    }

    #[test]
    fn odd_numbers_do_not_panic() {
        for (start, done, total) in [(0, 0, 0), (9, 3, 1), (0, 1, u64::MAX), (u64::MAX, 0, 0), (0, u64::MAX, 1)] {
            assert!(status(start, done, total, "x", Duration::ZERO, "").contains('/'));
        }
    }

    #[test]
    fn durations_are_short() {
        let text = |s| duration(Duration::from_secs(s));
        assert_eq!([text(7), text(99), text(540), text(7500)], ["7 s", "99 s", "9 min", "2 h 05 min"]);
        assert_eq!(text(400_000), "4 days");
    }
}
