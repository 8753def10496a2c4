//! The command line: one file per verb. Flags parse into plain arguments; each verb's `run` checks them and works.

mod augment;
mod bench;
mod cascade;
mod common;
mod compare;
mod completions;
mod data;
mod demo;
mod distill;
mod edit;
mod evaluate;
mod export;
mod fit;
mod flash;
mod import;
mod inpaint;
pub mod inspect;
mod interrupt;
mod key;
mod morph;
mod page;
mod painting;
mod report;
mod restyle;
mod sample;
mod scenario;
mod simulate;
mod train_features;
mod train_teacher;
mod training;
mod trial;

use clap::{Parser, Subcommand, error::ErrorKind};

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
    TrainFeatures(train_features::Args),
    TrainTeacher(train_teacher::Args),
    Import(import::Args),
    Distill(Box<distill::Args>),
    Export(export::Args),
    Sample(sample::Args),
    Edit(edit::Args),
    Inpaint(inpaint::Args),
    Restyle(restyle::Args),
    Morph(morph::Args),
    Augment(augment::Args),
    Trial(trial::Args),
    Page(page::Args),
    Inspect(inspect::Args),
    Compare(compare::Args),
    Evaluate(evaluate::Args),
    Report(report::Args),
    Simulate(simulate::Args),
    Bench(bench::Args),
    Fit(fit::Args),
    Flash(flash::Args),
    Key(key::Args),
    Demo(demo::Args),
    Completions(completions::Args),
}

/// What is wrong with the arguments, without the usage that clap adds after it.
fn one_sentence(e: &clap::Error) -> String {
    let text = e.to_string();
    let what: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let mut what = what.join(" ").trim_start_matches("error: ").to_string();
    // Rust's words for a number that is none say nothing of what is wanted.
    for (words, wanted) in [
        ("invalid digit found in string", "give a whole number"),
        ("invalid float literal", "give a number"),
        ("number too large to fit in target type", "that is too large"),
        ("cannot parse integer from empty string", "give a whole number"),
        ("cannot parse float from empty string", "give a number"),
    ] {
        what = what.replace(words, wanted);
    }
    format!("{what}; --help shows the arguments")
}

/// Ends quietly where whoever reads standard output has read enough, as in `fewstep inspect FILE | head`. The signal
/// itself stays ignored: a broken pipe to an emulator is an error to report.
fn end_with_the_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if text.starts_with("failed printing to stdout") && text.contains("Broken pipe") {
            std::process::exit(0);
        }
        report(panic);
    }));
}

/// Runs the command line; the exit code is 0, 2 when arguments or files are wrong or something is not as expected, or 130
/// after an interrupt that was waited for.
pub fn main() -> i32 {
    common::keep_large_buffers();
    common::one_candle_thread();
    end_with_the_reader();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are printed to standard output and are no errors.
            match e.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    let _ = e.print();
                    return 0;
                }
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    let _ = e.print();
                }
                _ => eprintln!("fewstep: {}", one_sentence(&e)),
            }
            return 2;
        }
    };
    let result = match cli.verb {
        Verb::Data(a) => data::run(a),
        Verb::TrainFeatures(a) => train_features::run(a),
        Verb::TrainTeacher(a) => train_teacher::run(a),
        Verb::Import(a) => import::run(a),
        Verb::Distill(a) => distill::run(*a),
        Verb::Export(a) => export::run(a),
        Verb::Sample(a) => sample::run(a),
        Verb::Edit(a) => edit::run(a),
        Verb::Inpaint(a) => inpaint::run(a),
        Verb::Restyle(a) => restyle::run(a),
        Verb::Morph(a) => morph::run(a),
        Verb::Augment(a) => augment::run(a),
        Verb::Trial(a) => trial::run(a),
        Verb::Page(a) => page::run(a),
        Verb::Inspect(a) => inspect::run(a),
        Verb::Compare(a) => compare::run(a),
        Verb::Evaluate(a) => evaluate::run(a),
        Verb::Report(a) => report::run(a),
        Verb::Simulate(a) => simulate::run(a),
        Verb::Bench(a) => bench::run(a),
        Verb::Fit(a) => fit::run(a),
        Verb::Flash(a) => flash::run(a),
        Verb::Key(a) => key::run(a),
        Verb::Demo(a) => demo::run(a),
        Verb::Completions(a) => completions::run(a),
    };
    match result {
        Ok(()) => 0,
        Err(e) => {
            eprintln!("fewstep: {e:#}");
            if interrupt::asked() { interrupt::EXIT_CODE } else { 2 }
        }
    }
}
