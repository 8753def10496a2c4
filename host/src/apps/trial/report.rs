//! A trial as table, plot, page and JSON.

use super::{Arm, Variants};
use crate::evaluate::Figure;
use crate::files;
use crate::picture::html;
use crate::picture::{Plot, Series};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;

/// Accuracies of classifiers trained alike, a repeat each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Real pictures of each class.
    pub per_class: usize,
    pub arm: Arm,
    pub accuracies: Vec<f64>,
}

/// A whole trial.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trial {
    pub student: String,
    pub student_crc32c: String,
    pub data: String,
    pub test_pictures: usize,
    pub guidance: Vec<f32>,
    /// Pictures of a set with augmentation.
    pub pool: usize,
    /// Pictures that each classifier is trained on, repeats counted.
    pub images: u64,
    pub seed: u64,
    pub arithmetic: String,
    pub variants: Variants,
    pub cells: Vec<Cell>,
}

/// Mean and 95 % interval of values of independent repeats, by Student's t.
fn mean(values: &[f64]) -> Figure {
    /// 0.975 quantiles for 1, 2, ... degrees of freedom; beyond the table the last is a little too wide.
    const T: [f64; 20] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086,
    ];
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let half = match values.len() {
        0 | 1 => f64::NAN,
        len => {
            let variance = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (n - 1.0);
            T[(len - 2).min(T.len() - 1)] * (variance / n).sqrt()
        }
    };
    Figure { value, low: value - half, high: value + half }
}

impl Trial {
    fn cell(&self, per_class: usize, arm: Arm) -> Option<&Cell> {
        self.cells.iter().find(|c| c.per_class == per_class && c.arm == arm)
    }

    /// Numbers of real pictures, in the order given.
    fn sizes(&self) -> Vec<usize> {
        let mut sizes: Vec<usize> = self.cells.iter().map(|c| c.per_class).collect();
        sizes.dedup();
        sizes
    }

    /// What `arm` adds to `other`, repeat by repeat.
    fn gain(&self, per_class: usize, arm: Arm, other: Arm) -> Option<Figure> {
        let (a, b) = (self.cell(per_class, arm)?, self.cell(per_class, other)?);
        let differences: Vec<f64> = a.accuracies.iter().zip(&b.accuracies).map(|(a, b)| a - b).collect();
        Some(mean(&differences))
    }

    /// The table as plain text (and Markdown): accuracy in percent with half its interval.
    pub fn table(&self) -> String {
        let mut rows = self.rows().into_iter().map(|row| format!("| {} |\n", row.join(" | ")));
        let head = rows.next().unwrap_or_default();
        head + "|---|---|---|---|---|---|\n" + &rows.collect::<String>()
    }

    /// The table's rows, the first its head.
    fn rows(&self) -> Vec<[String; 6]> {
        let [real, classical, student, both] = Arm::ALL.map(|arm| arm.name().to_string());
        let mut rows = vec![["real a class".into(), real, classical, student, both, "student over classical".into()]];
        for n in self.sizes() {
            let [real, classical, student, both] =
                Arm::ALL.map(|arm| percent(&self.cell(n, arm).map_or(mean(&[]), |c| mean(&c.accuracies))));
            let gain = self.gain(n, Arm::Student, Arm::Classical).unwrap_or(mean(&[]));
            rows.push([n.to_string(), real, classical, student, both, percent(&gain)]);
        }
        rows
    }

    /// Accuracy against the number of real pictures, a line an arm.
    pub fn plot(&self) -> Plot {
        let series = Arm::ALL.map(|arm| Series {
            name: arm.name().into(),
            points: self
                .cells
                .iter()
                .filter(|c| c.arm == arm)
                .map(|c| (c.per_class as f64, 100.0 * mean(&c.accuracies).value))
                .collect(),
            ..Series::default()
        });
        Plot {
            title: "Classifiers of few real pictures".into(),
            x_label: "real pictures a class".into(),
            y_label: "accuracy on real test pictures, %".into(),
            log_x: true,
            x_ticks: self.sizes().iter().map(|n| *n as f64).collect(),
            dots: true,
            series: series.into(),
            ..Plot::default()
        }
    }

    /// Where the student's pictures help, a sentence for each number of real pictures.
    pub fn verdict(&self) -> Vec<String> {
        self.sizes()
            .into_iter()
            .filter_map(|n| {
                let over_classical = self.gain(n, Arm::Student, Arm::Classical)?;
                let both = self.gain(n, Arm::Both, Arm::Classical)?;
                let say = |f: &Figure| match (f.low > 0.0, f.high < 0.0) {
                    (true, _) => "better than",
                    (_, true) => "worse than",
                    _ => "not told apart from",
                };
                Some(format!(
                    "{n} a class: the student's pictures are {} classical augmentation ({} points), both together {} it ({} points).",
                    say(&over_classical),
                    percent(&over_classical),
                    say(&both),
                    percent(&both)
                ))
            })
            .collect()
    }

    /// `trial.json`, `trial.svg` and `trial.html` in `folder`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let put =
            |name: &str, text: &str| files::write_atomic(&folder.join(name), |w| Ok(w.write_all(text.as_bytes())?));
        put("trial.json", &(serde_json::to_string_pretty(self)? + "\n"))?;
        self.plot().write_svg(&folder.join("trial.svg"))?;
        put("trial.html", &self.page())
    }

    fn page(&self) -> String {
        let mut page = html::head("Augmentation trial");
        let repeats = self.cells.first().map_or(0, |c| c.accuracies.len());
        let _ = writeln!(
            page,
            "<h1>Augmentation trial</h1>\n<p>Classifiers trained on few real pictures of <code>{}</code>, tested on {} \
             real ones. Means of {repeats} repeats with 95 % intervals. {} pictures of training each; sets with \
             augmentation have {} pictures, those of the student <code>{}</code> are half of a set. The student learnt from \
             all training pictures: this is what it gives somebody who has it and few pictures of their own.</p>",
            html::escape(&self.data),
            self.test_pictures,
            self.images,
            self.pool,
            html::escape(&self.student)
        );
        page.push_str("<table>\n");
        for (i, row) in self.rows().iter().enumerate() {
            let tag = if i == 0 { "th" } else { "td" };
            let _ = writeln!(page, "<tr>{}</tr>", row.each_ref().map(|v| format!("<{tag}>{v}</{tag}>")).concat());
        }
        page.push_str("</table>\n");
        for sentence in self.verdict() {
            let _ = writeln!(page, "<p>{}</p>", html::escape(&sentence));
        }
        page + &self.plot().svg() + "</html>\n"
    }
}

/// A share and half its interval, in percent.
fn percent(f: &Figure) -> String {
    let half = 50.0 * (f.high - f.low);
    if half.is_nan() { format!("{:.2}", 100.0 * f.value) } else { format!("{:.2} ± {half:.2}", 100.0 * f.value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_five_values_is_by_students_t() {
        let f = mean(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        // 2.776 * sqrt(2.5 / 5)
        assert!((f.value - 3.0).abs() < 1e-12 && (f.high - 3.0 - 1.962_93).abs() < 1e-4, "{f:?}");
        assert!(mean(&[1.0]).low.is_nan());
    }

    #[test]
    fn arms_are_compared_in_pairs() {
        let cell = |arm, accuracies: &[f64]| Cell { per_class: 20, arm, accuracies: accuracies.into() };
        let trial = Trial {
            student: "s.fsw".into(),
            student_crc32c: String::new(),
            data: "d".into(),
            test_pictures: 1,
            guidance: vec![1.0],
            pool: 10,
            images: 1,
            seed: 0,
            arithmetic: "f32".into(),
            variants: Variants::usual(true),
            cells: vec![
                cell(Arm::Real, &[0.1, 0.2, 0.3]),
                cell(Arm::Classical, &[0.2, 0.4, 0.6]),
                cell(Arm::Student, &[0.25, 0.45, 0.66]),
                cell(Arm::Both, &[0.1, 0.5, 0.6]),
            ],
        };
        let verdict = trial.verdict();
        assert_eq!(verdict.len(), 1);
        assert!(verdict[0].contains("the student's pictures are better than"), "{verdict:?}");
        assert!(verdict[0].contains("both together not told apart from"), "{verdict:?}");
        assert_eq!(trial.table().lines().count(), 3);
        assert!(trial.page().contains("<td>20</td>"));
    }
}
