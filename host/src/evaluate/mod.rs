//! Measuring pictures against pictures: distances between distributions in the features of a frozen classifier,
//! with the error bars that a sample has.
//!
//! | figure | definition | source |
//! |---|---|---|
//! | Frechet distance | between Gaussians of the features | Heusel et al. 2017, arXiv 1706.08500 |
//! | KID | unbiased squared MMD, kernel (x.y/d + 1)^3 | Binkowski et al. 2018, arXiv 1801.01401 |
//! | precision, recall | share inside the other set's k-NN balls | Kynkaanniemi et al. 2019, arXiv 1904.06991 |
//! | density, coverage | the same balls, robust to outliers | Naeem et al. 2020, arXiv 2002.09797 |
//! | class accuracy | share that the classifier takes for the class asked for | |
//!
//! Every figure is a function of features and a seed alone; neither threads nor the order of work change it.

mod bootstrap;
mod draw;
mod figures;
mod frechet;
mod kid;
mod layers;
mod manifold;
mod report;
mod score;
mod symmetric;

pub use bootstrap::Figure;
pub use draw::{Cache, Drawing};
pub use figures::{Figures, Reference, Set};
pub use frechet::{Gaussian, Root};
pub use kid::{kid, squared_mmd};
pub use layers::{LayerReport, Loss, StepLoss, layer_losses};
pub use manifold::{Manifold, NEIGHBOURS, Neighbours};
pub use report::{AgainstTeacher, Pair, Report, Role, Row, Shown};
pub use score::Scores;
