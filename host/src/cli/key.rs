//! `fewstep key`: a pair of keys for signed images.

use crate::files;
use anyhow::{Context, Result, ensure};
use fewstep_scenario::signing::SigningKey;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Make an Ed25519 key for `flash --sign`: a private key file that only you can read, and the public key beside it
#[derive(clap::Args)]
pub struct Args {
    /// Private key file to write, as OpenSSL writes it; the public key goes to the same name with the ending .pub
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    let public_file = args.out.with_extension("pub");
    ensure!(public_file != args.out, "{}: the public key ends in .pub; name the private one .key", args.out.display());
    for path in [&args.out, &public_file] {
        files::check_output(path)?;
        ensure!(
            !path.exists(),
            "{}: is there already, and a key cannot be made again; name another file",
            path.display()
        );
    }
    let key = SigningKey::generate();
    write_private(&args.out, &key.to_pem()).with_context(|| format!("cannot write {}", args.out.display()))?;
    files::write_atomic(&public_file, |out| Ok(out.write_all(key.public_pem().as_bytes())?))?;
    println!("private key        {}: keep it, and keep it secret", args.out.display());
    println!("public key         {}", public_file.display());
    println!("for the firmware   Rules {{ public_key: Some({:?}), .. }}", key.public());
    Ok(())
}

/// Writes a new file that nobody else may read; not over one that is there.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
