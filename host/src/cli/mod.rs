//! The command line: one file per verb. Flags parse into plain arguments; each verb's `run` checks them and works.

mod common;
mod compare;
mod data;
mod demo;
mod distill;
mod export;
mod inspect;
mod sample;
mod simulate;
mod train_teacher;

use clap::{Parser, Subcommand};

/// Distils a guided diffusion model until it samples in one to four steps, and runs it on small devices.
#[derive(Parser)]
#[command(name = "fewstep", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Data(data::Args),
    TrainTeacher(train_teacher::Args),
    Distill(distill::Args),
    Export(export::Args),
    Sample(sample::Args),
    Inspect(inspect::Args),
    Compare(compare::Args),
    Simulate(simulate::Args),
    Demo(demo::Args),
}

/// Runs the command line; the exit code is 0, or 2 when arguments or files are wrong.
pub fn main() -> i32 {
    common::keep_large_buffers();
    common::one_candle_thread();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are printed to standard output and are no errors.
            let code = if e.use_stderr() { 2 } else { 0 };
            let _ = e.print();
            return code;
        }
    };
    let result = match cli.verb {
        Verb::Data(a) => data::run(a),
        Verb::TrainTeacher(a) => train_teacher::run(a),
        Verb::Distill(a) => distill::run(a),
        Verb::Export(a) => export::run(a),
        Verb::Sample(a) => sample::run(a),
        Verb::Inspect(a) => inspect::run(a),
        Verb::Compare(a) => compare::run(a),
        Verb::Simulate(a) => simulate::run(a),
        Verb::Demo(a) => demo::run(a),
    };
    match result {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("fewstep: {e:#}");
            2
        }
    }
}
