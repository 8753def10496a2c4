//! `fewstep data`: work on data sets before training.

use crate::data::{self, Split, subset};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Make small data sets
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    Subset(SubsetArgs),
}

/// Write a balanced piece of a data set: the first pictures of each class
#[derive(clap::Args)]
struct SubsetArgs {
    /// Data set: IDX folder, folder of PNG folders, or .npz
    #[arg(long)]
    data: PathBuf,
    /// Training pictures a class
    #[arg(long)]
    per_class: usize,
    /// Test pictures a class; 0 writes no test split
    #[arg(long, default_value_t = 0)]
    test_per_class: usize,
    /// Folder to write to; made if it is not there
    #[arg(long)]
    out: PathBuf,
}

/// Runs `fewstep data`.
///
/// # Errors
/// One sentence that says what is wrong, where, and what to do; nothing is written then.
pub fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Subset(args) => run_subset(&args),
    }
}

fn run_subset(args: &SubsetArgs) -> Result<()> {
    let train = subset::subset(&data::open(&args.data, Split::Train)?, args.per_class).context("--per-class")?;
    let test = match args.test_per_class {
        0 => None,
        n => Some(subset::subset(&data::open(&args.data, Split::Test)?, n).context("--test-per-class")?),
    };
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make the folder {}", args.out.display()))?;
    subset::write_split(&args.out, Split::Train, &train)?;
    if let Some(test) = &test {
        subset::write_split(&args.out, Split::Test, test)?;
    }
    subset::write_class_names(&args.out, &train.class_names)?;
    println!(
        "{}: {} training and {} test pictures of {} classes",
        args.out.display(),
        train.len(),
        test.map_or(0, |t| t.len()),
        train.classes()
    );
    Ok(())
}
