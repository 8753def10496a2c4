//! `fewstep report`: the page of a run folder.

use crate::train::report;
use anyhow::Result;
use std::path::PathBuf;

/// Write the page of a run: options, curves, pictures while it learnt, distances, cost, how to repeat it
#[derive(clap::Args)]
pub struct Args {
    /// Run folder of train-teacher or distill
    run: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    println!("{}", report::write(&args.run)?.display());
    Ok(())
}
