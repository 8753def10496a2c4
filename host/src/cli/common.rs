//! What several verbs share.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Sets the number of worker threads; 0 leaves one a core.
pub fn use_threads(threads: usize) -> Result<()> {
    anyhow::ensure!(threads <= 1024, "--threads {threads}: give a number from 0 to 1024");
    if threads > 0 {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start the worker threads")?;
    }
    Ok(())
}

/// Candle's own threads off: every thread that calls it has a part of the batch, and its workers would spin between.
pub fn one_candle_thread() {
    // SAFETY: called before any thread is started.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
}

/// Keeps freed megabyte buffers in the process: a training step allocates the same ones again, and returning them to
/// the system costs a page fault per 4 KB.
pub fn keep_large_buffers() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two allocator parameters before any thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// The folder of the shipped models and pictures that has `file`: of the working folder, or where this was compiled.
pub fn assets_with(file: &str) -> Option<PathBuf> {
    let places = [PathBuf::from("assets"), Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets")];
    places.into_iter().find(|place| place.join(file).exists())
}
