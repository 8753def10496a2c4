//! The networks of a phase as they stand before an update.

use crate::nn::{Params, UNet};

/// Which network an update trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Student = 0,
    /// The second network of a phase that trains two.
    Auxiliary = 1,
}

/// What an objective may ask besides its own networks. Evaluating these builds no graph.
#[derive(Clone)]
pub struct Live {
    /// The network that is trained.
    pub student: UNet,
    /// The moving average of its parameters (the parameters themselves where the optimizer keeps none).
    pub average: UNet,
    /// The second network that the phase trains, if there is one.
    pub auxiliary: Option<UNet>,
    /// Whose turn it is.
    pub turn: Turn,
}

impl Live {
    /// A network alone, as before the first update.
    pub fn of(net: &UNet) -> Live {
        let student = frozen(net);
        Live { average: student.clone(), student, auxiliary: None, turn: Turn::Student }
    }
}

/// The same network, sharing its values, without a graph.
pub(super) fn frozen(net: &UNet) -> UNet {
    UNet { arch: net.arch.clone(), params: Params::frozen(net.params.tensors().clone()) }
}
