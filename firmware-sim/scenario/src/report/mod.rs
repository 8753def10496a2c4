//! What came of scenarios, for people and for machines.

mod html;
mod junit;
mod table;

pub use html::page;
pub use junit::junit;
pub use table::table;

use crate::play::{Measured, Outcome};

/// `12 scenarios, 70 events: all as expected`, or how many were not.
pub fn summary(outcomes: &[Outcome]) -> String {
    let events = outcomes.iter().map(|outcome| outcome.rows.len()).sum::<usize>() as u32;
    let failed = outcomes.iter().filter(|outcome| !outcome.passed).count();
    let verdict = if failed == 0 { "all as expected".into() } else { format!("{failed} of them FAILED") };
    let scenarios = counted(outcomes.len() as u32, "scenario");
    format!("{scenarios}, {}: {verdict}", counted(events, "event"))
}

/// `1 boot`, `2 boots`.
fn counted(number: u32, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Figures in words, those that there are.
fn figures(measured: &Measured) -> Vec<String> {
    let Measured { instructions, longest_call, stack, arena, operations, position } = *measured;
    let millions = |number: u64| format!("{:.2} M", number as f64 / 1e6);
    [
        instructions.map(|number| format!("{} instructions", millions(number))),
        longest_call.map(|number| format!("longest call {}", millions(number))),
        stack.map(|bytes| format!("stack {bytes}")),
        arena.map(|bytes| format!("arena {bytes}")),
        position.map(|bytes| format!("{bytes} bytes in flash")),
        operations.map(|number| format!("{number} flash operations")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A text between tags or quotes of HTML and XML. Characters that XML has no place for become question marks.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::play::{Picture, Row};

    pub(super) fn outcomes() -> Vec<Outcome> {
        let row = |event: &str, result: &str, problem: Option<&str>| Row {
            event: event.into(),
            result: result.into(),
            problem: problem.map(String::from),
            measured: Measured::default(),
            picture: None,
        };
        let drawn = Row {
            measured: Measured { instructions: Some(97_654_321), stack: Some(2000), ..Measured::default() },
            picture: Some(Picture { shape: [2, 2, 3], bytes: (0..12).collect() }),
            ..row("draw: class 3", "equal to the host's picture", None)
        };
        let outcome = |name: &str, rows: Vec<Row>| Outcome {
            file: "a.toml".into(),
            name: name.into(),
            board: "an500".into(),
            passed: rows.iter().all(|row| row.problem.is_none()),
            boots: 1,
            seconds: 1.5,
            rows,
        };
        vec![
            outcome("One <that> \"passes\" & draws", vec![row("power on", "slot a", None), drawn]),
            outcome("One that does not", vec![row("confirm", "no-image", Some("no-image, not \u{1}done"))]),
        ]
    }

    #[test]
    fn the_summary_counts() {
        assert_eq!(summary(&outcomes()), "2 scenarios, 3 events: 1 of them FAILED");
        assert_eq!(summary(&outcomes()[..1]), "1 scenario, 2 events: all as expected");
    }

    #[test]
    fn the_table_names_results_figures_and_problems() {
        let text = table(&outcomes());
        for part in ["PASSED", "FAILED", "draw: class 3", "97.65 M instructions, stack 2000", "no-image, not"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn junit_has_suites_cases_and_failures() {
        let xml = junit(&outcomes());
        for part in [
            "<testsuites tests=\"3\" failures=\"1\"",
            "<testsuite name=\"One &lt;that&gt; &quot;passes&quot; &amp; draws\" tests=\"2\" failures=\"0\"",
            "<testcase classname=\"a.toml\" name=\"2. draw: class 3\"",
            "<failure message=\"no-image, not ?done\"",
        ] {
            assert!(xml.contains(part), "{part}: {xml}");
        }
        assert_eq!(xml.matches("<testcase").count(), 3);
    }

    #[test]
    fn the_page_needs_nothing_beside_it() {
        let html = page(&outcomes());
        assert!(html.contains("data:image/png;base64,iVBOR") && html.contains("One &lt;that&gt;"), "{html}");
        for outside in ["http:", "https:", "<script", "<link", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
