//! Runs one operation of an image: its record, its parameters and its views of the arena become the arguments of
//! the kernel.
//!
//! The functions return `None` where a record is missing or does not fit, which a parsed model excludes.

use crate::ENLARGES;
use crate::arch::Kernels;
use crate::arena::{typed, views};
use crate::format::limits::MAX_EMBED;
use crate::format::{Element, Image, Layout, OpRepr, op::NONE};
use crate::ops::embed::{Dense, GUIDANCE_FEATURES};
use crate::ops::{Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample};
use crate::part::part;
use crate::prepared::Panels;

/// A class, or a mixture of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Class {
    pub(crate) first: u16,
    pub(crate) second: u16,
    /// Share of the second, 0 to 1.
    pub(crate) share: f32,
}

/// The embedding of step `step`, `class` and `w`.
pub(crate) fn execute_embed(
    image: &Image<'_>,
    kernels: &Kernels,
    step: usize,
    class: Class,
    w: f32,
    arena: &mut [u8],
) -> Option<()> {
    let width = usize::from(image.info().embed);
    let row = |class: u16| image.f32s(image.info().embedding.class).chunks_exact(width.max(1)).nth(class.into());
    let (first, second) = (row(class.first)?, row(class.second)?);
    if class.share == 0.0 || class.first == class.second {
        return embed(image, kernels, step, first, w, arena);
    }
    let mix = Mix { first, second, share: class.share };
    match width {
        ..=SMALL_EMBED => embed_mixed::<SMALL_EMBED>(image, kernels, step, &mix, w, arena),
        _ => embed_mixed::<{ MAX_EMBED as usize }>(image, kernels, step, &mix, w, arena),
    }
}

/// Embeddings up to this width are mixed in a kilobyte of stack, others in four.
const SMALL_EMBED: usize = 256;

/// (1 - share) * first + share * second.
struct Mix<'a> {
    first: &'a [f32],
    second: &'a [f32],
    share: f32,
}

/// The embedding of a mixture of at most `N` numbers. A function of its own: nothing else has these numbers on its stack.
#[inline(never)]
fn embed_mixed<const N: usize>(
    image: &Image<'_>,
    kernels: &Kernels,
    step: usize,
    mix: &Mix<'_>,
    w: f32,
    arena: &mut [u8],
) -> Option<()> {
    let mut mixed = [0.0; N];
    let mixed = mixed.get_mut(..mix.first.len())?;
    for ((mixed, &first), &second) in mixed.iter_mut().zip(mix.first).zip(mix.second) {
        *mixed = (1.0 - mix.share) * first + mix.share * second;
    }
    embed(image, kernels, step, mixed, w, arena)
}

/// As [`execute_embed`], with the class's row.
#[inline(never)]
fn embed(image: &Image<'_>, kernels: &Kernels, step: usize, class: &[f32], w: f32, arena: &mut [u8]) -> Option<()> {
    let (roles, tensors) = (image.info().roles, image.info().embedding);
    let (first, second, film) =
        (image.buffer(roles.first).ok()?, image.buffer(roles.second).ok()?, image.buffer(roles.film).ok()?);
    let [first, second, film] = views(arena, [first.range(), second.range(), film.range()])?;
    let guidance = image.f32s(tensors.guidance);
    debug_assert_eq!(guidance.len(), GUIDANCE_FEATURES * usize::from(image.info().embed));
    let parameters = Embed {
        time: image.time(step),
        class,
        guidance,
        hidden: Dense {
            weights: image.weights(tensors.hidden_weights),
            scale: image.f32s(tensors.hidden_scale),
            bias: image.f32s(tensors.hidden_bias),
        },
        film: Dense {
            weights: image.weights(tensors.film_weights),
            scale: image.f32s(tensors.film_scale),
            bias: image.f32s(tensors.film_bias),
        },
        w,
    };
    (kernels.embed)(&parameters, typed(first), typed(second), typed(film));
    Some(())
}

/// Operation `index` with the parameters of step `step`, on the window of the state that begins at cell `window`.
pub(crate) fn execute(
    image: &Image<'_>,
    kernels: &Kernels,
    panels: Panels<'_>,
    step: usize,
    index: usize,
    window: usize,
    arena: &mut [u8],
) -> Option<()> {
    let op = image.op(index).ok()?;
    let p = image.params(step, index);
    let (src, dst) = op.buffers();
    let (src, dst) = (image.buffer(src).ok()?, image.buffer(dst).ok()?);
    let (height, width) = (usize::from(dst.height), usize::from(dst.width));
    let third = match op {
        OpRepr::Conv { .. } => image.info().scratch(),
        // Not where none is used: the film row may have given its bytes to another buffer by now.
        OpRepr::NormAct { film, .. } if film != NONE => image.buffer(image.info().roles.film).ok()?.range(),
        OpRepr::Attention { scores, .. } => image.buffer(scores).ok()?.range(),
        _ => 0..0,
    };
    let [input, out, third] = views(arena, [src.range(), dst.range(), third])?;
    match op {
        OpRepr::Quantize { src: index, .. } => {
            let out = typed::<i16>(out);
            // Of the state, the window's rows; any other source is as large as the destination.
            let from = if ENLARGES && index == image.info().roles.z { window * usize::from(src.channels) } else { 0 };
            (kernels.quantize)(p.a, part(typed(input), from, out.len()), out);
        }
        OpRepr::Conv { kernel, residual, weights, scale, bias, .. } => {
            let conv = Conv {
                height,
                width,
                cin: src.channels.into(),
                cout: dst.channels.into(),
                kernel: kernel.into(),
                weights: image.weights(weights),
                scale: image.f32s(scale),
                bias: image.f32s(bias),
                a: p.a,
                b: p.b,
                c: p.c,
                zp: p.zp,
            };
            let input = match src.element {
                Element::I8 => ConvIn::I8(typed(input)),
                _ => ConvIn::I16(typed(input)),
            };
            let out = match dst.element {
                Element::I8 => ConvOut::I8(typed(out)),
                Element::I16 if residual => ConvOut::I16Add(typed(out)),
                Element::I16 => ConvOut::I16(typed(out)),
                Element::F32 => ConvOut::F32(typed(out)),
            };
            #[cfg(target_os = "none")]
            let _ = panels;
            #[cfg(not(target_os = "none"))]
            if let (Some(preparing), panels @ [_, ..]) = (kernels.preparing, panels.of(index)) {
                (preparing.conv)(&conv, panels, input, out);
                return Some(());
            }
            match image.tensor(weights).ok()?.layout {
                Layout::Canonical | Layout::Int4 => (kernels.conv)(&conv, input, out, third),
                Layout::Blocks => (kernels.conv_blocks)(&conv, input, out, third),
            }
        }
        OpRepr::NormAct { group, silu, per_cell, film, gamma, beta, .. } => {
            let channels = usize::from(dst.channels);
            let norm = NormAct {
                cells: height * width,
                channels,
                group: group.into(),
                gamma: image.f32s(gamma),
                beta: image.f32s(beta),
                film: match film {
                    NONE => None,
                    from => Some(typed::<f32>(third).get(usize::from(from)..usize::from(from) + 2 * channels)?),
                },
                silu,
                a: p.a,
                b: p.b,
                zp: p.zp,
            };
            let typed_out = |out| match dst.element {
                Element::I8 => NormOut::I8(typed(out)),
                _ => NormOut::I16(typed(out)),
            };
            let input = typed::<i16>(input);
            if ENLARGES && per_cell {
                let norm = NormAct { cells: 1, ..norm };
                let cell_bytes = channels * dst.element.bytes() as usize;
                for (cell, out) in out.chunks_exact_mut(cell_bytes.max(1)).enumerate() {
                    (kernels.norm_act)(&norm, part(input, cell * channels, channels), typed_out(out));
                }
            } else {
                (kernels.norm_act)(&norm, input, typed_out(out));
            }
        }
        OpRepr::AvgPool2 { .. } => {
            let pool = Pool { height: src.height.into(), width: src.width.into(), channels: src.channels.into() };
            (kernels.avg_pool2)(&pool, typed(input), typed(out));
        }
        OpRepr::UpsampleAdd { .. } => {
            let upsample = Upsample { height, width, channels: dst.channels.into(), a: p.a, c: p.c };
            (kernels.upsample_add)(&upsample, typed(input), typed(out));
        }
        OpRepr::Attention { heads, .. } => {
            let attention = Attention {
                tokens: height * width,
                channels: dst.channels.into(),
                heads: heads.into(),
                a: p.a,
                b: p.b,
            };
            (kernels.attention)(&attention, typed(input), typed(third), typed(out));
        }
    }
    Some(())
}
