//! Lines for a terminal.

use std::fmt::Write as _;

use super::{counted, figures};
use crate::play::Outcome;

/// A table a scenario: events, what came of them, figures.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let verdict = if outcome.passed { "PASSED" } else { "FAILED" };
        let Outcome { name, file, board, seconds, .. } = outcome;
        let boots = counted(outcome.boots, "boot");
        let _ = writeln!(text, "{verdict}  {name}\n        {file}, {board}, {boots}, {seconds:.1} s");
        let width = outcome.rows.iter().map(|row| row.event.chars().count()).max().unwrap_or(0).min(60);
        for (number, row) in outcome.rows.iter().enumerate() {
            let figures = figures(&row.measured).join(", ");
            let mark = if row.problem.is_some() { '!' } else { ' ' };
            let _ = write!(text, "  {mark}{:3}  {:width$}  {}", number + 1, row.event, row.result);
            let _ = writeln!(text, "{}{figures}", if figures.is_empty() { "" } else { ": " });
            if let Some(problem) = &row.problem {
                let _ = writeln!(text, "        {problem}");
            }
        }
        text.push('\n');
    }
    text
}
