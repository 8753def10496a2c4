//! From a quantized student to a student image: [`Graph`] lowers the architecture to operations with named weights
//! and activations, [`StudentSpec`] holds the numbers under these names, [`plan`] places the buffers, [`write_image`]
//! makes the bytes.

mod graph;
mod planner;
mod random;
mod spec;
mod writer;

pub use graph::{GROUP, GROUPNORM_EPS, Graph, Input, Node, NodeKind};
pub use planner::{MemoryPlan, plan, plan_within};
pub use random::{random_int4_student, random_student};
pub use spec::{Conv, Dense, Norm, Quant, StudentSpec};
pub use writer::{ARENA_LIMIT, ExportOptions, Exported, INT4_SCRATCH, op_params, write_image};
