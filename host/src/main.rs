fn main() {
    std::process::exit(fewstep::cli::main());
}
