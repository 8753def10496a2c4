//! Same-padded stride-1 convolution of one picture: shapes, packed weights and the engines behind one face.

use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(target_arch = "x86_64")]
use super::fma::{self, Vectors};
use super::portable;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::{amx, avx512, bf16};

/// A convolution of `h` x `w` positions, `cin` to `cout` channels, `kernel` 1 or 3, stride 1, padding `kernel / 2`.
///
/// Pictures are [h, w, channels], weights [cout, kernel, kernel, cin].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub h: usize,
    pub w: usize,
    pub cin: usize,
    pub cout: usize,
    pub kernel: usize,
}

/// What computes the matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// f32 through `matrixmultiply`; every CPU.
    Portable,
    /// f32 with AVX2 and fused multiply-add.
    Avx2,
    /// f32 with AVX-512 and fused multiply-add.
    Avx512F32,
    /// bf16 operands, f32 accumulators, AVX-512 dot products.
    Avx512,
    /// bf16 operands, f32 accumulators, AMX tiles.
    Amx,
}

/// The user's choice of matrix arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the CPU multiplies it, else f32
    Auto,
    /// f32 on every CPU
    F32,
    /// bf16 matrix operands (needs AVX-512 BF16 or AMX)
    Bf16,
}

/// What was selected: 1 + its place in [`Engine::ALL`], 0 for nothing yet.
static CURRENT: AtomicU8 = AtomicU8::new(0);

impl Engine {
    /// Slowest first.
    const ALL: [Engine; 5] = [Engine::Portable, Engine::Avx2, Engine::Avx512F32, Engine::Avx512, Engine::Amx];

    /// The engines that this CPU has, slowest first.
    pub fn available() -> Vec<Engine> {
        Engine::ALL.into_iter().filter(|e| e.runs_here()).collect()
    }

    /// The fastest one of those that the user's choice allows.
    fn fastest(precision: Precision) -> Engine {
        let allowed = |e: &Engine| e.runs_here() && !(precision == Precision::F32 && e.is_bf16());
        Engine::ALL.into_iter().rfind(allowed).unwrap_or(Engine::Portable)
    }

    /// Sets the engine of the process. Fails when bf16 is asked for on a CPU that has no products of it.
    pub fn select(precision: Precision) -> anyhow::Result<Engine> {
        let engine = Engine::fastest(precision);
        if precision == Precision::Bf16 && !engine.is_bf16() {
            anyhow::bail!("--precision bf16 needs a CPU with AVX-512 BF16 (avx512_bf16) or AMX; use --precision f32");
        }
        CURRENT.store(1 + engine as u8, Ordering::Relaxed);
        Ok(engine)
    }

    /// The engine of the process; the fastest one when none was selected.
    pub fn current() -> Engine {
        match CURRENT.load(Ordering::Relaxed) {
            0 => Engine::fastest(Precision::Auto),
            n => Engine::ALL[usize::from(n) - 1],
        }
    }

    /// Name for logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Portable => "f32",
            Engine::Avx2 => "f32 (AVX2)",
            Engine::Avx512F32 => "f32 (AVX-512)",
            Engine::Avx512 => "bf16 (AVX-512)",
            Engine::Amx => "bf16 (AMX)",
        }
    }

    /// Whether matrix operands are rounded to bf16.
    pub fn is_bf16(self) -> bool {
        matches!(self, Engine::Avx512 | Engine::Amx)
    }

    fn runs_here(self) -> bool {
        match self {
            Engine::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2 => fma::Avx2::available(),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512F32 => fma::Avx512::available(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Avx512 => bf16::available(),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Amx => amx::available(),
            #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
            _ => false,
        }
    }
}

/// Weights packed for an engine.
pub enum Weights {
    Portable(Vec<f32>),
    #[cfg(target_arch = "x86_64")]
    Avx2(fma::Packed),
    #[cfg(target_arch = "x86_64")]
    Avx512F32(fma::Packed),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Avx512(avx512::Packed),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(amx::Packed),
}

/// Sums weight gradients over pictures, in the engine's own layout.
pub enum WeightGradient {
    Portable(Vec<f32>),
    #[cfg(target_arch = "x86_64")]
    Avx2(fma::Gradient),
    #[cfg(target_arch = "x86_64")]
    Avx512F32(fma::Gradient),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Avx512(avx512::Gradient),
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(amx::Gradient),
}

/// Working memory of a thread.
#[derive(Default)]
pub struct Scratch {
    columns: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    fma: fma::Buffers,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    avx512: avx512::Buffers,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    amx: amx::Buffers,
}

impl ConvShape {
    /// Values in the input picture.
    pub fn input_len(&self) -> usize {
        self.h * self.w * self.cin
    }
    /// Values in the output picture.
    pub fn output_len(&self) -> usize {
        self.h * self.w * self.cout
    }
    /// Inputs of one output channel.
    pub fn taps_len(&self) -> usize {
        self.kernel * self.kernel * self.cin
    }
    /// Values in the weights.
    pub fn weights_len(&self) -> usize {
        self.cout * self.taps_len()
    }

    /// The convolution that carries an output gradient back to the input.
    pub fn transposed(&self) -> ConvShape {
        ConvShape { cin: self.cout, cout: self.cin, ..*self }
    }

    /// Packs weights [cout, kernel, kernel, cin] for `engine`.
    pub fn pack(&self, engine: Engine, weights: &[f32]) -> Weights {
        assert_eq!(weights.len(), self.weights_len());
        match engine {
            Engine::Portable => Weights::Portable(weights.to_vec()),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2 => Weights::Avx2(fma::pack::<fma::Avx2>(self, weights)),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512F32 => Weights::Avx512F32(fma::pack::<fma::Avx512>(self, weights)),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Avx512 => Weights::Avx512(avx512::pack(self, weights)),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Amx => Weights::Amx(amx::pack(self, weights)),
            #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
            _ => unreachable!("no such engine here"),
        }
    }

    /// Packs weights [cout, kernel, kernel, cin] of this convolution for [`ConvShape::transposed`]: taps mirrored,
    /// channels exchanged.
    pub fn pack_transposed(&self, engine: Engine, weights: &[f32]) -> Weights {
        assert_eq!(weights.len(), self.weights_len());
        match engine {
            Engine::Portable => Weights::Portable(portable::transpose(self, weights)),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2 => Weights::Avx2(fma::pack_transposed::<fma::Avx2>(self, weights)),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512F32 => Weights::Avx512F32(fma::pack_transposed::<fma::Avx512>(self, weights)),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Avx512 => Weights::Avx512(avx512::pack_transposed(self, weights)),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Amx => Weights::Amx(amx::pack_transposed(self, weights)),
            #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
            _ => unreachable!("no such engine here"),
        }
    }

    /// `y += conv(x)`: start `y` with the bias, the residual or zero.
    pub fn forward(&self, weights: &Weights, x: &[f32], y: &mut [f32], s: &mut Scratch) {
        assert_eq!((x.len(), y.len()), (self.input_len(), self.output_len()));
        match weights {
            Weights::Portable(w) => portable::forward(self, w, x, y, &mut s.columns),
            #[cfg(target_arch = "x86_64")]
            Weights::Avx2(w) => fma::forward::<fma::Avx2>(self, w, x, y, &mut s.fma),
            #[cfg(target_arch = "x86_64")]
            Weights::Avx512F32(w) => fma::forward::<fma::Avx512>(self, w, x, y, &mut s.fma),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Weights::Avx512(w) => avx512::forward(self, w, x, y, &mut s.avx512),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Weights::Amx(w) => amx::forward(self, w, x, y, &mut s.amx),
        }
    }

    /// An empty sum of weight gradients.
    pub fn gradient(&self, engine: Engine) -> WeightGradient {
        match engine {
            Engine::Portable => WeightGradient::Portable(vec![0.0; self.weights_len()]),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2 => WeightGradient::Avx2(fma::Gradient::new::<fma::Avx2>(self)),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx512F32 => WeightGradient::Avx512F32(fma::Gradient::new::<fma::Avx512>(self)),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Avx512 => WeightGradient::Avx512(avx512::Gradient::new(self)),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Engine::Amx => WeightGradient::Amx(amx::Gradient::new(self)),
            #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
            _ => unreachable!("no such engine here"),
        }
    }

    /// Adds one picture's weight gradient, from its input `x` and output gradient `g`.
    pub fn add_gradient(&self, x: &[f32], g: &[f32], sum: &mut WeightGradient, s: &mut Scratch) {
        assert_eq!((x.len(), g.len()), (self.input_len(), self.output_len()));
        match sum {
            WeightGradient::Portable(dw) => portable::add_gradient(self, x, g, dw, &mut s.columns),
            #[cfg(target_arch = "x86_64")]
            WeightGradient::Avx2(dw) => fma::add_gradient::<fma::Avx2>(self, x, g, dw, &mut s.fma),
            #[cfg(target_arch = "x86_64")]
            WeightGradient::Avx512F32(dw) => fma::add_gradient::<fma::Avx512>(self, x, g, dw, &mut s.fma),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            WeightGradient::Avx512(dw) => avx512::add_gradient(self, x, g, dw, &mut s.avx512),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            WeightGradient::Amx(dw) => dw.add(self, x, g, &mut s.amx),
        }
    }

    /// Adds a sum to `dw` [cout, kernel, kernel, cin].
    pub fn finish_gradient(&self, sum: &mut WeightGradient, dw: &mut [f32]) {
        match sum {
            WeightGradient::Portable(sum) => dw.iter_mut().zip(sum.iter()).for_each(|(d, s)| *d += s),
            #[cfg(target_arch = "x86_64")]
            WeightGradient::Avx2(sum) => sum.finish::<fma::Avx2>(self, dw),
            #[cfg(target_arch = "x86_64")]
            WeightGradient::Avx512F32(sum) => sum.finish::<fma::Avx512>(self, dw),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            WeightGradient::Avx512(sum) => sum.finish(self, dw),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            WeightGradient::Amx(sum) => sum.finish(self, dw),
        }
    }
}
