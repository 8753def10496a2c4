//! Acceptance tests of a product on an emulated board, without a board: a scenario is a TOML file of events (images that a
//! programmer writes, requests, updates in pieces, power cuts, rot, hangs) and of what is expected after them.
//!
//! ```no_run
//! use fewstep_scenario::{Player, Scenario};
//!
//! let scenario = Scenario::load("first-picture.toml".as_ref())?;
//! let outcome = Player::default().play(&scenario, None, &mut |event| eprintln!("{event}"))?;
//! println!("{}", fewstep_scenario::report::table(&[outcome]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - [`file`]: what a scenario file says;
//! - [`play`](Player::play): the events on a board, each with what came of it;
//! - [`report`]: as a table, JUnit XML, and a page with the pictures;
//! - [`signing`]: keys, and manifests signed with them, for `fewstep flash` too.
//!
//! docs/scenarios.md describes the files.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod base64;
mod error;
pub mod file;
mod host;
mod mail;
mod play;
pub mod report;
pub mod signing;

pub use error::Error;
pub use file::{Scenario, ScenarioFile};
pub use play::{Measured, Outcome, Picture, Player, Row};
