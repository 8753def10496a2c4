//! `fewstep export`: quantizes a student and writes its image, or writes its network as ONNX.

use crate::diffusion::Sampler;
use crate::export::{ExportOptions, Exported, write_image};
use crate::files::{self, AlignedBytes};
use crate::nn::{Arch, Checkpoint, Engine, Precision};
use crate::onnx::{self, Form, Network, OPSET};
use crate::progress::Progress;
use crate::quant::{calibration_classes, quantize_on};
use crate::sampling::{Job, Source};
use anyhow::{Context, Result, bail, ensure};
use candle_core::Device;
use fewstep_core::Profile;
use fewstep_core::format::Image;
use serde_json::json;
use std::path::PathBuf;

/// Most steps that an image holds tables for.
const MAX_STEPS: usize = fewstep_core::format::limits::MAX_STEPS as usize;
/// Seed of the pictures that a student that enlarges is calibrated on.
const BASE_SEED: u64 = 0xBA5E_0000;

/// Quantize a student to int8 and write the image that devices run, or write its network as ONNX
#[derive(clap::Args)]
pub struct Args {
    /// Student checkpoint (.safetensors); with --onnx a student image (.fsw) too
    file: PathBuf,
    /// Denoising steps; those the student was distilled for
    #[arg(long, required_unless_present = "onnx")]
    steps: Option<usize>,
    /// File to write: a student image (.fsw), with --onnx a network (.onnx)
    #[arg(long)]
    out: PathBuf,
    /// Write one evaluation of the student as ONNX, for other runtimes and hardware
    #[arg(long, value_name = "FORM")]
    onnx: Option<Form>,
    /// With --onnx: the one step (from 0) that the file is for; without, the step is an input
    #[arg(long, requires = "onnx")]
    step: Option<usize>,
    /// A student that draws pictures (.fsw or .safetensors): one that enlarges them is calibrated on its
    #[arg(long, value_name = "FILE", conflicts_with = "onnx")]
    on: Option<PathBuf>,
    /// Most bytes of the arena, for a student that enlarges pictures: it is computed in bands of rows that fit
    /// [default: 524288]
    #[arg(long, value_name = "BYTES", conflicts_with = "onnx")]
    arena: Option<u32>,
    /// The machine for which weights are laid out; all others run the image too, to the same bytes, some slower
    #[arg(long, value_enum, default_value_t = Target::Canonical, conflicts_with = "onnx")]
    profile: Target,
    /// Report as JSON
    #[arg(long)]
    json: bool,
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
    export_for(checkpoint, steps, None, &ExportOptions::default())
}

fn export_for(
    checkpoint: &Checkpoint,
    steps: usize,
    bases: Option<&[u8]>,
    options: &ExportOptions,
) -> Result<Exported> {
    let mut progress: Option<Progress> = None;
    let spec = quantize_on(checkpoint, steps, bases, |done, total| {
        progress.get_or_insert_with(|| Progress::new("calibrate", total as u64, "evaluations")).set(done as u64, "");
    })?;
    drop(progress);
    write_image(&spec, options)
}

/// Pictures to calibrate a student that enlarges on: those of the student that --on names.
fn calibration_bases(args: &Args, arch: &Arch) -> Result<Option<Vec<u8>>> {
    let file = match (&args.on, arch.base) {
        (None, 0) => return Ok(None),
        (Some(file), 1..) => file,
        (None, _) => {
            bail!("a student that enlarges pictures is calibrated on some: give --on STUDENT, which draws them")
        }
        (Some(_), 0) => bail!("--on: this student draws pictures itself; leave it out"),
    };
    let source = Source::open(file)?;
    let wanted = (arch.height, arch.width, arch.base);
    ensure!(
        source.shape()? == wanted && source.classes()? == arch.classes && source.own_steps()?.is_some(),
        "--on {}: give a student that draws the {}x{}x{} pictures of {} classes that are enlarged",
        file.display(),
        wanted.0,
        wanted.1,
        wanted.2,
        arch.classes
    );
    let job = Job {
        seed: BASE_SEED,
        classes: calibration_classes(arch.classes),
        w: 1.0,
        steps: None,
        sampler: Sampler::Deterministic,
        backend: "auto".into(),
    };
    Ok(Some(source.draw(&job, |_| ())?.pictures))
}

pub fn run(args: Args) -> Result<()> {
    if let Some(steps) = args.steps {
        ensure!((1..=MAX_STEPS).contains(&steps), "--steps {steps}: an image holds 1 to {MAX_STEPS} steps");
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
    let checkpoint = Checkpoint::open(&args.file, &Device::Cpu)?;
    ensure!(
        args.arena.is_none() || checkpoint.net.arch.base > 0,
        "--arena: only students that enlarge pictures are computed in bands; leave it out"
    );
    let bases = calibration_bases(args, &checkpoint.net.arch)?;
    let options =
        ExportOptions { profile: args.profile.profile(), arena_limit: args.arena, ..ExportOptions::default() };
    let exported = export_for(&checkpoint, steps, bases.as_deref(), &options)
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
