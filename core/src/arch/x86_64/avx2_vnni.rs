//! AVX2 with AVX-VNNI: as [`avx2`](super::avx2), with four byte products to a lane.

use super::avx2::Avx2;
use super::detect::{Isa, has};
use crate::arch::generic::entry::backend;

backend!("avx2-vnni", "avx2,avxvnni", Avx2<true>, has(Isa::Avx2Vnni));
