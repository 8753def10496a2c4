//! The networks of a phase as they stand before an update.

use crate::nn::{Params, UNet};

/// What an objective may ask besides its own networks. Evaluating these builds no graph.
#[derive(Clone)]
pub struct Live {
    /// The network that is trained.
    pub student: UNet,
    /// The moving average of its parameters (the parameters themselves where the optimizer keeps none).
    pub average: UNet,
    /// The second network that the phase trains, if there is one.
    pub auxiliary: Option<UNet>,
}

impl Live {
    /// A network alone, as before the first update.
    pub fn of(net: &UNet) -> Live {
        let student = UNet { arch: net.arch.clone(), params: Params::frozen(net.params.tensors().clone()) };
        Live { average: student.clone(), student, auxiliary: None }
    }
}
