//! The functions of a backend's table.

/// Panels of packed weights, on the stack.
#[repr(C, align(64))]
pub(in crate::arch) struct Panel<const N: usize>(pub [i32; N]);

/// `backend!(name, target features, token, whether the CPU can run it)`: the table of a backend, and [`Backend`]s made
/// of it only where the CPU can run it.
///
/// [`Backend`]: crate::Backend
macro_rules! backend {
    ($name:literal, $features:literal, $token:ty, $available:expr) => {
        use crate::arch::generic;
        use crate::arch::generic::conv::{FRONT_PANEL, LARGE_PANEL, Order, SMALL_PANEL};
        use crate::arch::generic::entry::Panel;
        use crate::arch::{Backend, Kernels};
        use crate::ops::{self, Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample};

        type Token = $token;

        static KERNELS: Kernels = Kernels {
            name: $name,
            quantize: |a, z, out| {
                // SAFETY: the table is handed out only where the CPU has the features.
                unsafe { quantize(a, z, out) }
            },
            conv,
            conv_blocks,
            norm_act: |p, input, out| {
                // SAFETY: as above.
                unsafe { norm_act(p, input, out) }
            },
            avg_pool2: |p, input, out| {
                // SAFETY: as above.
                unsafe { avg_pool2(p, input, out) }
            },
            upsample_add: |p, src, dst| {
                // SAFETY: as above.
                unsafe { upsample_add(p, src, dst) }
            },
            attention,
            embed: |p, first, second, film| {
                // SAFETY: as above.
                unsafe { embed(p, first, second, film) }
            },
        };

        /// The backend, where the CPU can run it. The only way to the table.
        pub(in crate::arch) fn backend() -> Option<Backend> {
            $available.then_some(Backend { kernels: &KERNELS })
        }

        fn conv(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>, _scratch: &mut [u8]) {
            if generic::conv::fits(p, &input) {
                conv_of(p, Order::Rows, input, out);
            } else {
                ops::conv(p, input, out);
            }
        }

        fn conv_blocks(p: &Conv<'_>, input: ConvIn<'_>, out: ConvOut<'_>, _scratch: &mut [u8]) {
            if generic::conv::fits(p, &input) {
                conv_of(p, Order::Blocks, input, out);
            } else {
                ops::conv_blocks(p, input, out);
            }
        }

        fn conv_of(p: &Conv<'_>, order: Order, input: ConvIn<'_>, out: ConvOut<'_>) {
            // SAFETY of all three: the table is handed out only where the CPU has the features.
            match generic::conv::panel::<Token>(p, order, &input) {
                // SAFETY: see above.
                FRONT_PANEL => unsafe { conv_in(p, order, input, out, &mut Panel([0; FRONT_PANEL]).0) },
                // SAFETY: see above.
                SMALL_PANEL => unsafe { conv_in(p, order, input, out, &mut Panel([0; SMALL_PANEL]).0) },
                // SAFETY: see above.
                _ => unsafe { conv_in(p, order, input, out, &mut Panel([0; LARGE_PANEL]).0) },
            }
        }

        fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
            if generic::attention::fits::<Token>(p, SMALL_PANEL) {
                // SAFETY: the table is handed out only where the CPU has the features.
                unsafe { attention_in(p, qkv, scores, out, &mut Panel([0; SMALL_PANEL]).0) }
            } else if generic::attention::fits::<Token>(p, LARGE_PANEL) {
                // SAFETY: as above.
                unsafe { attention_in(p, qkv, scores, out, &mut Panel([0; LARGE_PANEL]).0) }
            } else {
                ops::attention(p, qkv, scores, out);
            }
        }

        backend!(@function $features conv_in = generic::conv::conv,
            (p: &Conv<'_>, order: Order, input: ConvIn<'_>, out: ConvOut<'_>, panel: &mut [i32]));
        backend!(@function $features attention_in = generic::attention::attention,
            (p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8], panel: &mut [i32]));
        backend!(@function $features norm_act = generic::norm_act::norm_act,
            (p: &NormAct<'_>, input: &[i16], out: NormOut<'_>));
        backend!(@function $features quantize = generic::quantize::quantize, (a: f32, z: &[f32], out: &mut [i16]));
        backend!(@function $features avg_pool2 = generic::pool::avg_pool2,
            (p: &Pool, input: &[i16], out: &mut [i16]));
        backend!(@function $features upsample_add = generic::upsample::upsample_add,
            (p: &Upsample, src: &[i16], dst: &mut [i16]));
        backend!(@function $features embed = generic::embed::embed,
            (p: &Embed<'_>, first: &mut [f32], second: &mut [f32], film: &mut [f32]));
    };

    // The generic function, compiled for the features.
    (@function $features:literal $name:ident = $generic:path, ($($arg:ident: $type:ty),*)) => {
        /// # Safety
        ///
        /// The CPU has the features.
        #[target_feature(enable = $features)]
        unsafe fn $name($($arg: $type),*) {
            // SAFETY: the token's features are those of this function.
            $generic(unsafe { Token::new() }, $($arg),*);
        }
    };
}

pub(in crate::arch) use backend;
