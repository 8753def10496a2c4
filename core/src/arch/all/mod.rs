//! The portable backend: the scalar functions of [`crate::ops`] themselves.

use super::Kernels;
use crate::ops;

pub(super) static KERNELS: Kernels = Kernels {
    name: "scalar",
    quantize: ops::quantize,
    conv: |p, input, out, _| ops::conv(p, input, out),
    norm_act: ops::norm_act,
    avg_pool2: ops::avg_pool2,
    upsample_add: ops::upsample_add,
    attention: ops::attention,
    embed: ops::embed,
};
