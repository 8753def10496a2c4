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
        use crate::arch::generic::conv::{FRONT_PANEL, LARGE_PANEL, MEDIUM_PANEL, Order, SMALL_PANEL, Stored};
        use crate::arch::generic::entry::Panel;
        use crate::arch::generic::winograd::{Plan as Winograd, Work};
        use crate::arch::{Backend, Kernels, Preparing, room::uncleared};
        use core::mem::MaybeUninit;
        use crate::ops::{self, Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample};

        type Token = $token;

        const TABLE: Kernels = Kernels {
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
            preparing: if <Token as generic::Simd>::WINOGRAD || <Token as generic::Simd>::PANELS {
                Some(Preparing { prepare, conv: conv_prepared })
            } else {
                None
            },
        };
        static KERNELS: Kernels = TABLE;

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
            if <Token as generic::Simd>::WINOGRAD
                && let ConvIn::I8(input) = input
                && let Some(plan) = Winograd::new::<Token>(p)
            {
                return winograd(p, Stored::Image(order), input, out, &plan);
            }
            match generic::conv::panel::<Token>(p, order, &input) {
                FRONT_PANEL => conv_by::<FRONT_PANEL>(p, Stored::Image(order), input, out),
                SMALL_PANEL => conv_by::<SMALL_PANEL>(p, Stored::Image(order), input, out),
                MEDIUM_PANEL => conv_by::<MEDIUM_PANEL>(p, Stored::Image(order), input, out),
                _ => conv_by::<LARGE_PANEL>(p, Stored::Image(order), input, out),
            }
        }

        fn winograd(p: &Conv<'_>, weights: Stored<'_>, input: &[i8], out: ConvOut<'_>, plan: &Winograd) {
            let mut work = MaybeUninit::uninit();
            // SAFETY: the table is handed out only where the CPU has the features. `Work` is integers.
            unsafe { winograd_in(p, weights, input, out, plan, uncleared::<Work>(&mut work)) }
        }

        fn prepare(p: &Conv<'_>, blocks: bool, panels: &mut [i32]) -> usize {
            let order = if blocks { Order::Blocks } else { Order::Rows };
            if <Token as generic::Simd>::WINOGRAD {
                return Winograd::new::<Token>(p).map_or(0, |plan| prepare_by(p, order, &plan, panels));
            }
            let len = generic::conv::panels_len::<Token>(p);
            if let Some(panels) = panels.get_mut(..len).filter(|panels| !panels.is_empty()) {
                // SAFETY: as above.
                unsafe { prepare_panels(p, order, panels) }
            }
            len
        }

        fn prepare_by(p: &Conv<'_>, order: Order, plan: &Winograd, panels: &mut [i32]) -> usize {
            let len = plan.panels_len::<Token>(p);
            if let Some(panels) = panels.get_mut(..len) {
                let mut work = MaybeUninit::uninit();
                // SAFETY: as above.
                unsafe { prepare_in(p, order, plan, uncleared::<Work>(&mut work), panels) }
            }
            len
        }

        fn conv_prepared(p: &Conv<'_>, panels: &[i32], input: ConvIn<'_>, out: ConvOut<'_>) {
            let winograd_plan = if <Token as generic::Simd>::WINOGRAD { Winograd::new::<Token>(p) } else { None };
            match (input, winograd_plan) {
                (ConvIn::I8(input), Some(plan))
                    if generic::conv::fits(p, &ConvIn::I8(input)) && plan.panels_len::<Token>(p) <= panels.len() =>
                {
                    winograd(p, Stored::Panels(panels), input, out, &plan);
                }
                (ConvIn::I8(_), None)
                    if generic::conv::fits(p, &input)
                        && (1..=panels.len()).contains(&generic::conv::panels_len::<Token>(p)) =>
                {
                    conv_by::<FRONT_PANEL>(p, Stored::Panels(panels), input, out);
                }
                // Nothing was prepared for such a layer.
                (input, _) => ops::conv(p, input, out),
            }
        }

        fn conv_by<const PANEL: usize>(p: &Conv<'_>, weights: Stored<'_>, input: ConvIn<'_>, out: ConvOut<'_>) {
            let mut panel = MaybeUninit::uninit();
            // SAFETY: as above. A panel is integers.
            unsafe { conv_in(p, weights, input, out, &mut uncleared::<Panel<PANEL>>(&mut panel).0) }
        }

        fn attention(p: &Attention, qkv: &[i8], scores: &mut [f32], out: &mut [i8]) {
            if generic::attention::fits::<Token>(p, LARGE_PANEL) {
                let mut panel = MaybeUninit::uninit();
                // SAFETY: the table is handed out only where the CPU has the features. A panel is integers.
                unsafe { attention_in(p, qkv, scores, out, &mut uncleared::<Panel<LARGE_PANEL>>(&mut panel).0) }
            } else {
                ops::attention(p, qkv, scores, out);
            }
        }

        backend!(@function $features conv_in = generic::conv::conv,
            (p: &Conv<'_>, weights: Stored<'_>, input: ConvIn<'_>, out: ConvOut<'_>, panel: &mut [i32]));
        backend!(@function $features prepare_panels = generic::conv::prepare,
            (p: &Conv<'_>, order: Order, panels: &mut [i32]));
        backend!(@function $features winograd_in = generic::winograd::conv,
            (p: &Conv<'_>, weights: Stored<'_>, input: &[i8], out: ConvOut<'_>, plan: &Winograd, work: &mut Work));
        backend!(@function $features prepare_in = generic::winograd::prepare,
            (p: &Conv<'_>, order: Order, plan: &Winograd, work: &mut Work, panels: &mut [i32]));
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

/// `apart!(target features, tile, pack, token, its generics)`: [`tile`](super::tile::tile) and
/// [`Products::pack`](super::Products::pack) as functions, for [`Simd::tile`](super::Simd::tile) and
/// [`Simd::pack`](super::Simd::pack). Several algorithms call them, and they are most of the code.
#[cfg(target_arch = "x86_64")]
macro_rules! apart {
    ($features:literal, $tile:ident, $pack:ident, $token:ty $(, $($generics:tt)+)?) => {
        /// # Safety
        ///
        /// The CPU has the features.
        #[target_feature(enable = $features)]
        #[inline(never)]
        unsafe fn $tile<$($($generics)+,)? P: Products<$token>, const NV: usize>(
            s: $token,
            cells: usize,
            taps: &Taps<'_>,
            panel: TilePanel<'_>,
            start: Option<&[i32]>,
            sums: &mut Sums,
        ) {
            crate::arch::generic::tile::tile::<$token, P, NV>(s, cells, taps, panel, start, sums);
        }

        /// # Safety
        ///
        /// The CPU has the features.
        #[target_feature(enable = $features)]
        #[inline(never)]
        unsafe fn $pack<$($($generics)+,)? P: Products<$token>, const NV: usize>(
            s: $token,
            rows: Rows<'_>,
            panel: &mut [i32],
        ) {
            P::pack::<NV>(s, rows, panel);
        }
    };
}

/// `methods!(name)`, after [`backend!`]: the backend once for each method of Winograd's algorithm, which takes all layers
/// that it can.
#[cfg(test)]
macro_rules! methods {
    ($name:literal) => {
        pub(in crate::arch) fn methods() -> impl Iterator<Item = Backend> {
            use crate::arch::generic::winograd::Method;
            macro_rules! table {
                ($method:ident, $prepared:literal) => {{
                    fn by(p: &Conv<'_>, order: Order, input: ConvIn<'_>, out: ConvOut<'_>) {
                        match (input, Winograd::of::<Token>(Method::$method, p)) {
                            (ConvIn::I8(input), Some(plan)) if generic::conv::fits(p, &ConvIn::I8(input)) => {
                                if $prepared {
                                    let mut panels = vec![0x5a5a_5a5a; plan.panels_len::<Token>(p)];
                                    prepare_by(p, order, &plan, &mut panels);
                                    winograd(p, Stored::Panels(&panels), input, out, &plan)
                                } else {
                                    winograd(p, Stored::Image(order), input, out, &plan)
                                }
                            }
                            (input, _) if order == Order::Blocks => conv_blocks(p, input, out, &mut []),
                            (input, _) => conv(p, input, out, &mut []),
                        }
                    }
                    static KERNELS: Kernels = Kernels {
                        name: concat!($name, ", Winograd ", stringify!($method), ", prepared: ", $prepared),
                        conv: |p, input, out, _| by(p, Order::Rows, input, out),
                        conv_blocks: |p, input, out, _| by(p, Order::Blocks, input, out),
                        ..TABLE
                    };
                    Backend { kernels: &KERNELS }
                }};
            }
            let all = [
                table!(Two, false),
                table!(FourTwo, false),
                table!(Four, false),
                table!(Two, true),
                table!(FourTwo, true),
                table!(Four, true),
            ];
            all.into_iter().filter(|_| backend().is_some())
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub(in crate::arch) use apart;
pub(in crate::arch) use backend;
#[cfg(test)]
pub(in crate::arch) use methods;
