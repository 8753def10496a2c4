//! bf16 convolution on AMX tiles, f32 accumulators, without im2col.
//!
//! A picture is kept on a grid that is `wp = w + 2*pad` wide, so that a tap is a constant offset: output position
//! `p = y*wp + x` reads input positions `p + ky*wp + kx`. The columns `x >= w` compute junk that is never read.
//!
//! * forward: A = picture [position][channel], B = weights in channel pairs, C = [position][cout]
//! * weight gradient: A = picture [channel][position], B = output gradient in position pairs, C = [tap][cin][cout]
//!
//! Both run the same 32x32 block: two by two tiles of 16x16 f32, 32 bf16 products deep a step.

use super::bf16::{self, Place, Sizes, load, to_pairs, to_planes};
use super::conv::ConvShape;
use super::lines::{Line, Lines};
use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

const TILE: usize = 16;
/// Rows and columns of a block, and the depth of a step.
const BLOCK: usize = 2 * TILE;

/// Whether CPU and kernel grant AMX bf16 and AVX-512 BF16 to this process.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let leaf = __cpuid_count(7, 0);
        let amx = leaf.edx & (1 << 22) != 0 && leaf.edx & (1 << 24) != 0;
        // Linux grants the 8 KB of tile state on request, once for the whole process.
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_long = 18;
        amx && bf16::available()
            // SAFETY: this call only asks for a permission; it touches no memory.
            && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
    })
}

/// Working memory of a thread.
#[derive(Default)]
pub struct Buffers {
    picture: Lines,
    output: Lines,
    offsets: Vec<usize>,
}

/// Weights [tap][cin/2][cout] as pairs of bf16 (two consecutive input channels), channels padded to 32.
pub struct Packed(Lines);

/// Gradient sums [tap][cin][cout] f32, channels padded to 32, and the operands of pictures that wait to be added: tiles
/// of sums are loaded and stored once for a group of pictures.
pub struct Gradient {
    sums: Lines,
    planes: Lines,
    pairs: Lines,
    waiting: usize,
    offsets: Vec<usize>,
}

/// Positions of a group of pictures: as many as leave its operands for 32 channels in the nearest cache.
const GROUP_POSITIONS: usize = 256;

/// The padded grid of a convolution.
struct Grid {
    pad: usize,
    wp: usize,
    /// Output positions, rounded up to whole blocks.
    positions: usize,
    /// Input positions that taps of those reach, rounded up to whole steps.
    inputs: usize,
    cin: usize,
    cout: usize,
}

impl Grid {
    fn new(s: &ConvShape) -> Grid {
        let pad = s.kernel / 2;
        let wp = s.w + 2 * pad;
        let positions = (s.h * wp).next_multiple_of(BLOCK);
        let inputs = (positions + 2 * pad * wp + 2 * pad).next_multiple_of(BLOCK);
        Grid { pad, wp, positions, inputs, cin: s.cin.next_multiple_of(BLOCK), cout: s.cout.next_multiple_of(BLOCK) }
    }
    fn tap_offset(&self, kernel: usize, tap: usize) -> usize {
        (tap / kernel) * self.wp + tap % kernel
    }
    fn place(&self) -> Place {
        Place { at: self.pad * self.wp + self.pad, row: self.wp, pixels: self.inputs }
    }
    /// Pictures of a group.
    fn group(&self) -> usize {
        (GROUP_POSITIONS / self.positions).max(1)
    }
}

fn sizes(s: &ConvShape) -> Sizes {
    let g = Grid::new(s);
    Sizes { taps: s.kernel * s.kernel, cin: s.cin, cout: s.cout, inputs: g.cin, outputs: g.cout }
}

/// Tile registers configured as eight times 16 rows of 64 bytes; released on drop.
struct Tiles;

impl Tiles {
    fn new() -> Tiles {
        let mut config = Line([0; 64]);
        config.0[0] = 1; // palette
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64; // bytes per row, little endian u16
            config.0[48 + tile] = TILE as u8;
        }
        // SAFETY: kernels run only where `available()` granted AMX; the configuration is a valid palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
        Tiles
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: AMX is granted (see `new`); nothing reads tiles afterwards.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// Where a 32x32 block finds its operands; strides and steps in bytes.
struct Block {
    a: *const u8,
    a_stride: usize,
    b: *const u8,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
}

/// Defines a function that computes `c = start + sum over steps of a[steps[i]..] * b[i*16 rows..]`, 32 x 32 results, 32
/// products a step, with what `$start` leaves in the four tiles of sums.
macro_rules! block {
    ($(#[$meta:meta])* $name:ident: $($start:literal),*) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// AMX is configured by [`Tiles`]; every row of 64 bytes named by `a + steps[i] + r*a_stride` (r < 32),
        /// `b + (16*i + r)*b_stride + {0, 64}` (r < 16) and `c + r*c_stride + {0, 64}` (r < 32) lies inside its buffer.
        #[inline(always)]
        unsafe fn $name(t: &Block, steps: &[usize]) {
            // SAFETY: the caller vouches for every row (see above); tile registers are declared as clobbered.
            unsafe {
                asm!(
                    $($start,)*
                    "2:",
                    "mov {p}, [{steps}]",
                    "add {p}, {a}",
                    "tileloadd tmm4, [{p} + {sa}]",
                    "add {p}, {a1}",
                    "tileloadd tmm6, [{b} + {sb}]",
                    "tileloadd tmm5, [{p} + {sa}]",
                    "tileloadd tmm7, [{b} + {sb} + 64]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "mov {p}, {sb}",
                    "shl {p}, 4",
                    "add {b}, {p}",
                    "add {steps}, 8",
                    "dec {n}",
                    "jnz 2b",
                    "tilestored [{c} + {cs}], tmm0",
                    "tilestored [{c} + {cs} + 64], tmm1",
                    "tilestored [{c1} + {cs}], tmm2",
                    "tilestored [{c1} + {cs} + 64], tmm3",
                    p = out(reg) _,
                    steps = inout(reg) steps.as_ptr() => _,
                    n = inout(reg) steps.len() => _,
                    a = in(reg) t.a, sa = in(reg) t.a_stride, a1 = in(reg) TILE * t.a_stride,
                    b = inout(reg) t.b => _, sb = in(reg) t.b_stride,
                    c = in(reg) t.c, cs = in(reg) t.c_stride, c1 = in(reg) t.c.byte_add(TILE * t.c_stride),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack)
                );
            }
        }
    };
}

block! {
    /// Overwrites C.
    block_product: "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"
}

block! {
    /// Adds to C.
    add_block_product:
    "tileloadd tmm0, [{c} + {cs}]",
    "tileloadd tmm1, [{c} + {cs} + 64]",
    "tileloadd tmm2, [{c1} + {cs}]",
    "tileloadd tmm3, [{c1} + {cs} + 64]"
}

/// Packs weights [cout, kernel, kernel, cin].
pub fn pack(s: &ConvShape, weights: &[f32]) -> Packed {
    // SAFETY: packing for AMX happens only where `available()` found these features.
    Packed(unsafe { bf16::pack(&sizes(s), weights) })
}

/// Packs weights of `s` for [`ConvShape::transposed`].
pub fn pack_transposed(s: &ConvShape, weights: &[f32]) -> Packed {
    // SAFETY: as for `pack`.
    Packed(unsafe { bf16::pack_transposed(&sizes(s), weights) })
}

/// Adds the grid's positions [.., cout] that are in the picture to `y`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn add_output(s: &ConvShape, g: &Grid, out: &[f32], y: &mut [f32]) {
    let add = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
    for (to, from) in y.chunks_exact_mut(s.w * s.cout).zip(out.chunks(g.wp * g.cout)) {
        if s.cout == g.cout {
            add(to, from);
        } else {
            to.chunks_exact_mut(s.cout).zip(from.chunks_exact(g.cout)).for_each(|(to, from)| add(to, from));
        }
    }
}

/// `y += conv(x)`.
pub fn forward(s: &ConvShape, weights: &Packed, x: &[f32], y: &mut [f32], m: &mut Buffers) {
    let g = Grid::new(s);
    // SAFETY: `Weights::Amx` exists only where `available()` found these features.
    unsafe { load(x, s.w, s.cin, g.cin, &g.place(), &mut m.picture) };
    m.offsets.clear();
    for tap in 0..s.kernel * s.kernel {
        for k in (0..g.cin).step_by(BLOCK) {
            m.offsets.push((g.tap_offset(s.kernel, tap) * g.cin + k) * 2);
        }
    }
    let out = m.output.sized::<f32>(g.positions * g.cout);
    let (a, b): (&[u16], &[u16]) = (m.picture.get(), weights.0.get());
    let tiles = Tiles::new();
    // Outputs are the outer loop: so many weights stay in the nearest cache while the picture passes over them.
    for o in (0..g.cout).step_by(BLOCK) {
        for p in (0..g.positions).step_by(BLOCK) {
            // SAFETY: rows p .. p+32 plus the largest tap offset stay below `inputs` (see `Grid`); weights hold
            // offsets.len() * 16 rows of `cout` pairs; the output holds `positions` rows of `cout` values.
            unsafe {
                let t = Block {
                    a: a.as_ptr().add(p * g.cin).cast(),
                    a_stride: g.cin * 2,
                    b: b.as_ptr().add(o * 2).cast(),
                    b_stride: g.cout * 4,
                    c: out.as_mut_ptr().add(p * g.cout + o),
                    c_stride: g.cout * 4,
                };
                block_product(&t, &m.offsets);
            }
        }
    }
    drop(tiles);
    // SAFETY: as for `load`.
    unsafe { add_output(s, &g, out, y) };
}

impl Gradient {
    /// Zero sums for `s`.
    pub fn new(s: &ConvShape) -> Gradient {
        let g = Grid::new(s);
        let [mut sums, mut planes, mut pairs] = [const { Lines(Vec::new()) }; 3];
        sums.zeroed::<f32>(s.kernel * s.kernel * g.cin * g.cout);
        planes.sized::<u16>(g.group() * g.cin * g.inputs);
        pairs.sized::<u16>(g.group() * g.positions * g.cout);
        Gradient { sums, planes, pairs, waiting: 0, offsets: Vec::new() }
    }

    /// Adds one picture's weight gradient.
    pub fn add(&mut self, s: &ConvShape, x: &[f32], gradient: &[f32], m: &mut Buffers) {
        let g = Grid::new(s);
        let planes = &mut self.planes.get_mut()[self.waiting * g.cin * g.inputs / 2..];
        let pairs = &mut self.pairs.get_mut()[self.waiting * g.positions / 2 * g.cout..];
        // SAFETY: `WeightGradient::Amx` exists only where `available()` found these features.
        unsafe {
            load(gradient, s.w, s.cout, g.cout, &g.place(), &mut m.picture);
            let grid = &m.picture.get::<u16>()[g.place().at * g.cout..][..g.positions * g.cout];
            to_pairs(grid, g.cout, pairs);
            load(x, s.w, s.cin, g.cin, &g.place(), &mut m.picture);
            to_planes(&m.picture.get::<u16>()[..g.inputs * g.cin], g.inputs, g.cin, planes);
        }
        self.waiting += 1;
        if self.waiting == g.group() {
            self.add_waiting(s);
        }
    }

    /// Adds the pictures that wait.
    fn add_waiting(&mut self, s: &ConvShape) {
        let g = Grid::new(s);
        self.offsets.clear();
        for picture in 0..self.waiting {
            let planes = picture * g.cin * g.inputs;
            self.offsets.extend((0..g.positions).step_by(BLOCK).map(|p| (planes + p) * 2));
        }
        if self.offsets.is_empty() {
            return;
        }
        self.waiting = 0;
        let (a, b): (&[u16], &[u32]) = (self.planes.get(), self.pairs.get());
        let c: &mut [f32] = self.sums.get_mut();
        let _tiles = Tiles::new();
        for i in (0..g.cin).step_by(BLOCK) {
            for o in (0..g.cout).step_by(BLOCK) {
                for tap in 0..s.kernel * s.kernel {
                    // SAFETY: a plane holds `inputs` positions, and positions plus the largest tap offset stay below
                    // it; for every picture that waited there are `cin` planes and positions / 2 rows of `cout`
                    // pairs; the sums hold [tap][cin][cout].
                    unsafe {
                        let t = Block {
                            a: a.as_ptr().add(i * g.inputs + g.tap_offset(s.kernel, tap)).cast(),
                            a_stride: g.inputs * 2,
                            b: b.as_ptr().add(o).cast(),
                            b_stride: g.cout * 4,
                            c: c.as_mut_ptr().add((tap * g.cin + i) * g.cout + o),
                            c_stride: g.cout * 4,
                        };
                        add_block_product(&t, &self.offsets);
                    }
                }
            }
        }
    }

    /// Adds the sums to `dw` [cout, kernel, kernel, cin].
    pub fn finish(&mut self, s: &ConvShape, dw: &mut [f32]) {
        self.add_waiting(s);
        // SAFETY: as for `add`.
        unsafe { bf16::add_transposed(&sizes(s), self.sums.get(), dw) };
    }
}
