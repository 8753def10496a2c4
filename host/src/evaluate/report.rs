//! The report: everything measured as JSON, plots as SVG, a picture grid, and one page that shows them.

use super::bootstrap::Figure;
use super::figures::Figures;
use super::layers::{LayerReport, StepLoss};
use crate::files;
use crate::picture::html::{self, escape};
use crate::picture::{Grid, Plot, Series};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What a set of pictures came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The guided teacher that the others are held against.
    Teacher,
    Model,
    /// Pictures that came as an .npz.
    Samples,
}

/// Pictures of a row against another's from the same noise.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pair {
    pub file: PathBuf,
    pub steps: usize,
    /// Peak signal-to-noise ratio in dB over all pictures compared; None when equal.
    pub psnr: Option<f64>,
    /// Of the picture that differs most.
    pub worst: Option<f64>,
    pub pictures: usize,
}

/// Held against the teacher at the same w.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AgainstTeacher {
    /// Frechet distance over the teacher's.
    pub distance_ratio: f64,
    /// The teacher's figure minus this one's.
    pub class_accuracy_below: f64,
    pub recall_below: f64,
    /// The teacher's evaluations over this one's.
    pub evaluations_saved: f64,
}

/// A measured set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub file: PathBuf,
    pub role: Role,
    /// None for samples that came as pictures, as are the next three.
    pub w: Option<f32>,
    pub steps: Option<usize>,
    /// Network evaluations a picture.
    pub evaluations: Option<usize>,
    pub arithmetic: Option<String>,
    pub figures: Figures,
    /// The extractor is one of those that the student was finished with: the figures are better than it is.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub finished_in_these_features: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_teacher: Option<AgainstTeacher>,
    /// Classification accuracy score: real test pictures recognised by a classifier trained on this set only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification_accuracy_score: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub pairs: Vec<Pair>,
}

impl Row {
    /// "student-4.fsw", "teacher.safetensors".
    pub fn name(&self) -> String {
        self.file.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The name with steps, and whether a student is the float one: int8 and float stand beside each other.
    fn line_name(&self) -> String {
        let Some(n) = self.steps else { return self.name() };
        let name = self.name();
        let float = if self.role == Role::Model && name.ends_with(".safetensors") { ", float" } else { "" };
        format!("{} {}{float}", name.trim_end_matches(".safetensors").trim_end_matches(".fsw"), steps(n))
    }
}

/// Everything that was measured.
#[derive(Serialize)]
pub struct Report<'a> {
    pub features: &'a Path,
    pub features_sha256: &'a str,
    pub data: &'a Path,
    /// Test pictures, the reference of all distances.
    pub reference_count: usize,
    pub count: usize,
    pub seed: u64,
    /// Class accuracy of the reference pictures themselves.
    pub real_class_accuracy: Figure,
    /// As many real training pictures against the reference: what a perfect model would have.
    pub floor: &'a Figures,
    /// Score of a classifier trained on those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real_classification_accuracy_score: Option<f64>,
    pub rows: Vec<Row>,
    /// Where int8 loses, for every image that was given with its float checkpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerReport>,
}

/// Pictures of a row for the grid: the same ones of every row.
pub struct Shown {
    pub row: usize,
    /// Each [H, W, C].
    pub pictures: Vec<Vec<u8>>,
}

fn steps(n: usize) -> String {
    format!("{n} step{}", if n == 1 { "" } else { "s" })
}

/// Rows of one model in one number of steps, in the order of w.
fn lines<'a>(rows: &'a [Row]) -> Vec<(String, Vec<&'a Row>)> {
    let mut lines: Vec<(String, Vec<&'a Row>)> = Vec::new();
    for row in rows.iter().filter(|r| r.w.is_some()) {
        let name = row.line_name();
        match lines.iter_mut().find(|(n, _)| *n == name) {
            Some((_, line)) => line.push(row),
            None => lines.push((name, vec![row])),
        }
    }
    for (_, line) in &mut lines {
        line.sort_by(|a, b| a.w.partial_cmp(&b.w).unwrap_or(std::cmp::Ordering::Equal));
    }
    lines
}

fn strengths(rows: &[Row]) -> Vec<f32> {
    let mut all: Vec<f32> = rows.iter().filter_map(|r| r.w).collect();
    all.sort_by(f32::total_cmp);
    all.dedup();
    all
}

impl Report<'_> {
    /// Frechet distance against steps, a line for each w, from the students of the fewest steps to the teacher.
    pub fn distance_plot(&self) -> Plot {
        let mut plot = Plot {
            title: "Frechet distance by denoising steps (lower is better)".into(),
            x_label: "denoising steps (the teacher's take two evaluations each)".into(),
            y_label: "Frechet distance".into(),
            log_x: true,
            log_y: true,
            dots: true,
            ..Plot::default()
        };
        let at = |row: &Row| (row.steps.unwrap_or(1) as f64, row.figures.frechet_distance.value);
        for w in strengths(&self.rows) {
            // Students, in the order given, before the teacher in as few steps as theirs.
            let mut points: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
            for role in [Role::Model, Role::Teacher] {
                for row in self.rows.iter().filter(|r| r.w == Some(w) && r.role == role) {
                    points.entry(row.steps.unwrap_or(1)).or_insert_with(|| at(row));
                }
            }
            plot.series.push(Series {
                name: format!("w = {w}"),
                points: points.into_values().collect(),
                ..Series::default()
            });
        }
        let mut ticks: Vec<f64> = plot.series.iter().flat_map(|s| s.points.iter().map(|p| p.0)).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        if let (Some(first), Some(last)) = (ticks.first(), ticks.last()) {
            let floor = self.floor.frechet_distance.value;
            let points = vec![(*first, floor), (*last, floor)];
            plot.series.push(Series { name: "real pictures".into(), points, level: true, ..Series::default() });
        }
        plot.x_ticks = ticks;
        plot
    }

    /// The distance over the teacher's against w, a line for each student: what distillation and int8 lost.
    pub fn ratio_plot(&self) -> Plot {
        let mut plot = Plot {
            title: "Frechet distance over the teacher's at the same w".into(),
            x_label: "guidance strength w".into(),
            y_label: "ratio".into(),
            dots: true,
            ..Plot::default()
        };
        for (name, line) in lines(&self.rows) {
            let point = |r: &&Row| Some((f64::from(r.w?), r.against_teacher?.distance_ratio));
            let points: Vec<_> = line.iter().filter_map(point).collect();
            if !points.is_empty() {
                plot.series.push(Series { name, points, ..Series::default() });
            }
        }
        let (low, high) = match strengths(&self.rows)[..] {
            [low, .., high] => (low, high),
            _ => (0.0, 1.0),
        };
        let points = vec![(low.into(), 1.0), (high.into(), 1.0)];
        plot.series.push(Series { name: "the teacher".into(), points, level: true, ..Series::default() });
        plot
    }

    /// Precision against recall along w, a line for each model.
    pub fn tradeoff_plot(&self) -> Plot {
        let mut plot = Plot {
            title: "Precision and recall along w (up and right is better)".into(),
            x_label: "recall: share of real pictures that the samples cover".into(),
            y_label: "precision".into(),
            dots: true,
            ..Plot::default()
        };
        for (i, (name, line)) in lines(&self.rows).into_iter().enumerate() {
            let points = line.iter().map(|r| (r.figures.recall.value, r.figures.precision.value)).collect();
            // The lines follow each other closely: one of them is labelled.
            let labels = match i {
                0 => line.iter().map(|r| format!("w={}", r.w.unwrap_or_default())).collect(),
                _ => Vec::new(),
            };
            plot.series.push(Series { name, points, labels, ..Series::default() });
        }
        let point = vec![(self.floor.recall.value, self.floor.precision.value)];
        plot.series.push(Series { name: "real pictures".into(), points: point, ..Series::default() });
        plot
    }

    /// Signal-to-noise ratio along an image's operations, a line for each step: where the line falls, int8 loses.
    pub fn layer_plot(layers: &LayerReport) -> Plot {
        let name = layers.image.file_name().unwrap_or_default().to_string_lossy();
        let mut plot = Plot {
            title: format!("int8 against float along the operations: {name}"),
            x_label: "operation (the five worst of a step are named)".into(),
            y_label: "signal-to-noise ratio, dB".into(),
            ..Plot::default()
        };
        let low = |step: &StepLoss| step.operations.iter().filter_map(|l| l.snr).fold(f64::INFINITY, f64::min);
        let worst = layers.steps.iter().map(low).fold(f64::INFINITY, f64::min);
        for (k, step) in layers.steps.iter().enumerate() {
            // Without z itself, which loses nothing at 16 bits.
            let known = step.operations.iter().enumerate().filter(|(i, _)| *i > 0);
            let known: Vec<(usize, &str, f64)> =
                known.filter_map(|(i, l)| Some((i, l.operation.as_str(), l.snr?))).collect();
            let mut lowest: Vec<f64> = known.iter().map(|l| l.2).collect();
            lowest.sort_by(f64::total_cmp);
            let named = lowest.get(4).copied().filter(|_| low(step) == worst).unwrap_or(f64::NEG_INFINITY);
            let labels = known.iter().map(|l| if l.2 <= named { l.1.to_string() } else { String::new() }).collect();
            let points = known.iter().map(|l| (l.0 as f64, l.2)).collect();
            plot.series.push(Series { name: format!("step {}", k + 1), points, labels, ..Series::default() });
        }
        plot
    }

    /// Pictures from the same noise: w down; across, for one picture after the other, the teacher and ever fewer steps.
    pub fn grid(&self, shown: &[Shown], shape: (usize, usize, usize)) -> Result<Option<Grid>> {
        let rows: Vec<(&Row, &Shown)> = shown.iter().map(|s| (&self.rows[s.row], s)).collect();
        let mut columns: Vec<(String, usize)> = Vec::new();
        let teachers: Vec<String> = self.rows.iter().filter(|r| r.role == Role::Teacher).map(Row::line_name).collect();
        for (row, _) in &rows {
            let column = (row.line_name(), row.steps.unwrap_or(0));
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns.sort_by_key(|c| std::cmp::Reverse(c.1));
        let pictures = shown.iter().map(|s| s.pictures.len()).min().unwrap_or(0);
        if columns.is_empty() || pictures == 0 {
            return Ok(None);
        }
        // One cell for every column of every picture, and an empty one between two pictures.
        let cells: Vec<Option<(usize, usize)>> = (0..pictures)
            .flat_map(|p| (0..columns.len()).map(move |c| Some((p, c))).chain([None]))
            .take(pictures * (columns.len() + 1) - 1)
            .collect();
        let heads = heads(&columns, &teachers);
        let labels = cells.iter().map(|c| c.map_or(String::new(), |(_, column)| heads[column].clone())).collect();
        let mut grid = Grid::new(shape.0, shape.1, shape.2, labels);
        let legend: Vec<String> = heads.iter().zip(&columns).map(|(head, c)| format!("{head}: {}", c.0)).collect();
        grid.title = format!("Same noise, fewer denoising steps\n{}", legend.join(", "));
        grid.scale = if shape.0 >= 48 { 1 } else { 2 };
        for w in strengths(&self.rows) {
            let cell = |cell: &Option<(usize, usize)>| {
                let (picture, column) = (*cell)?;
                let (_, shown) = rows.iter().find(|(r, _)| r.w == Some(w) && r.line_name() == columns[column].0)?;
                Some(shown.pictures[picture].as_slice())
            };
            grid.push_row(&format!("w = {w}"), cells.iter().map(cell).collect::<Vec<_>>())?;
        }
        Ok(Some(grid))
    }

    /// The whole report as files in `folder`.
    pub fn write(&self, folder: &Path, grid: Option<&Grid>, curves: &[(String, Plot)]) -> Result<()> {
        self.write_json(folder)?;
        if self.rows.iter().any(|r| r.w.is_some()) {
            self.distance_plot().write_svg(&folder.join("distance.svg"))?;
            self.ratio_plot().write_svg(&folder.join("ratio.svg"))?;
            self.tradeoff_plot().write_svg(&folder.join("tradeoff.svg"))?;
        }
        if let Some(grid) = grid {
            grid.write_png(&folder.join("grid.png"))?;
        }
        for (i, layers) in self.layers.iter().enumerate() {
            Report::layer_plot(layers).write_svg(&folder.join(format!("layers-{}.svg", i + 1)))?;
        }
        for (name, plot) in curves {
            plot.write_svg(&folder.join(format!("{name}.svg")))?;
        }
        let page = self.page(grid.is_some(), curves);
        files::write_atomic(&folder.join("report.html"), |w| Ok(w.write_all(page.as_bytes())?))
    }

    /// Only `report.json`; returns its text.
    pub fn write_json(&self, folder: &Path) -> Result<String> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        files::write_atomic(&folder.join("report.json"), |w| Ok(w.write_all(text.as_bytes())?))?;
        Ok(text)
    }

    fn page(&self, grid: bool, curves: &[(String, Plot)]) -> String {
        let mut page = html::head("Evaluation");
        let mut put = |text: String| page.push_str(&text);
        put(format!(
            "<h1>Evaluation</h1>\n<p>{} pictures a set against {} real test pictures. Features {} <code>{}</code>, seed {}. \
             Intervals: 95 %, bootstrap.</p>\n",
            self.count,
            self.reference_count,
            escape(&self.features.display().to_string()),
            &self.features_sha256[..16.min(self.features_sha256.len())],
            self.seed
        ));
        put(self.summary());
        if self.rows.iter().any(|r| r.w.is_some()) {
            for plot in [self.distance_plot(), self.ratio_plot(), self.tradeoff_plot()] {
                put(plot.svg());
            }
        }
        if grid {
            put("<p><img src=\"grid.png\" alt=\"pictures from the same noise\"></p>\n".into());
        }
        for layers in &self.layers {
            put(Report::layer_plot(layers).svg());
        }
        for (_, plot) in curves {
            put(plot.svg());
        }
        put(self.table());
        page + "</html>\n"
    }

    /// Per student the worst over all w, which is what the bars are about.
    fn summary(&self) -> String {
        let mut text = String::new();
        let lines: Vec<_> = lines(&self.rows)
            .into_iter()
            .filter(|(_, line)| line.iter().any(|r| r.against_teacher.is_some()))
            .collect();
        if lines.is_empty() {
            return text;
        }
        text.push_str(
            "<h2>The worst over w, against the teacher</h2>\n<table><tr><th>model<th>distance ratio<th>at w\
             <th>class accuracy below<th>recall below<th>evaluations saved<th>PSNR to float, dB</tr>\n",
        );
        for (name, line) in lines {
            let of = |f: fn(&AgainstTeacher) -> f64| {
                let all = line.iter().filter_map(|r| Some((f(r.against_teacher.as_ref()?), r.w?)));
                all.fold((f64::NEG_INFINITY, 0.0), |worst, v| if v.0 > worst.0 { v } else { worst })
            };
            let (ratio, w) = of(|a| a.distance_ratio);
            let saved = -of(|a| -a.evaluations_saved).0;
            let psnr = line.iter().flat_map(|r| float_pair(r, &self.rows)).filter_map(|p| p.psnr).reduce(f64::min);
            let _ = writeln!(
                text,
                "<tr><td>{}<td>{ratio:.3}<td>{w}<td>{:.4}<td>{:.4}<td>{saved:.0} x<td>{}</tr>",
                escape(&name),
                of(|a| a.class_accuracy_below).0,
                of(|a| a.recall_below).0,
                psnr.map_or("-".into(), |p| format!("{p:.1}"))
            );
        }
        text + "</table>\n"
    }

    fn table(&self) -> String {
        let mut text = String::from(
            "<h2>All figures</h2>\n<table><tr><th>set<th>w<th>Frechet distance<th>KID x 1000<th>precision<th>recall\
             <th>density<th>coverage<th>class accuracy<th>score<th>PSNR to teacher, dB</tr>\n",
        );
        let mut line = |name: &str, w: Option<f32>, f: &Figures, score: Option<f64>, psnr: Option<f64>| {
            let figure = |f: &Figure, scale: f64, digits: usize| {
                format!(
                    "<td>{:.digits$} <small>{:.digits$}..{:.digits$}</small>",
                    f.value * scale,
                    f.low * scale,
                    f.high * scale
                )
            };
            let _ = write!(text, "<tr><td>{}<td>{}", escape(name), w.map_or("-".into(), |w| w.to_string()));
            text.push_str(&figure(&f.frechet_distance, 1.0, 4));
            text.push_str(&figure(&f.kid, 1e3, 2));
            for f in [&f.precision, &f.recall, &f.density, &f.coverage, &f.class_accuracy] {
                text.push_str(&figure(f, 1.0, 4));
            }
            let or_dash = |v: Option<f64>, digits: usize| v.map_or("-".into(), |v| format!("{v:.digits$}"));
            let _ = writeln!(text, "<td>{}<td>{}</tr>", or_dash(score, 4), or_dash(psnr, 1));
        };
        line("real training pictures", None, self.floor, self.real_classification_accuracy_score, None);
        for row in &self.rows {
            let teacher = |p: &&Pair| self.rows.iter().any(|r| r.role == Role::Teacher && r.file == p.file);
            let psnr = row.pairs.iter().find(teacher).and_then(|p| p.psnr);
            let flattered = if row.finished_in_these_features { " (finished in these features)" } else { "" };
            line(
                &format!("{}{flattered}", row.line_name()),
                row.w,
                &row.figures,
                row.classification_accuracy_score,
                psnr,
            );
        }
        text + &format!(
            "</table>\n<p>Class accuracy of the real test pictures: {:.4} <small>{:.4}..{:.4}</small>.</p>\n",
            self.real_class_accuracy.value, self.real_class_accuracy.low, self.real_class_accuracy.high
        )
    }
}

/// What stands above the grid's columns (name, steps): the steps, T before a teacher's, a letter behind those of several.
fn heads(columns: &[(String, usize)], teachers: &[String]) -> Vec<String> {
    let head = |(i, (name, steps)): (usize, &(String, usize))| {
        let of = if teachers.contains(name) { "T" } else { "" };
        let alike = |part: &[(String, usize)]| part.iter().filter(|c| c.1 == *steps).count();
        let letter = ('a'..='z').cycle().nth(alike(&columns[..i])).filter(|_| alike(columns) > 1);
        format!("{of}{steps}{}", letter.map(String::from).unwrap_or_default())
    };
    columns.iter().enumerate().map(head).collect()
}

/// The pair of an int8 row with the float student of the same steps.
fn float_pair<'a>(row: &'a Row, rows: &[Row]) -> Option<&'a Pair> {
    row.pairs.iter().find(|p| !rows.iter().any(|r| r.role == Role::Teacher && r.file == p.file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_as_many_steps_have_letters() {
        let columns = [("guide", 128), ("float", 4), ("int8", 4), ("fast", 1)].map(|(name, n)| (name.to_string(), n));
        assert_eq!(heads(&columns, &["guide".into()]), ["T128", "4a", "4b", "1"]);
    }
}
