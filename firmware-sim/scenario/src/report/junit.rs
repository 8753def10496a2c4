//! JUnit XML, as continuous integration reads it: a suite a scenario, a case an event.

use std::fmt::Write as _;

use super::{escape, figures};
use crate::play::Outcome;

/// The report as JUnit XML.
pub fn junit(outcomes: &[Outcome]) -> String {
    let failures = |outcome: &Outcome| outcome.rows.iter().filter(|row| row.problem.is_some()).count();
    let (tests, failed, seconds) = outcomes.iter().fold((0, 0, 0.0), |(tests, failed, seconds), outcome| {
        (tests + outcome.rows.len(), failed + failures(outcome), seconds + outcome.seconds)
    });
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(xml, "<testsuites tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" time=\"{seconds:.3}\">");
    for outcome in outcomes {
        let (tests, failed) = (outcome.rows.len(), failures(outcome));
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\">",
            escape(&outcome.name),
            outcome.seconds
        );
        let _ = writeln!(
            xml,
            "    <properties><property name=\"board\" value=\"{}\"/></properties>",
            escape(&outcome.board)
        );
        for (number, row) in outcome.rows.iter().enumerate() {
            // Events are not timed by themselves; the suite is.
            let _ = writeln!(
                xml,
                "    <testcase classname=\"{}\" name=\"{}. {}\" time=\"0\">",
                escape(&outcome.file),
                number + 1,
                escape(&row.event)
            );
            if let Some(problem) = &row.problem {
                let problem = escape(problem);
                let _ = writeln!(xml, "      <failure message=\"{problem}\">{}</failure>", escape(&row.result));
            }
            let mut said = vec![row.result.clone()];
            said.extend(figures(&row.measured));
            let _ = writeln!(xml, "      <system-out>{}</system-out>", escape(&said.join(", ")));
            xml.push_str("    </testcase>\n");
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}
