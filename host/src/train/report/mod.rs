//! `report.html` of a run folder: what was asked, how training went, what the network drew meanwhile, what it cost, how
//! to do it again. Made from the folder's files alone, so that it can be made of any run at any time.

mod cost;
mod run;
mod stats;

pub use run::write;
pub use stats::loss_curves;
