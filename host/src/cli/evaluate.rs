//! `fewstep evaluate`: how good the pictures of models are, against real ones.

use super::common::use_threads;
use super::compare::psnr;
use crate::data::{self, Dataset, Split, npz, subset};
use crate::evaluate::{
    AgainstTeacher, Cache, Drawing, Figures, LayerReport, Pair, Reference, Report, Role, Row, Scores, Set, Shown,
    layer_losses,
};
use crate::export::Graph;
use crate::features::{Extractor, MATCHED, Training};
use crate::files;
use crate::nn::Kind;
use crate::nn::{Engine, Precision};
use crate::progress::Progress;
use crate::sampling::Source;
use crate::train::report::loss_curves;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Most pictures of a set.
const MAX_COUNT: usize = 1_000_000;
/// Largest model file.
const MAX_FILE: u64 = 1 << 30;
/// Pictures of a set that are compared with others from the same noise.
const PAIRED: usize = 1000;
/// Pictures of the grid.
const SHOWN: usize = 6;
/// Pictures that int8 is followed through, for each w.
const LAYER_PICTURES: usize = 10;

/// Measure models against real pictures: distances, precision, recall, class accuracy
#[derive(clap::Args)]
pub struct Args {
    /// Checkpoints, student images (.fsw), and .npz files of samples with their labels
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Data set whose test split is the reference
    #[arg(long)]
    data: PathBuf,
    /// Feature extractor that train-features made
    #[arg(long)]
    features: PathBuf,
    /// The guided teacher, which the others are measured beside
    #[arg(long)]
    teacher: Option<PathBuf>,
    /// DDIM steps of the teacher and of other files that draw in any number; several give several rows, and the
    /// largest is the level that students are held against
    #[arg(long, value_delimiter = ',', default_value = "128")]
    teacher_steps: Vec<usize>,
    /// Guidance strengths
    #[arg(long, value_delimiter = ',', default_value = "0,0.3,1,2,4")]
    guidance: Vec<f32>,
    /// Pictures of each set, cycling through the classes
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Picture i of a set has seed S + i
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Matrix arithmetic that checkpoints draw in
    #[arg(long, value_enum, default_value = "auto")]
    precision: Precision,
    /// Worker threads, 0 for one a core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Also train a classifier on each set for this many pictures and test it on real ones (classification accuracy
    /// score); 200000 is enough at 28x28
    #[arg(long, default_value_t = 0)]
    score_images: u64,
    /// Run folders whose loss curves are shown
    #[arg(long, value_delimiter = ',')]
    runs: Vec<PathBuf>,
    /// Folder of the report; drawn pictures stay there, and an evaluation that was killed goes on
    #[arg(long)]
    out: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// A file to be measured.
struct Model {
    file: PathBuf,
    role: Role,
    bytes: Vec<u8>,
    source: Source,
    steps: Vec<usize>,
    /// Whether it was finished in the extractor's features.
    flattered: bool,
}

enum Entry {
    Model(Box<Model>),
    Samples(PathBuf, Dataset),
}

/// Opens a file and checks that it draws pictures like the reference.
fn open(file: &Path, role: Role, args: &Args, extractor: &Extractor) -> Result<Entry> {
    let a = &extractor.net.arch;
    let fits = |shape: (usize, usize, usize), classes: usize| -> Result<()> {
        ensure!(
            shape == (a.height, a.width, a.channels),
            "{}: draws {}x{}x{} pictures, the feature extractor takes {}x{}x{}; use that of the same data set",
            file.display(),
            shape.0,
            shape.1,
            shape.2,
            a.height,
            a.width,
            a.channels
        );
        ensure!(
            classes <= a.classes,
            "{}: has {classes} classes, the feature extractor {}; use that of the same data set",
            file.display(),
            a.classes
        );
        Ok(())
    };
    if npz::is_npz(file) {
        ensure!(role != Role::Teacher, "--teacher {}: name a checkpoint; samples have no w", file.display());
        let data = npz::open(file)?;
        fits((data.height, data.width, data.channels), data.classes())?;
        return Ok(Entry::Samples(file.into(), data));
    }
    let source = Source::open(file)?;
    let classes = source.classes()?;
    fits(source.shape()?, classes)?;
    ensure!(
        classes == a.classes,
        "{}: has {classes} classes, the feature extractor {}; use that of the same data set",
        file.display(),
        a.classes
    );
    let steps = source.own_steps()?.map_or(args.teacher_steps.clone(), |n| vec![n]);
    let bytes = files::read_file(file, MAX_FILE)?;
    let matched = source.provenance(MATCHED)?;
    let flattered = matched.is_some_and(|m| m.split(", ").any(|hash| hash == extractor.short_hash()));
    if flattered {
        eprintln!(
            "{}: was finished in the features of {}, which flatter it; measure with an extractor of another seed",
            file.display(),
            args.features.display()
        );
    }
    Ok(Entry::Model(Box::new(Model { file: file.into(), role, bytes, source, steps, flattered })))
}

fn check(args: &Args) -> Result<()> {
    ensure!((10..=MAX_COUNT).contains(&args.count), "--count {}: give a number from 10 to {MAX_COUNT}", args.count);
    ensure!(!args.guidance.is_empty(), "--guidance: give at least one strength");
    for w in &args.guidance {
        ensure!(
            w.is_finite() && (0.0..=crate::nn::MAX_GUIDANCE as f32).contains(w),
            "--guidance {w}: give strengths from 0 to {}",
            crate::nn::MAX_GUIDANCE
        );
    }
    ensure!(!args.teacher_steps.is_empty(), "--teacher-steps: give at least one number");
    for steps in &args.teacher_steps {
        ensure!((1..=4096).contains(steps), "--teacher-steps {steps}: give a number from 1 to 4096");
    }
    Ok(())
}

/// The arithmetic that a model draws in. Students are f32, as int8 is held against them.
fn arithmetic(model: &Model, precision: Precision) -> Result<&'static str> {
    Ok(match &model.source {
        Source::Image(_) => "int8, the core",
        Source::Checkpoint(c) if matches!(c.kind, Kind::Student(_)) => Engine::select(Precision::F32)?.name(),
        Source::Checkpoint(_) => Engine::select(precision)?.name(),
        Source::Imported(_) => "f32",
    })
}

/// Draws (or takes up) one set.
fn draw(cache: &Cache, model: &Model, d: &Drawing, arithmetic: &str) -> Result<Vec<u8>> {
    let name = format!("{} w={} {} steps", stem(&model.file), d.w, d.steps);
    let mut progress = Progress::new(&name, d.count as u64, "pictures");
    let mut first = true;
    let pictures = cache.pictures((&model.file, &model.bytes, &model.source), d, arithmetic, |n| {
        if std::mem::take(&mut first) {
            progress.start_at(n as u64);
        }
        progress.set(n as u64, "");
    })?;
    progress.finish("");
    Ok(pictures)
}

fn stem(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// How far pictures are from another row's, from the same noise.
fn pair(row: &Row, kept: &[u8], other: &Row, others: &[u8], bytes: usize) -> Option<Pair> {
    (row.w == other.w).then(|| {
        let each = kept.chunks_exact(bytes).zip(others.chunks_exact(bytes)).map(|(a, b)| psnr(a, b));
        let finite = |v: f64| v.is_finite().then_some(v);
        Pair {
            file: other.file.clone(),
            steps: other.steps.unwrap_or(0),
            psnr: finite(psnr(kept, others)),
            worst: finite(each.fold(f64::INFINITY, f64::min)),
            pictures: kept.len() / bytes,
        }
    })
}

/// Whether an int8 image and a float checkpoint are of one student, as far as their steps say.
fn same_student(image: &Row, float: &Row) -> bool {
    let int8 = |r: &Row| r.arithmetic.as_deref().is_some_and(|a| a.starts_with("int8"));
    image.role == Role::Model && float.role == Role::Model && int8(image) && !int8(float) && image.steps == float.steps
}

pub fn run(args: Args) -> Result<()> {
    check(&args)?;
    ensure!(
        !args.out.join("options.json").exists(),
        "--out {}: is a run folder with a report of its own; name a folder in it, such as {}",
        args.out.display(),
        args.out.join("evaluation").display()
    );
    use_threads(args.threads)?;
    Engine::select(args.precision)?;
    let extractor = Extractor::open(&args.features)?;
    let a = &extractor.net.arch;
    let (test, train) = (data::open(&args.data, Split::Test)?, data::open(&args.data, Split::Train)?);
    for d in [&test, &train] {
        ensure!(
            (d.height, d.width, d.channels) == (a.height, a.width, a.channels) && d.classes() <= a.classes,
            "{}: holds {}x{}x{} pictures of {} classes, {} was trained for {}x{}x{} of {}; train-features makes one",
            args.data.display(),
            d.height,
            d.width,
            d.channels,
            d.classes(),
            args.features.display(),
            a.height,
            a.width,
            a.channels,
            a.classes
        );
    }
    let mut entries = Vec::new();
    if let Some(teacher) = &args.teacher {
        entries.push(open(teacher, Role::Teacher, &args, &extractor)?);
    }
    for file in &args.files {
        entries.push(open(file, Role::Model, &args, &extractor)?);
    }
    let curves = args.runs.iter().map(|run| loss_curves(run)).collect::<Result<Vec<_>>>()?;
    let (real, real_labels) = subset::balanced(&train, args.count, args.seed)
        .with_context(|| format!("--count {} is too large; lower it", args.count))?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    let cache = Cache::new(args.out.join("samples"));
    let scores = Scores {
        folder: args.out.join("scores"),
        arch: a.clone(),
        training: Training::for_height(a.height, args.score_images, args.seed),
        precision: args.precision,
        test: &test,
    };
    let score = |pictures: &[u8], labels: &[u16]| -> Result<Option<f64>> {
        (args.score_images > 0).then(|| scores.score(pictures, labels)).transpose()
    };
    let extract = |pictures: &[u8], labels: &[u16]| -> Result<Set> {
        // Features are f32 on every machine, so that figures can be compared.
        Engine::select(Precision::F32)?;
        Set::new(&extractor.net, pictures, labels)
    };
    eprintln!("features {} sha256 {}", args.features.display(), extractor.hash());
    let reference = Reference::new(extract(&test.pictures, &test.labels)?);
    let floor = reference.measure(&extract(&real, &real_labels)?, args.seed);
    let real_score = score(&real, &real_labels)?;
    let real_class_accuracy = reference.set().accuracy(args.seed);
    let largest = args.teacher_steps.iter().max().copied();
    let mut report = Report {
        features: &args.features,
        features_sha256: extractor.hash(),
        data: &args.data,
        reference_count: test.len(),
        count: args.count,
        seed: args.seed,
        real_class_accuracy,
        floor: &floor,
        real_classification_accuracy_score: real_score,
        rows: Vec::new(),
        layers: Vec::new(),
    };
    if !args.json {
        println!("{}", table_head());
        println!("{}", table_line("real training pictures", None, None, &floor, None));
        println!("{:56} class accuracy of the real test pictures {:.4}", "", real_class_accuracy.value);
    }

    let (mut kept, mut shown) = (Vec::<Vec<u8>>::new(), Vec::<Shown>::new());
    let bytes = a.picture_len();
    for entry in &entries {
        let (file, role, settings) = match entry {
            Entry::Samples(file, _) => (file, Role::Samples, vec![None]),
            Entry::Model(m) => {
                let settings = m.steps.iter().flat_map(|s| args.guidance.iter().map(move |w| Some((*s, *w))));
                (&m.file, m.role, settings.collect())
            }
        };
        for setting in settings {
            let drawn;
            let cycled: Vec<u16>;
            let (pictures, labels, arithmetic): (&[u8], &[u16], Option<&str>) = match (entry, setting) {
                (Entry::Samples(_, data), _) => (&data.pictures, &data.labels, None),
                (Entry::Model(model), setting) => {
                    let (steps, w) = setting.unwrap_or_default();
                    let arithmetic = arithmetic(model, args.precision)?;
                    drawn = draw(&cache, model, &Drawing { w, steps, seed: args.seed, count: args.count }, arithmetic)?;
                    cycled = (0..args.count).map(|i| (i % a.classes) as u16).collect();
                    (&drawn, &cycled, Some(arithmetic))
                }
            };
            let evaluations = match entry {
                Entry::Model(m) => setting.map(|(steps, w)| steps * m.source.evaluations_per_step(w)),
                Entry::Samples(..) => None,
            };
            let figures = reference.measure(&extract(pictures, labels)?, args.seed);
            let is_level = |r: &&Row| r.role == Role::Teacher && r.steps == largest && r.w == setting.map(|s| s.1);
            let level = report.rows.iter().find(is_level);
            let against = |l: &Row| {
                let saved = l.evaluations.unwrap_or(1) as f64 / evaluations.unwrap_or(1) as f64;
                AgainstTeacher {
                    distance_ratio: figures.frechet_distance.value / l.figures.frechet_distance.value,
                    class_accuracy_below: l.figures.class_accuracy.value - figures.class_accuracy.value,
                    recall_below: l.figures.recall.value - figures.recall.value,
                    evaluations_saved: saved,
                }
            };
            let against_teacher = (role == Role::Model).then(|| level.map(against)).flatten();
            let row = Row {
                file: file.clone(),
                role,
                w: setting.map(|s| s.1),
                steps: setting.map(|s| s.0),
                evaluations,
                arithmetic: arithmetic.map(String::from),
                figures,
                finished_in_these_features: matches!(entry, Entry::Model(m) if m.flattered),
                against_teacher,
                classification_accuracy_score: score(pictures, labels)?,
                pairs: Vec::new(),
            };
            if setting.is_some() {
                let picks = (0..SHOWN.min(a.classes)).map(|i| i * a.classes / SHOWN.min(a.classes));
                let picks = picks.map(|i| pictures[i * bytes..(i + 1) * bytes].to_vec());
                shown.push(Shown { row: report.rows.len(), pictures: picks.collect() });
                kept.push(pictures[..PAIRED.min(args.count) * bytes].to_vec());
            } else {
                kept.push(Vec::new());
            }
            report.rows.push(row);
            pair_up(&mut report.rows, &kept, largest, bytes);
            announce(&report.rows, &args);
            report.write_json(&args.out)?;
        }
    }
    report.layers = layers(&entries, &args)?;
    let grid = report.grid(&shown, (a.height, a.width, a.channels))?;
    report.write(&args.out, grid.as_ref(), &curves)?;
    if args.json {
        print!("{}", report.write_json(&args.out)?);
    } else {
        println!("{}", args.out.join("report.html").display());
    }
    Ok(())
}

/// Where int8 loses, for every image whose float checkpoint was given too.
fn layers(entries: &[Entry], args: &Args) -> Result<Vec<LayerReport>> {
    Engine::select(Precision::F32)?;
    let models = || entries.iter().filter_map(|e| if let Entry::Model(m) = e { Some(m) } else { None });
    let mut all = Vec::new();
    for m in models() {
        let Source::Image(image) = &m.source else { continue };
        let model = image.model()?;
        let steps = usize::from(model.info().steps);
        for f in models() {
            let Source::Checkpoint(c) = &f.source else { continue };
            // A checkpoint with other operations is not what the image was made from.
            let graph = Graph::new(&c.net.arch);
            let names = graph.nodes.iter().map(|n| n.name.as_str());
            let same = names.eq((0..model.op_count()).filter_map(|op| model.op_name(op)));
            if c.kind == Kind::Student(steps) && same {
                let steps = layer_losses(&model, &c.net, &args.guidance, args.seed, LAYER_PICTURES)?;
                all.push(LayerReport {
                    image: m.file.clone(),
                    float: f.file.clone(),
                    pictures: LAYER_PICTURES * args.guidance.len(),
                    steps,
                });
            }
        }
    }
    Ok(all)
}

/// Adds the last row's pairs: with the teacher, and int8 with float, whichever came first.
fn pair_up(rows: &mut [Row], kept: &[Vec<u8>], largest: Option<usize>, bytes: usize) {
    let last = rows.len() - 1;
    for other in 0..last {
        let (a, b) = (&rows[last], &rows[other]);
        let of_teacher = a.role == Role::Model && b.role == Role::Teacher && b.steps == largest;
        let (int8, float) = if same_student(b, a) { (other, last) } else { (last, other) };
        if of_teacher {
            let found = pair(a, &kept[last], b, &kept[other], bytes);
            rows[last].pairs.extend(found);
        } else if same_student(&rows[int8], &rows[float]) {
            let found = pair(&rows[int8], &kept[int8], &rows[float], &kept[float], bytes);
            rows[int8].pairs.extend(found);
        }
    }
}

fn announce(rows: &[Row], args: &Args) {
    if let Some(row) = rows.last().filter(|_| !args.json) {
        let ratio = row.against_teacher.map(|a| a.distance_ratio);
        println!("{}", table_line(&row.name(), row.steps, row.w, &row.figures, ratio));
    }
}

fn table_head() -> String {
    format!(
        "{:36} {:>5} {:>4} {:>6}  {:>7} {:>15} {:>8} {:>6} {:>6} {:>6} {:>6} {:>7}  {:>5}",
        "file", "steps", "w", "count", "FD", "interval", "KIDx1000", "prec", "recall", "dens", "cover", "acc", "FD/T"
    )
}

fn table_line(name: &str, steps: Option<usize>, w: Option<f32>, f: &Figures, ratio: Option<f64>) -> String {
    let or_dash = |v: Option<String>| v.unwrap_or_else(|| "-".into());
    let d = f.frechet_distance;
    format!(
        "{:36} {:>5} {:>4} {:>6}  {:7.4} {:>15} {:8.3} {:6.4} {:6.4} {:6.3} {:6.4} {:7.4}  {:>5}",
        name,
        or_dash(steps.map(|s| s.to_string())),
        or_dash(w.map(|w| w.to_string())),
        f.count,
        d.value,
        format!("{:.4}..{:.4}", d.low, d.high),
        1e3 * f.kid.value,
        f.precision.value,
        f.recall.value,
        f.density.value,
        f.coverage.value,
        f.class_accuracy.value,
        or_dash(ratio.map(|r| format!("{r:.3}")))
    )
}
