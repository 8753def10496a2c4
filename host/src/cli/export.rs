//! `fewstep export`: quantizes a student and writes its image, or writes its network as ONNX.

use super::cascade::Cascade;
use crate::apps::augment;
use crate::data::{self, Dataset, Split, npz};
use crate::diffusers;
use crate::export::{ExportOptions, Exported, write_image};
use crate::files::{self, AlignedBytes};
use crate::nn::{Arch, Checkpoint, Engine, Precision};
use crate::onnx::{self, Form, Network, OPSET};
use crate::progress::Progress;
use crate::quant::{Calibration, WeightForm, calibration_classes, quantize_from};
use crate::sampling::{Job, Source};
use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use fewstep_core::Profile;
use fewstep_core::format::Image;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Most steps that an image holds tables for.
const MAX_STEPS: usize = fewstep_core::format::limits::MAX_STEPS as usize;
/// Seed of the pictures that a student that enlarges is calibrated on.
const BASE_SEED: u64 = 0xBA5E_0000;

/// Quantize a student and write the image that devices run, or write its network as ONNX
#[derive(clap::Args)]
pub struct Args {
    /// Student checkpoint (.safetensors); with --onnx a student image (.fsw) too
    file: PathBuf,
    /// Denoising steps; those the student was distilled for
    #[arg(long, required_unless_present_any = ["onnx", "to"])]
    steps: Option<usize>,
    /// Write a teacher, a network of stage 1 or a student as a folder for another library
    #[arg(long, value_name = "LIBRARY", conflicts_with_all = ["onnx", "steps", "data"])]
    to: Option<Library>,
    /// For an encoder: data set on whose pictures its int8 scales are calibrated
    #[arg(long, value_name = "DIR", conflicts_with = "onnx")]
    data: Option<PathBuf>,
    /// File to write: a student image (.fsw), with --onnx a network (.onnx), with --to a new folder
    #[arg(long)]
    out: PathBuf,
    /// Write one evaluation of the student as ONNX, for other runtimes and hardware
    #[arg(long, value_name = "FORM")]
    onnx: Option<Form>,
    /// With --onnx: the one step (from 0) that the file is for; without, the step is an input
    #[arg(long, requires = "onnx")]
    step: Option<usize>,
    /// A student that draws pictures (.fsw or .safetensors): one that enlarges them is calibrated on its; given again, a
    /// student that enlarges those first
    #[arg(long, value_name = "FILE", conflicts_with_all = ["onnx", "data"])]
    on: Vec<PathBuf>,
    /// Most bytes of the arena, for a student that enlarges pictures: it is computed in bands of rows that fit
    /// [default: 524288]
    #[arg(long, value_name = "BYTES", conflicts_with = "onnx")]
    arena: Option<u32>,
    /// The machine for which weights are laid out; all others run the image too, to the same bytes, some slower
    #[arg(long, value_enum, default_value_t = Target::Canonical, conflicts_with = "onnx")]
    profile: Target,
    /// Bits of the weights
    #[arg(long, value_enum, default_value_t = WeightForm::Int8, conflicts_with = "onnx")]
    weights: WeightForm,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// Libraries that networks are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Library {
    /// A pipeline of diffusers, with its code
    Diffusers,
}

/// Orders of weights that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Every machine
    Canonical,
    /// x86-64 with AVX-512 VNNI or AVX-VNNI
    X86Vnni,
}

impl Target {
    fn profile(self) -> Profile {
        match self {
            Target::Canonical => Profile::Canonical,
            Target::X86Vnni => Profile::X86Vnni,
        }
    }
}

/// Quantizes and exports for every machine; prints the progress of calibration.
pub fn export(checkpoint: &Checkpoint, steps: usize) -> Result<Exported> {
    export_for(checkpoint, steps, Calibration::Noise, WeightForm::Int8, &ExportOptions::default())
}

fn export_for(
    checkpoint: &Checkpoint,
    steps: usize,
    from: Calibration,
    form: WeightForm,
    options: &ExportOptions,
) -> Result<Exported> {
    let mut progress: Option<Progress> = None;
    let spec = quantize_from(checkpoint, steps, from, form, |done, total| {
        progress.get_or_insert_with(|| Progress::new("calibrate", total as u64, "evaluations")).set(done as u64, "");
    })?;
    drop(progress);
    write_image(&spec, options)
}

/// Pictures to calibrate a student that enlarges on: those of the student in `file`, enlarged by those in `larger`.
fn bases(arch: &Arch, file: &Path, larger: &[PathBuf]) -> Result<Vec<u8>> {
    ensure!(arch.base > 0, "--on: this student draws pictures itself; leave it out");
    let cascade = Cascade::open(file, larger, "--on")?;
    let source = cascade.last();
    let wanted = (arch.height, arch.width, arch.base);
    ensure!(
        source.shape()? == wanted && source.classes()? == arch.classes && source.own_steps()?.is_some(),
        "--on {}: give a student that draws the {}x{}x{} pictures of {} classes that are enlarged",
        larger.last().map_or(file, PathBuf::as_path).display(),
        wanted.0,
        wanted.1,
        wanted.2,
        arch.classes
    );
    let job = Job::new(BASE_SEED, calibration_classes(arch.classes), 1.0, None);
    Ok(cascade.draw(&job)?.0.pictures)
}

pub fn run(args: Args) -> Result<()> {
    if let Some(steps) = args.steps {
        ensure!((1..=MAX_STEPS).contains(&steps), "--steps {steps}: an image holds 1 to {MAX_STEPS} steps");
    }
    if let Some(Library::Diffusers) = args.to {
        return write_diffusers(&args);
    }
    files::check_output(&args.out)?;
    // Calibration in f32: the same image on every machine with the same f32 sums.
    Engine::select(Precision::F32)?;
    match (args.onnx, args.steps) {
        (Some(form), _) => write_onnx(&args, form),
        (None, Some(steps)) => write_student(&args, steps),
        // The arguments' own check comes first.
        (None, None) => anyhow::bail!("--steps is missing"),
    }
}

fn write_student(args: &Args, steps: usize) -> Result<()> {
    ensure!(
        args.weights == WeightForm::Int8 || args.profile == Target::Canonical,
        "--weights int4: weights of four bits have one order for all machines; leave --profile out"
    );
    let checkpoint = Checkpoint::open(&args.file, &Device::Cpu)?;
    ensure!(
        args.arena.is_none() || checkpoint.net.arch.base > 0,
        "--arena: only students that enlarge pictures are computed in bands; leave it out"
    );
    let data = args.data.as_ref().map(|folder| pictures(&checkpoint, folder)).transpose()?;
    let bases = args.on.split_first().map(|(file, larger)| bases(&checkpoint.net.arch, file, larger)).transpose()?;
    let from = match (&data, &bases) {
        (Some(data), _) => Calibration::Pictures(data),
        (None, Some(bases)) => Calibration::Bases(bases),
        (None, None) => Calibration::Noise,
    };
    let options =
        ExportOptions { profile: args.profile.profile(), arena_limit: args.arena, ..ExportOptions::default() };
    let exported = export_for(&checkpoint, steps, from, args.weights, &options)
        .with_context(|| format!("{}", args.file.display()))?;
    files::write_atomic(&args.out, |w| Ok(w.write_all(&exported.bytes)?))?;
    let (bytes, arena) = (exported.bytes.len(), exported.plan.arena_bytes);
    if args.json {
        println!("{}", json!({ "out": args.out, "file_bytes": bytes, "arena_bytes": arena, "steps": steps }));
    } else {
        println!(
            "{}: {bytes} bytes, arena {arena} bytes (set by {})",
            args.out.display(),
            exported.stage_name(exported.plan.peak_stage)
        );
    }
    Ok(())
}

fn write_diffusers(args: &Args) -> Result<()> {
    augment::check_out(&args.out)?;
    let place = || format!("{}", args.file.display());
    ensure!(!npz::is_npz(&args.out), "--out {}: give a folder", args.out.display());
    let checkpoint = Checkpoint::open(&args.file, &Device::Cpu)?;
    diffusers::export(&checkpoint, &args.out).with_context(place)?;
    if args.json {
        println!("{}", json!({ "out": args.out, "kind": checkpoint.kind.describe() }));
    } else {
        println!("{}: a {} for diffusers", args.out.display(), checkpoint.kind.describe());
    }
    Ok(())
}

/// The training pictures of a data set that fits the network.
fn pictures(checkpoint: &Checkpoint, folder: &Path) -> Result<Dataset> {
    let (a, d) = (&checkpoint.net.arch, data::open(folder, Split::Train)?);
    ensure!(
        (a.height, a.width, a.channels) == (d.height, d.width, d.channels) && d.classes() <= a.classes,
        "--data {}: holds {}x{}x{} pictures of {} classes, the network takes {}x{}x{} of {}",
        folder.display(),
        d.height,
        d.width,
        d.channels,
        d.classes(),
        a.height,
        a.width,
        a.channels,
        a.classes
    );
    Ok(d)
}

/// The network of an image, or of a checkpoint: quantized first where that is asked for.
fn network(args: &Args, form: Form) -> Result<Network> {
    let of_bytes =
        |bytes: &AlignedBytes| Network::from_image(&Image::parse(bytes).map_err(|e| anyhow::anyhow!("{e}"))?);
    match Source::open(&args.file)? {
        Source::Image(image) => {
            let own = usize::from(image.model()?.info().steps);
            if let Some(steps) = args.steps {
                ensure!(steps == own, "--steps {steps}: this image was made for {own} steps");
            }
            of_bytes(&AlignedBytes::from(image.bytes()))
        }
        Source::Imported(_) => bail!("a teacher needs two evaluations a step for guidance; distil it first"),
        Source::Checkpoint(checkpoint) => {
            let net = Network::from_checkpoint(&checkpoint, args.steps)?;
            match form {
                Form::Float => Ok(net),
                Form::Qdq => of_bytes(&AlignedBytes::from(export(&checkpoint, net.phi.len())?.bytes.as_slice())),
            }
        }
    }
}

fn write_onnx(args: &Args, form: Form) -> Result<()> {
    let place = || format!("{}", args.file.display());
    let net = network(args, form).with_context(place)?;
    let model = onnx::write(&net, onnx::Options { form, step: args.step }).with_context(place)?;
    let bytes = onnx::encode(&model);
    files::write_atomic(&args.out, |w| Ok(w.write_all(&bytes)?))?;
    let nodes = model.graph.map_or(0, |graph| graph.node.len());
    let form = match form {
        Form::Float => "float",
        Form::Qdq => "qdq",
    };
    if args.json {
        let report = json!({
            "out": args.out,
            "file_bytes": bytes.len(),
            "onnx": form,
            "opset": OPSET,
            "operators": nodes,
            "steps": net.phi.len(),
            "step": args.step,
        });
        println!("{report}");
    } else {
        let what = args.step.map_or_else(|| "any step".to_string(), |step| format!("step {step}"));
        println!("{}: {} bytes, {nodes} operators of opset {OPSET}, {form}, {what}", args.out.display(), bytes.len());
    }
    Ok(())
}
