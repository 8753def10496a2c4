//! Line plots as SVG, for loss curves and the like.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;

use crate::files;

/// Size in SVG user units, and where the axes lie.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 740.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 366.0;

/// Line colours, told apart also by readers who confuse red and green (Okabe and Ito's palette).
const COLORS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// Colour of levels.
const LEVEL: &str = "#808690";

/// Values up to here are drawn; their differences and quotients stay finite.
const LARGEST: f64 = 1e99;

/// One line.
#[derive(Default)]
pub struct Series {
    pub name: String,
    /// (x, y). What is not a number or beyond 1e99, and with `log_y` not above 0, interrupts the line.
    pub points: Vec<(f64, f64)>,
    /// A level rather than a measurement: dashed, grey, without dots.
    pub level: bool,
    /// Text beside points, by their index; shorter than `points` where the rest have none.
    pub labels: Vec<String>,
}

/// A line plot with title, axes and legend.
#[derive(Default)]
pub struct Plot {
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    /// Logarithmic axes.
    pub log_x: bool,
    pub log_y: bool,
    /// Values marked on the x axis; round ones where there are none.
    pub x_ticks: Vec<f64>,
    /// Dots at the points.
    pub dots: bool,
    pub series: Vec<Series>,
}

impl Plot {
    /// The plot as a self-contained SVG document.
    pub fn svg(&self) -> String {
        let x = match self.log_x {
            true => Axis::logarithmic(self.points().map(|(x, _)| x), LEFT, RIGHT),
            false => Axis::linear(self.points().map(|(x, _)| x), LEFT, RIGHT),
        };
        let y = match self.log_y {
            true => Axis::logarithmic(self.points().map(|(_, y)| y), BOTTOM, TOP),
            false => Axis::linear(self.points().map(|(_, y)| y), BOTTOM, TOP),
        };
        let width = WIDTH + self.legend_width();
        let mut svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="#262a32">
<rect width="{width}" height="{HEIGHT}" fill="#fafaf8"/>
<text x="{LEFT}" y="28" font-size="17" font-weight="600">{}</text>
"##,
            escape(&self.title)
        );
        let given = self.x_ticks.iter().map(|v| (x.place(*v), tick_label(*v)));
        let x_ticks = if self.x_ticks.is_empty() { x.ticks() } else { given.collect() };
        for (at, label) in x_ticks {
            line(&mut svg, (at, TOP), (at, BOTTOM), "#e4e4e2");
            text(&mut svg, (at, BOTTOM + 18.0), "middle", &label);
        }
        for (at, label) in y.ticks() {
            line(&mut svg, (LEFT, at), (RIGHT, at), "#e4e4e2");
            text(&mut svg, (LEFT - 8.0, at + 4.5), "end", &label);
        }
        line(&mut svg, (LEFT, BOTTOM), (RIGHT, BOTTOM), "#606670");
        line(&mut svg, (LEFT, TOP), (LEFT, BOTTOM), "#606670");
        text(&mut svg, (f64::midpoint(LEFT, RIGHT), BOTTOM + 42.0), "middle", &self.x_label);
        let middle = f64::midpoint(TOP, BOTTOM);
        push(&mut svg, format_args!(r#"<g transform="translate(20 {middle}) rotate(-90)">"#));
        text(&mut svg, (0.0, 0.0), "middle", &self.y_label);
        push(&mut svg, format_args!("</g>"));
        for (series, color) in self.colored() {
            self.polylines(&mut svg, series, &x, &y, color);
        }
        self.legend(&mut svg);
        svg + "</svg>\n"
    }

    /// Writes the plot, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_svg(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, |w| Ok(w.write_all(self.svg().as_bytes())?))
    }

    fn drawable(&self, (x, y): (f64, f64)) -> bool {
        x.abs() <= LARGEST && y.abs() <= LARGEST && (!self.log_y || y > 0.0) && (!self.log_x || x > 0.0)
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(|s| s.points.iter().copied()).filter(|&p| self.drawable(p))
    }

    /// Series with their colours: levels are grey, the others take turns.
    fn colored(&self) -> impl Iterator<Item = (&Series, &'static str)> {
        let mut next = 0;
        self.series.iter().map(move |s| {
            if s.level {
                return (s, LEVEL);
            }
            next += 1;
            (s, COLORS[(next - 1) % COLORS.len()])
        })
    }

    fn polylines(&self, svg: &mut String, series: &Series, x: &Axis, y: &Axis, color: &str) {
        for run in series.points.split(|&p| !self.drawable(p)).filter(|run| !run.is_empty()) {
            if let [(px, py)] = *run {
                push(
                    svg,
                    format_args!(r#"<circle cx="{:.2}" cy="{:.2}" r="2.5" fill="{color}"/>"#, x.place(px), y.place(py)),
                );
                continue;
            }
            let mut points = String::new();
            for &(px, py) in run {
                let _ = write!(points, "{:.2},{:.2} ", x.place(px), y.place(py));
            }
            let points = points.trim_end();
            push(
                svg,
                format_args!(
                    r#"<polyline points="{points}" fill="none" stroke="{color}" stroke-width="{}" stroke-linejoin="round"{}/>"#,
                    if series.level { 1.4 } else { 1.8 },
                    if series.level { r#" stroke-dasharray="5 4""# } else { "" },
                ),
            );
        }
        if self.dots && !series.level {
            for &(px, py) in series.points.iter().filter(|&&p| self.drawable(p)) {
                let (px, py) = (x.place(px), y.place(py));
                push(svg, format_args!(r#"<circle cx="{px:.2}" cy="{py:.2}" r="3.4" fill="{color}"/>"#));
            }
        }
        for (label, &(px, py)) in series.labels.iter().zip(&series.points).filter(|(_, p)| self.drawable(**p)) {
            let (px, py) = (x.place(px) + 6.0, y.place(py) - 5.0);
            push(
                svg,
                format_args!(r#"<text x="{px:.1}" y="{py:.1}" font-size="11" fill="{color}">{}</text>"#, escape(label)),
            );
        }
    }

    fn legend_width(&self) -> f64 {
        let longest = self.series.iter().map(|s| s.name.chars().count()).max().unwrap_or(0);
        if longest == 0 { 0.0 } else { 52.0 + 7.5 * longest as f64 }
    }

    /// Names to the right of the drawing.
    fn legend(&self, svg: &mut String) {
        for (row, (series, color)) in self.colored().filter(|(s, _)| !s.name.is_empty()).enumerate() {
            let (x, y) = (RIGHT + 14.0, TOP + 10.0 + 20.0 * row as f64);
            let dash = if series.level { r#" stroke-dasharray="5 4""# } else { "" };
            push(
                svg,
                format_args!(
                    r#"<path d="M{x:.1} {y:.1}h20" stroke="{color}" stroke-width="2.5"{dash}/><text x="{:.1}" y="{:.1}">{}</text>"#,
                    x + 27.0,
                    y + 4.5,
                    escape(&series.name)
                ),
            );
        }
    }
}

/// Maps values to a range of the drawing.
struct Axis {
    log: bool,
    /// Lowest and highest value, as logarithms on a logarithmic axis; `low < high`.
    low: f64,
    high: f64,
    /// Where the lowest and the highest value are drawn.
    from: f64,
    to: f64,
}

impl Axis {
    /// The whole range of `values`; from 0 to 1 when there is none.
    fn linear(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (low, high) = range(values);
        let size = low.abs().max(high.abs());
        // Equal but for rounding: a tenth of the value to either side.
        let margin = if high - low > 1e-9 * size && size > 1e-99 { 0.0 } else { 0.1 * size.max(1.0 / LARGEST) };
        let (low, high) = (low - margin, high + margin);
        Axis { log: false, low, high, from, to }
    }

    /// The range of `values`, all above 0, on a scale of powers of ten.
    fn logarithmic(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Axis {
        let (low, high) = range(values.map(f64::log10));
        let (low, high) = if high - low < 0.2 { (low - 0.1, high + 0.1) } else { (low, high) };
        Axis { log: true, low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Places and labels of about six round values.
    fn ticks(&self) -> Vec<(f64, String)> {
        let inside = |value: &f64| {
            let at = if self.log { value.log10() } else { *value };
            (self.low..=self.high).contains(&at)
        };
        let values: Vec<f64> = if self.log && self.high - self.low > 0.7 {
            let factors: &[f64] = if self.high - self.low > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let every = ((self.high - self.low) / 8.0).ceil().max(1.0) as usize;
            (self.low.floor() as i32..=self.high.ceil() as i32)
                .step_by(every)
                .flat_map(|power| factors.iter().map(move |f| f * 10f64.powi(power)))
                .collect()
        } else {
            let (low, high) =
                if self.log { (10f64.powf(self.low), 10f64.powf(self.high)) } else { (self.low, self.high) };
            let step = round_step((high - low) / 6.0);
            (0..12).map(|i| ((low / step).ceil() + f64::from(i)) * step).collect()
        };
        values.into_iter().filter(inside).map(|value| (self.place(value), tick_label(value))).collect()
    }
}

/// Lowest and highest value; (0, 1) when there is none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .fold(None, |r: Option<(f64, f64)>, v| Some(r.map_or((v, v), |(low, high)| (low.min(v), high.max(v)))))
        .unwrap_or((0.0, 1.0))
}

/// The next larger of 1, 2, 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= step).unwrap_or(10.0);
    factor * power
}

fn tick_label(value: f64) -> String {
    let label = match value.abs() {
        v if v < 1e-12 => return "0".into(),
        v if v >= 1e6 => format!("{}M", round4(value / 1e6)),
        v if v >= 1e4 => format!("{}k", round4(value / 1e3)),
        v if v < 1e-3 => format!("{value:.1e}"),
        _ => round4(value),
    };
    label.replace(".0e", "e")
}

/// Four decimals without trailing zeros.
fn round4(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn push(svg: &mut String, element: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{element}");
}

pub(super) fn line(svg: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), color: &str) {
    push(svg, format_args!(r#"<path d="M{x1:.2} {y1:.2}L{x2:.2} {y2:.2}" stroke="{color}"/>"#));
}

pub(super) fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    push(svg, format_args!(r#"<text x="{x:.2}" y="{y:.2}" text-anchor="{anchor}">{}</text>"#, escape(text)));
}

/// Text for XML: markup escaped, control characters (which XML forbids) as spaces.
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(log_y: bool, points: &[(f64, f64)]) -> String {
        let series = vec![Series { name: "a & b".into(), points: points.to_vec(), ..Series::default() }];
        Plot { title: "T <1>".into(), log_y, series, ..Plot::default() }.svg()
    }

    #[test]
    fn ends_of_a_line_lie_at_the_ends_of_the_axes() {
        let svg = plot(false, &[(0.0, 0.0), (1.0, 2.0)]);
        assert!(svg.contains(&format!(r#"points="{LEFT:.2},{BOTTOM:.2} {RIGHT:.2},{TOP:.2}""#)), "{svg}");
        let svg = plot(true, &[(0.0, 0.1), (1.0, 1.0), (2.0, 10.0)]);
        assert!(
            svg.contains(&format!("{:.2},{:.2} ", f64::midpoint(LEFT, RIGHT), f64::midpoint(TOP, BOTTOM))),
            "{svg}"
        );
    }

    #[test]
    fn undrawable_points_interrupt_the_line() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)];
        assert_eq!(plot(false, &points).matches("<polyline").count(), 2);
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, 0.0), (3.0, 1.0)];
        let svg = plot(true, &points);
        assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (1, 1));
    }

    #[test]
    fn a_logarithmic_x_axis_has_the_marks_that_were_given() {
        let series = vec![Series { points: vec![(1.0, 0.0), (10.0, 1.0), (100.0, 2.0)], ..Series::default() }];
        let svg = Plot { log_x: true, x_ticks: vec![1.0, 100.0], dots: true, series, ..Plot::default() }.svg();
        assert!(svg.contains(&format!("{:.2},{:.2}", f64::midpoint(LEFT, RIGHT), f64::midpoint(BOTTOM, TOP))), "{svg}");
        assert!(svg.contains(">100</text>") && !svg.contains(">10</text>"));
        assert_eq!(svg.matches("<circle").count(), 3);
    }

    #[test]
    fn levels_are_dashed_and_take_no_colour() {
        let line = |level| Series { points: vec![(0.0, 1.0), (1.0, 2.0)], level, ..Series::default() };
        let svg = Plot { series: vec![line(true), line(false)], ..Plot::default() }.svg();
        assert_eq!(svg.matches("stroke-dasharray").count(), 1);
        assert!(svg.contains(COLORS[0]) && !svg.contains(COLORS[1]));
    }

    #[test]
    fn names_are_escaped() {
        let svg = plot(false, &[(0.0, 0.0)]);
        assert!(svg.contains("T &lt;1&gt;") && svg.contains("a &amp; b"));
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::linear([0.0, 240_000.0].into_iter(), 0.0, 1.0);
        let labels: Vec<_> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0", "50k", "100k", "150k", "200k"]);
        let axis = Axis::logarithmic([0.15, 12.0].into_iter(), 0.0, 1.0);
        let labels: Vec<_> = axis.ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0.2", "0.5", "1", "2", "5", "10"]);
    }

    #[test]
    fn odd_values_give_finite_coordinates() {
        for log_y in [false, true] {
            for points in [
                &[][..],
                &[(0.0, 0.0)],
                &[(1e300, 1e300), (1e300, 1e300)],
                &[(1e99, -1e99), (-1e99, 1e99)],
                &[(1.0, 0.3), (2.0, 0.3)],
                &[(1.0, 0.3), (1.0 + f64::EPSILON, 0.3 + f64::EPSILON)],
                &[(f64::MIN, f64::MAX), (f64::MAX, f64::MIN)],
                &[(5e-324, 5e-324), (0.0, 1.0)],
                &[(f64::INFINITY, f64::NEG_INFINITY)],
            ] {
                let svg = plot(log_y, points);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{points:?}: {svg}");
            }
        }
    }
}
