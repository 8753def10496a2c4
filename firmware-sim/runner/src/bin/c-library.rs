//! Builds the static library for C for every target, where Zephyr, PlatformIO and Arduino look for it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use fewstep_runner::{Error, Options, c_library};

fn run() -> Result<(), Error> {
    let options = Options::default();
    let folder = c_library::folder(&options)?;
    for target in c_library::TARGETS {
        eprintln!("building for {}", target.triple);
        let library = c_library::build(&target, &folder.join("lib"), &options)?;
        println!("{}", library.display());
        for name in target.arduino {
            println!("{}", c_library::place(&library, &folder.join("src").join(name))?.display());
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("c-library: {error}");
            ExitCode::from(2)
        }
    }
}
