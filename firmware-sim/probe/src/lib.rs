//! Writes bytes to a chip's flash through the debug probe that is attached, by probe-rs. Without the feature `probe-rs` both
//! functions say how to get it, so that a program can offer them always and stay light.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "probe-rs")]
mod attached;
#[cfg(not(feature = "probe-rs"))]
mod missing;

#[cfg(feature = "probe-rs")]
pub use attached::{check, write};
#[cfg(not(feature = "probe-rs"))]
pub use missing::{check, write};

/// Why nothing was written, or not all of it.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ProbeError {
    /// What is wrong and what to do.
    what: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProbeError {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), source: None }
    }

    #[cfg(feature = "probe-rs")]
    fn because<E: std::error::Error + Send + Sync + 'static>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        |source| Self { what: what.into(), source: Some(source.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "probe-rs"))]
    #[test]
    fn without_the_library_it_says_how_to_get_it() {
        for error in [check("STM32H743ZITx"), write(0, &[0], "STM32H743ZITx")] {
            assert!(error.unwrap_err().to_string().contains("--features probe"));
        }
    }

    /// The names in fewstep's target files.
    #[cfg(feature = "probe-rs")]
    #[test]
    fn known_chips_lack_a_probe_only() {
        for chip in ["STM32H743ZITx", "STM32F746ZGTx", "nRF52840_xxAA", "nRF5340_xxAA", "RP235x"] {
            match check(chip) {
                Ok(()) => println!("SKIPPED: a debug probe is attached"),
                Err(error) => assert!(error.to_string().contains("debug probe"), "{chip}: {error}"),
            }
        }
        let error = check("STM32H999").unwrap_err();
        assert!(error.to_string().contains("probe-rs does not know the chip \"STM32H999\""), "{error}");
        assert!(write(0, &[0], "STM32H999").is_err());
    }
}
