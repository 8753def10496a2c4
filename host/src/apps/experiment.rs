//! What a student's pictures are worth as training data: classifiers from few real pictures, alone, with classical
//! augmentation, with the student's pictures, and with both.

use super::measure::mean_and_interval;
use crate::data::Dataset;
use crate::features::{FeatureArch, Training, accuracy, train};
use crate::nn::{Engine, Precision};
use crate::noise::{Purpose, Stream};
use anyhow::{Result, anyhow, ensure};
use serde_json::json;

/// Classical augmentation and the student's pictures, each with or without.
const KINDS: [(&str, bool, bool); 4] =
    [("real alone", false, false), ("classical", true, false), ("student", false, true), ("both", true, true)];

/// An experiment.
pub struct Experiment {
    /// Real pictures a class, for each row.
    pub real: Vec<usize>,
    /// Trainings of each kind.
    pub repeats: usize,
    /// Pictures a training sees, repeats counted: the same for every kind.
    pub images: u64,
    pub seed: u64,
}

/// Accuracies on the test pictures, one a repeat.
pub struct Row {
    pub real: usize,
    pub kind: &'static str,
    pub accuracies: Vec<f64>,
}

impl Experiment {
    /// Says what is wrong before anything is trained.
    ///
    /// # Errors
    /// There are too few pictures, or options are out of range.
    pub fn check(&self, real: &Dataset, test: &Dataset) -> Result<()> {
        ensure!((2..=1000).contains(&self.repeats), "--repeats {}: give a number from 2 to 1000", self.repeats);
        ensure!(
            (1000..=100_000_000).contains(&self.images),
            "--images {}: give a number from 1000 to 100000000",
            self.images
        );
        ensure!(!self.real.is_empty(), "--real: give at least one number");
        let fewest = (0..real.classes()).map(|c| real.labels.iter().filter(|l| usize::from(**l) == c).count()).min();
        let fewest = fewest.unwrap_or(0);
        for &n in &self.real {
            ensure!((1..=fewest).contains(&n), "--real {n}: the data has from 1 to {fewest} pictures of every class");
        }
        let shape = |d: &Dataset| (d.height, d.width, d.channels);
        ensure!(
            shape(real) == shape(test) && test.classes() <= real.classes(),
            "training and test pictures of --data do not fit each other; use one set"
        );
        let arch = FeatureArch::for_pictures(real.height, real.width, real.channels, real.classes());
        arch.check().map_err(|e| anyhow!("no classifier can be made: {e}; use another data set"))
    }

    /// Trains and measures everything.
    ///
    /// # Errors
    /// A training fails.
    pub fn run(&self, real: &Dataset, test: &Dataset, drawn: &Dataset) -> Result<Vec<Row>> {
        let arch = FeatureArch::for_pictures(real.height, real.width, real.channels, real.classes());
        let mut rows = Vec::new();
        for &n in &self.real {
            let mut accuracies = vec![Vec::new(); KINDS.len()];
            for repeat in 0..self.repeats {
                // All kinds have the same real pictures and start from the same weights.
                let seed = self.seed.wrapping_add(repeat as u64);
                let few = pick(real, n, seed);
                for ((_, classical, student), accuracies) in KINDS.iter().zip(&mut accuracies) {
                    let set = mixed(&few, student.then_some(drawn), *classical);
                    let mut training = Training::for_height(real.height, self.images, seed);
                    training.shift = if *classical { training.shift } else { 0 };
                    Engine::select(Precision::Auto)?;
                    let net = train(&set, &arch, &training, None)?;
                    Engine::select(Precision::F32)?;
                    accuracies.push(accuracy(&net, test)?);
                }
            }
            rows.extend(KINDS.iter().zip(accuracies).map(|((kind, ..), accuracies)| Row { real: n, kind, accuracies }));
        }
        Ok(rows)
    }
}

/// `n` pictures of each class, chosen by `seed`.
fn pick(data: &Dataset, n: usize, seed: u64) -> Dataset {
    let random = Stream::new(seed, Purpose::Shuffle, 0, 2);
    let mut order: Vec<usize> = (0..data.len()).collect();
    for i in (1..data.len()).rev() {
        order.swap(i, (random.u64(i as u32) % (i as u64 + 1)) as usize);
    }
    let mut taken = vec![0; data.classes()];
    let mut few = Dataset { class_names: data.class_names.clone(), pictures: Vec::new(), labels: Vec::new(), ..*data };
    for i in order {
        let taken = &mut taken[usize::from(data.labels[i])];
        if *taken < n {
            *taken += 1;
            few.pictures.extend_from_slice(data.picture(i));
            few.labels.push(data.labels[i]);
        }
    }
    few
}

/// `few`, repeated until they are as many as the `drawn`, which follow; with mirror images of both where `classical`.
fn mixed(few: &Dataset, drawn: Option<&Dataset>, classical: bool) -> Dataset {
    let whole = |data: &Dataset| if classical { mirrored(data) } else { data.clone() };
    let real = whole(few);
    let Some(drawn) = drawn.map(whole) else { return real };
    let mut set = real.clone();
    while set.len() + real.len() <= drawn.len() {
        append(&mut set, &real);
    }
    append(&mut set, &drawn);
    set
}

fn append(set: &mut Dataset, more: &Dataset) {
    set.pictures.extend_from_slice(&more.pictures);
    set.labels.extend_from_slice(&more.labels);
}

/// Every picture, then every picture with left and right exchanged.
fn mirrored(data: &Dataset) -> Dataset {
    let mut both = data.clone();
    for row in data.pictures.chunks_exact(data.width * data.channels) {
        row.chunks_exact(data.channels).rev().for_each(|pixel| both.pictures.extend_from_slice(pixel));
    }
    both.labels.extend_from_slice(&data.labels);
    both
}

/// Prints the rows as a table or as JSON.
///
/// # Errors
/// Never, as long as numbers are JSON.
pub fn report(plan: &Experiment, rows: &[Row], guidance: &[f32], drawn: usize, json: bool) -> Result<()> {
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let (mean, half) = mean_and_interval(&row.accuracies);
                json!({
                    "real_per_class": row.real, "kind": row.kind, "accuracy": mean, "interval_95": half,
                    "accuracies": row.accuracies,
                })
            })
            .collect();
        let report = json!({
            "drawn": drawn, "guidance": guidance, "repeats": plan.repeats, "images": plan.images, "seed": plan.seed,
            "rows": rows,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(());
    }
    println!("Accuracy on the test pictures, %: mean and 95 % interval of {} trainings", plan.repeats);
    print!("real a class");
    KINDS.iter().for_each(|(kind, ..)| print!("   {kind:>13}"));
    println!();
    for row in rows.chunks(KINDS.len()) {
        print!("{:12}", row[0].real);
        for kind in row {
            let (mean, half) = mean_and_interval(&kind.accuracies);
            print!("   {:6.2} +-{:5.2}", 100.0 * mean, 100.0 * half);
        }
        println!();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pictures: usize) -> Dataset {
        Dataset {
            height: 1,
            width: 2,
            channels: 1,
            class_names: vec!["a".into(), "b".into()],
            pictures: (0..2 * pictures as u8).collect(),
            labels: (0..pictures as u16).map(|i| i % 2).collect(),
        }
    }

    #[test]
    fn few_pictures_are_of_every_class_and_other_ones_for_another_seed() {
        let all = data(60);
        let few = pick(&all, 3, 1);
        assert_eq!((few.len(), few.labels.iter().filter(|l| **l == 0).count()), (6, 3));
        for (i, label) in few.labels.iter().enumerate() {
            let from = usize::from(few.picture(i)[0]) / 2;
            assert_eq!(all.labels[from], *label);
        }
        assert_eq!(pick(&all, 3, 1), few);
        assert_ne!(pick(&all, 3, 2).pictures, few.pictures);
    }

    #[test]
    fn real_and_drawn_pictures_have_equal_parts() {
        let (few, drawn) = (data(2), data(7));
        assert_eq!(mixed(&few, None, false), few);
        assert_eq!(mixed(&few, None, true).pictures, [0, 1, 2, 3, 1, 0, 3, 2]);
        let set = mixed(&few, Some(&drawn), false);
        assert_eq!(set.len(), 6 + 7);
        assert_eq!(set.labels.len() * 2, set.pictures.len());
        assert_eq!(mixed(&few, Some(&drawn), true).len(), 12 + 14);
        // More real pictures than drawn ones: each once.
        assert_eq!(mixed(&drawn, Some(&few), false).len(), 9);
    }
}
