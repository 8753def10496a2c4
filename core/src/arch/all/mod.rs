//! The portable backend: the scalar functions of [`crate::ops`] themselves.

use super::Kernels;
use crate::ops::{self, Conv, ConvIn, ConvOut};

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    quantize: ops::quantize,
    conv: |p, input, out, _| ops::conv(p, input, out),
    conv_blocks,
    norm_act: ops::norm_act,
    avg_pool2: ops::avg_pool2,
    upsample_add: ops::upsample_add,
    attention: ops::attention,
    embed: ops::embed,
    #[cfg(not(target_os = "none"))]
    preparing: None,
};

/// For every backend that has no kernel for blocks.
pub(super) fn conv_blocks(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>, _scratch: &mut [u8]) {
    // Without the feature no image has such weights.
    #[cfg(feature = "blocks")]
    ops::conv_blocks(p, input, out);
    #[cfg(not(feature = "blocks"))]
    let _ = (p, input, out);
}
