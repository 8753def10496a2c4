//! What a classifier sees: of pictures that are to be drawn, and of those that a network draws.

use super::running::Running;
use crate::data::Dataset;
use crate::evaluate::{Gaussian, Root};
use crate::features::{Classifier, FeatureArch};
use crate::nn::{Arch, Params};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use ndarray::{Array1, Array2, ArrayView1};

/// Most pictures of a goal that its Gaussian is made of, evenly spread over it.
const MOST_PICTURES: usize = 20_000;
/// Variance that every direction is given, so that what hardly varies hardly moves; features' own are 1 in the mean.
const RIDGE: f64 = 1e-4;

/// Added to the probability of a picture's class before its logarithm is taken: what is surely of another class is no
/// outlier, and still has a slope.
const DOUBT: f64 = 0.05;
/// How much that logarithm counts beside features.
const CERTAINTY: f64 = 2.0;

/// A frozen classifier, and the Gaussians of pictures in its features. Beside the features of a picture stand how surely it
/// is of its class, and the class, so that a class's mean counts as much as the mean of all.
pub struct View {
    /// Its parameters are on the network's device.
    classifier: Classifier,
    /// Side of the patches of the network that draws.
    patch: usize,
    /// Mean of the first goal's rows, [d]; rows are counted from there.
    origin: Array1<f64>,
    goals: Vec<Goal>,
}

/// The Gaussian of pictures that are to be drawn.
struct Goal {
    mean: Array1<f64>,
    root: Root,
}

/// The optimal transport from what is drawn to a goal, both as Gaussians.
pub struct Transport {
    from: Array1<f64>,
    matrix: Array2<f64>,
    to: Array1<f64>,
}

impl Transport {
    /// Where it takes a row.
    fn led(&self, row: ArrayView1<f64>) -> Array1<f64> {
        (&row - &self.from).dot(&self.matrix) + &self.to
    }
}

/// Says whether a classifier is one of pictures that a network of shape `arch` draws.
pub fn check(classifier: &FeatureArch, arch: &Arch) -> Result<()> {
    let (a, b) = (classifier, arch);
    ensure!(
        (a.height, a.width, a.channels, a.classes) == (b.height, b.width, b.channels, b.classes),
        "a classifier of {}x{}x{} pictures of {} classes, where {}x{}x{} of {} are drawn; make one of this data set with \
         train-features",
        a.height,
        a.width,
        a.channels,
        a.classes,
        b.height,
        b.width,
        b.channels,
        b.classes
    );
    Ok(())
}

/// Number of features, the certainty among them.
fn columns(arch: &FeatureArch) -> usize {
    arch.features + 1
}

/// Features [n, F + 1] with the class beside them, [n, F + 1 + classes]: a 1 among zeros, in units of its standard
/// deviation, were all classes equally frequent.
fn beside(arch: &FeatureArch, features: &[f32], class: &[u16]) -> Array2<f64> {
    let count = columns(arch);
    let share = 1.0 / arch.classes as f64;
    let one = 1.0 / (share * (1.0 - share)).sqrt();
    let value = |(i, k): (usize, usize)| match k.checked_sub(count) {
        None => f64::from(features[i * count + k]),
        Some(c) if usize::from(class[i]) == c => one,
        Some(_) => 0.0,
    };
    Array2::from_shape_fn((class.len(), count + arch.classes), value)
}

/// Rows of a data set's pictures.
fn seen(classifier: &Classifier, data: &Dataset) -> Result<Array2<f64>> {
    let count = data.len().min(MOST_PICTURES);
    let picks = || (0..count).map(|i| i * data.len() / count);
    let pictures: Vec<u8> = picks().flat_map(|i| data.picture(i).iter().copied()).collect();
    let labels: Vec<u16> = picks().map(|i| data.labels[i]).collect();
    let features = classifier.extract(&pictures)?.features;
    let features = Tensor::from_vec(features, (count, classifier.arch.features), &Device::Cpu)?;
    let features = with_certainty(classifier, &features, &labels)?.flatten_all()?.to_vec1()?;
    Ok(beside(&classifier.arch, &features, &labels))
}

/// Features [n, F] as a classifier scales them, and how sure it is of each picture's class, [n, F + 1].
fn with_certainty(classifier: &Classifier, features: &Tensor, class: &[u16]) -> candle_core::Result<Tensor> {
    let logits = classifier.logits(&(features / f64::from(classifier.scale))?)?;
    let powers = logits.broadcast_sub(&logits.max_keepdim(1)?.detach())?.exp()?;
    let index: Vec<u32> = class.iter().map(|c| u32::from(*c)).collect();
    let index = Tensor::from_vec(index, (class.len(), 1), features.device())?;
    let probability = (powers.gather(&index, 1)? / powers.sum_keepdim(1)?)?;
    Tensor::cat(&[features, &((probability + DOUBT)?.log()? * CERTAINTY)?], 1)
}

fn ridged(mut gaussian: Gaussian) -> Gaussian {
    gaussian.covariance.diag_mut().map_inplace(|v| *v += RIDGE);
    gaussian
}

impl View {
    /// How `classifier` sees pictures that are to be drawn, at least one set of them, by a network of shape `arch`.
    ///
    /// # Errors
    /// When it is a classifier of other pictures.
    pub fn new(classifier: &Classifier, goals: &[&Dataset], arch: &Arch, device: &Device) -> Result<View> {
        check(&classifier.arch, arch)?;
        let rows: Vec<Array2<f64>> = goals.iter().map(|goal| seen(classifier, goal)).collect::<Result<_>>()?;
        let first = rows.first().context("pictures that are to be drawn")?;
        let origin = Array1::from(Running::of(first.view()).gaussian().mean);
        let goal = |rows: Array2<f64>| {
            let gaussian = ridged(Running::of((rows - &origin).view()).gaussian());
            Goal { mean: Array1::from(gaussian.mean.clone()), root: Root::new(gaussian) }
        };
        let goals = rows.into_iter().map(goal).collect();
        let tensors = classifier.params.tensors().iter();
        let tensors = tensors.map(|(k, t)| Ok((k.clone(), t.to_device(device)?))).collect::<Result<_>>()?;
        let classifier = Classifier { params: Params::frozen(tensors), ..classifier.clone() };
        Ok(View { classifier, patch: arch.patch, origin, goals })
    }

    /// Number of values in a row.
    pub fn width(&self) -> usize {
        self.origin.len()
    }

    /// Rows [n, features + 1 + classes] from the origin.
    pub fn rows(&self, features: &[f32], class: &[u16]) -> Array2<f64> {
        beside(&self.classifier.arch, features, class) - &self.origin
    }

    /// Features and certainty [n, F + 1] of pictures z [n, h, w, p*p*C] of classes as a network draws them, with gradients
    /// to z. What is brighter or darker than a picture can be is cut off, as it is in a picture's bytes.
    pub fn features(&self, z: &Tensor, class: &[u16]) -> candle_core::Result<Tensor> {
        let a = &self.classifier.arch;
        let (n, p) = (z.dim(0)?, self.patch);
        let mut x = z.clamp(-1f32, 1f32)?;
        if p != a.patch {
            let (h, w) = (a.height / p, a.width / p);
            x = x.reshape((n * h, w, p, p * a.channels))?.transpose(1, 2)?.contiguous()?;
            x = self.classifier.patches(&x.reshape((n, a.height, a.width, a.channels))?)?;
        }
        let features = (self.classifier.forward(&x, None)?.0 * f64::from(self.classifier.scale))?;
        with_certainty(&self.classifier, &features, class)
    }

    /// From what is drawn to the goals, one for each.
    pub fn transports(&self, drawn: &[Running]) -> Vec<Transport> {
        let transport = |(goal, drawn): (&Goal, &Running)| {
            let gaussian = ridged(drawn.gaussian());
            Transport { matrix: goal.root.transport(&gaussian), from: gaussian.mean.into(), to: goal.mean.clone() }
        };
        self.goals.iter().zip(drawn).map(transport).collect()
    }

    /// Where the features of rows are to go, [n, F + 1]: row i by transport `goal[i]`.
    pub fn led(&self, transports: &[Transport], goal: &[usize], rows: &Array2<f64>, device: &Device) -> Result<Tensor> {
        let features = columns(&self.classifier.arch);
        let led = rows.rows().into_iter().zip(goal).map(|(row, goal)| transports[*goal].led(row) + &self.origin);
        let values: Vec<f32> = led.flat_map(|row| row.into_iter().take(features).map(|v| v as f32)).collect();
        Ok(Tensor::from_vec(values, (rows.nrows(), features), device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::to_batch;
    use crate::nn::{Engine, Precision};
    use crate::noise::{Purpose, Stream};

    fn data(n: usize) -> Dataset {
        let mut noise = vec![0f32; n * 64];
        Stream::new(3, Purpose::Init, 0, 1).normals(&mut noise);
        let pictures = noise.iter().map(|v| (128.0 + 50.0 * v) as u8).collect();
        let class_names = vec!["a".into(), "b".into()];
        let labels = (0..n).map(|i| (i % 2) as u16).collect();
        Dataset { height: 8, width: 8, channels: 1, class_names, pictures, labels }
    }

    fn arch(patch: usize) -> Arch {
        Arch { height: 8, width: 8, channels: 1, classes: 2, patch, ..Arch::for_pictures(8, 8, 1, 2) }
    }

    fn classifier() -> Classifier {
        let arch = FeatureArch { features: 6, ..FeatureArch::for_pictures(8, 8, 1, 2) };
        let mut tensors = Classifier::init(&arch, 5).unwrap();
        let hidden = (tensors["hidden.weight"].clone() * 3.0).unwrap();
        tensors.insert("hidden.weight".into(), hidden);
        let mut dense = vec![0f32; 12];
        Stream::new(4, Purpose::Init, 0, 1).normals(&mut dense);
        tensors.insert("dense.weight".into(), Tensor::from_vec(dense, (2, 6), &Device::Cpu).unwrap());
        Classifier { arch, params: Params::frozen(tensors), scale: 2.0 }
    }

    #[test]
    fn drawn_pictures_have_the_features_of_their_bytes_whatever_the_patches() {
        Engine::select(Precision::F32).unwrap();
        let (data, net) = (data(6), classifier());
        let seen = net.extract(&data.pictures).unwrap();
        for patch in [1, 2, 4] {
            let view = View::new(&net, &[&data], &arch(patch), &Device::Cpu).unwrap();
            let signed: Vec<f32> = data.pictures.iter().map(|v| crate::diffusion::to_signed(*v)).collect();
            let z = to_batch(&arch(patch), &signed, &Device::Cpu).unwrap();
            let got: Vec<Vec<f32>> = view.features(&z, &data.labels).unwrap().to_vec2().unwrap();
            for (i, (got, seen)) in got.iter().zip(seen.features.chunks_exact(6)).enumerate() {
                assert!(got.iter().zip(seen).all(|(a, b)| (a - b).abs() < 1e-5), "patches of {patch}");
                let by = |class: usize| -> f64 {
                    let row = &net.params.tensors()["dense.weight"].to_vec2::<f32>().unwrap()[class];
                    row.iter().zip(seen).map(|(w, f)| f64::from(w * f / net.scale)).sum::<f64>().exp()
                };
                let own = usize::from(data.labels[i]);
                let certainty = CERTAINTY * (by(own) / (by(0) + by(1)) + DOUBT).ln();
                assert!((f64::from(got[6]) - certainty).abs() < 1e-5, "{} {certainty}", got[6]);
            }
        }
        let other = Arch { classes: 3, ..arch(2) };
        assert!(View::new(&net, &[&data], &other, &Device::Cpu).is_err());
    }

    /// What is drawn as a goal is stays; what is not goes to rows with the goal's mean and covariance.
    #[test]
    fn the_transports_lead_to_their_goals() {
        Engine::select(Precision::F32).unwrap();
        let (first, net) = (data(400), classifier());
        let second = Dataset { pictures: first.pictures.iter().map(|v| v / 2).collect(), ..first.clone() };
        let view = View::new(&net, &[&first, &second], &arch(2), &Device::Cpu).unwrap();
        let rows_of = |d: &Dataset| seen(&net, d).unwrap() - &view.origin;
        for (goal, data) in [&first, &second].into_iter().enumerate() {
            let rows = rows_of(data);
            let root = &view.goals[goal].root;
            let distance = |rows: &Array2<f64>| root.distance(&ridged(Running::of(rows.view()).gaussian()));
            assert!(distance(&rows).abs() < 1e-4, "{}", distance(&rows));
            let moved = (&rows * 1.3) + 0.2;
            let running = Running::of(moved.view());
            let transports = view.transports(&[running.clone(), running]);
            let before = distance(&moved);
            assert!(before > 0.1);
            let led = Array2::from_shape_fn(moved.dim(), |(i, k)| transports[goal].led(moved.row(i))[k]);
            assert!(distance(&led).abs() < 1e-3 * before, "{} of {before}", distance(&led));
            // Features are counted from zero again, and each row goes to its own goal.
            let of = |i: usize| if i.is_multiple_of(3) { goal } else { 1 - goal };
            let which: Vec<usize> = (0..400).map(of).collect();
            let features = view.led(&transports, &which, &moved, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
            for (i, row) in features.iter().enumerate() {
                let to = transports[which[i]].led(moved.row(i)) + &view.origin;
                assert!(row.len() == 7 && row.iter().zip(&to).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5));
            }
        }
        assert!(view.goals[1].root.distance(&ridged(Running::of(rows_of(&first).view()).gaussian())) > 0.1);
    }
}
