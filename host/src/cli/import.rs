//! `fewstep import`: a teacher from elsewhere.

use crate::diffusers;
use crate::files;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Where a teacher comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Origin {
    /// A folder that a pipeline of diffusers saved: UNet2DModel, DDPMScheduler or DDIMScheduler
    Diffusers,
}

/// Import a teacher from elsewhere, to sample from and to distil
#[derive(clap::Args)]
pub struct Args {
    /// Whose files they are
    #[arg(long, value_enum)]
    from: Origin,
    /// Folder to read
    folder: PathBuf,
    /// Teacher to write (.safetensors)
    #[arg(long)]
    out: PathBuf,
    /// Row of a class-conditional network's class table that was trained as no class; without, there is no guidance
    #[arg(long, value_name = "ROW")]
    null_class: Option<usize>,
    /// Names of the classes, in their order
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    class_names: Vec<String>,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<()> {
    files::check_output(&args.out)?;
    let Origin::Diffusers = args.from;
    let mut teacher = diffusers::import(&args.folder, args.null_class)?;
    if !args.class_names.is_empty() {
        anyhow::ensure!(
            args.class_names.len() == teacher.classes(),
            "--class-names: {} names for {} classes",
            args.class_names.len(),
            teacher.classes()
        );
        teacher.class_names.clone_from(&args.class_names);
    }
    teacher.save(&args.out)?;
    let (height, width, channels) = teacher.shape();
    let parameters = teacher.net.params.count();
    if args.json {
        let report = json!({
            "out": args.out, "shape": [height, width, channels], "classes": teacher.classes(),
            "conditional": teacher.conditional(), "guidance": args.null_class.is_some(),
            "parameters": parameters, "prediction": teacher.scheduler.prediction(),
        });
        println!("{report}");
    } else {
        let classes = match (teacher.conditional(), args.null_class) {
            (false, _) => "no classes, so no guidance".to_string(),
            (true, None) => format!("{} classes, no null class, so no guidance", teacher.classes()),
            (true, Some(_)) => format!("{} classes and a null class", teacher.classes()),
        };
        println!("{}: {height}x{width}x{channels}, {classes}, {parameters} parameters", args.out.display());
    }
    Ok(())
}
