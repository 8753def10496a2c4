//! Weights of four bits by groups: the scale and the multipliers of least squared error.

use fewstep_core::ops::int4::{GROUP, MAX_MULTIPLIER};

/// Steps tried for a group, as shares of its largest weight: with those that are one over an integer, weights that are
/// rounded already stay.
const STEPS: [f32; 15] = [
    1.0 / 5.0,
    1.0 / 6.0,
    1.0 / 7.0,
    0.134,
    1.0 / 8.0,
    0.119,
    0.1125,
    0.106,
    0.1,
    0.094,
    0.0875,
    0.081,
    0.075,
    0.07,
    0.065,
];
/// Multipliers tried for the group of the largest step.
const LARGEST: std::ops::RangeInclusive<u8> = 8..=MAX_MULTIPLIER;

/// One output channel's weights: weight = q * multiplier of its group * scale.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupedRow {
    pub scale: f32,
    /// q * multiplier.
    pub weights: Vec<i8>,
    /// One for every [`GROUP`] weights.
    pub multipliers: Vec<u8>,
}

/// q of a weight at a step: -8 to 7.
pub(super) fn level(v: f32, step: f32) -> f32 {
    (v / step).round_ties_even().clamp(-8.0, 7.0)
}

fn error(group: &[f32], step: f32) -> f64 {
    group.iter().map(|&v| f64::from((level(v, step) * step - v).powi(2))).sum()
}

fn least<T: Copy>(candidates: impl Iterator<Item = (f64, T)>) -> Option<(f64, T)> {
    candidates.min_by(|a, b| a.0.total_cmp(&b.0))
}

/// Error and multipliers of the groups for a scale: each group's is one of the two next to its best step.
fn multipliers(row: &[f32], steps: &[f32], scale: f32) -> (f64, Vec<u8>) {
    let mut total = 0.0;
    let of = |(group, step): (&[f32], &f32)| {
        let below = (step / scale).floor().clamp(1.0, f32::from(MAX_MULTIPLIER)) as u8;
        let both = [below, (below + 1).min(MAX_MULTIPLIER)];
        let (e, m) = least(both.into_iter().map(|m| (error(group, f32::from(m) * scale), m))).unwrap_or((0.0, below));
        total += e;
        m
    };
    let all = row.chunks(GROUP).zip(steps).map(of).collect();
    (total, all)
}

/// Rounds one output channel's weights.
pub fn quantize_groups(row: &[f32]) -> GroupedRow {
    let best = |group: &[f32]| {
        let peak = group.iter().fold(0f32, |m, v| m.max(v.abs()));
        least(STEPS.iter().map(|s| peak * s).map(|s| (error(group, s.max(1e-20)), s))).map_or(0.0, |b| b.1)
    };
    let steps: Vec<f32> = row.chunks(GROUP).map(best).collect();
    let largest = steps.iter().fold(0f32, |m, s| m.max(*s));
    if largest < 1e-12 {
        return GroupedRow { scale: 1e-12, weights: vec![0; row.len()], multipliers: vec![1; steps.len()] };
    }
    let tried = LARGEST.map(|m| largest / f32::from(m)).map(|scale| (scale, multipliers(row, &steps, scale)));
    let (mut scale, (mut least, multipliers)) =
        tried.min_by(|a, b| a.1.0.total_cmp(&b.1.0)).expect("there are multipliers to try");
    // The scale that suits these levels best, as long as that helps.
    let round = |scale: f32| {
        let groups = row.chunks(GROUP).zip(&multipliers);
        groups.flat_map(move |(group, &m)| {
            let m = f32::from(m);
            group.iter().map(move |&v| (level(v, m * scale) * m) as i8)
        })
    };
    for _ in 0..3 {
        let (vp, pp) = round(scale).zip(row).fold((0f64, 0f64), |(vp, pp), (p, &v)| {
            let p = f64::from(p);
            (vp + f64::from(v) * p, pp + p * p)
        });
        let next = (vp / pp) as f32;
        let e = if next > 1e-12 {
            round(next).zip(row).map(|(p, &v)| f64::from((f32::from(p) * next - v).powi(2))).sum()
        } else {
            f64::INFINITY
        };
        if e >= least {
            break;
        }
        (scale, least) = (next, e);
    }
    GroupedRow { scale, weights: round(scale).collect(), multipliers }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squared(row: &[f32], got: &GroupedRow) -> f32 {
        row.iter().zip(&got.weights).map(|(v, q)| (v - f32::from(*q) * got.scale).powi(2)).sum()
    }

    #[test]
    fn weights_are_multiples_and_close() {
        let row: Vec<f32> = (0..576).map(|i| (i as f32 * 1.3).cos() * (0.1 + (i / 32 % 5) as f32)).collect();
        let got = quantize_groups(&row);
        assert_eq!((got.weights.len(), got.multipliers.len()), (576, 18));
        for (i, &w) in got.weights.iter().enumerate() {
            let m = got.multipliers[i / GROUP] as i8;
            assert!((1..=15).contains(&m) && w % m == 0 && (-8..8).contains(&(w / m)), "{w} {m}");
        }
        // A single step for the row has to be as large as that of its widest group.
        let one = 4.1 / 7.5;
        let plain: f32 = row.iter().map(|&v| (v - level(v, one) * one).powi(2)).sum();
        assert!(squared(&row, &got) < 0.6 * plain, "{} {plain}", squared(&row, &got));
    }

    #[test]
    fn rows_of_nothing_or_little_are_exact() {
        let got = quantize_groups(&[0.0; 40]);
        assert_eq!((got.weights, got.multipliers), (vec![0; 40], vec![1; 2]));
        let row: Vec<f32> = (0..64).map(|i| ((i % 16) as f32 - 8.0) * if i < 32 { 0.25 } else { 0.75 }).collect();
        let got = quantize_groups(&row);
        assert!(squared(&row, &got) < 1e-6, "{got:?}");
    }
}
