//! Runs one operation of an image: its record, its parameters and its views of the arena become the arguments of
//! the kernel.
//!
//! The functions return `None` where a record is missing or does not fit, which a parsed model excludes.

use crate::ENLARGES;
use crate::arch::Kernels;
use crate::arena::{typed, views, views_and_scratch};
use crate::format::limits::MAX_EMBED;
use crate::format::{Element, Image, Layout, OpRepr, op::NONE};
use crate::ops::embed::{Dense, GUIDANCE_FEATURES};
use crate::ops::{Attention, Conv, ConvIn, ConvOut, Embed, NormAct, NormOut, Pool, Upsample};
use crate::part::part;

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
        embed(image, kernels, step, first, w, arena)
    } else if width <= SMALL_EMBED {
        let mut mixed = [0.0; SMALL_EMBED];
        embed(image, kernels, step, mix(first, second, class.share, mixed.get_mut(..width)?), w, arena)
    } else {
        let mut mixed = [0.0; MAX_EMBED as usize];
        embed(image, kernels, step, mix(first, second, class.share, mixed.get_mut(..width)?), w, arena)
    }
}

/// Embeddings up to this width are mixed in a kilobyte of stack.
const SMALL_EMBED: usize = 256;

/// out = (1 - share) * first + share * second.
fn mix<'o>(first: &[f32], second: &[f32], share: f32, out: &'o mut [f32]) -> &'o [f32] {
    for ((out, &first), &second) in out.iter_mut().zip(first).zip(second) {
        *out = (1.0 - share) * first + share * second;
    }
    out
}

/// As [`execute_embed`], with the class's row.
fn embed(image: &Image<'_>, kernels: &Kernels, step: usize, class: &[f32], w: f32, arena: &mut [u8]) -> Option<()> {
    let (roles, tensors) = (image.info().roles, image.info().embedding);
    let (first, second, film) =
        (image.buffer(roles.first).ok()?, image.buffer(roles.second).ok()?, image.buffer(roles.film).ok()?);
    let [first, second, film] = views(arena, [&first, &second, &film])?;
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
    match op {
        OpRepr::Quantize { src: index, .. } => {
            let [input, out] = views(arena, [&src, &dst])?;
            let out = typed::<i16>(out);
            // Of the state, the window's rows; any other source is as large as the destination.
            let from = if ENLARGES && index == image.info().roles.z { window * usize::from(src.channels) } else { 0 };
            (kernels.quantize)(p.a, part(typed(input), from, out.len()), out);
        }
        OpRepr::Conv { kernel, residual, weights, scale, bias, .. } => {
            let ([input, out], scratch) = views_and_scratch(arena, [&src, &dst], image.info().scratch())?;
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
            match image.tensor(weights).ok()?.layout {
                Layout::Canonical | Layout::Int4 => (kernels.conv)(&conv, input, out, scratch),
                Layout::Blocks => (kernels.conv_blocks)(&conv, input, out, scratch),
            }
        }
        OpRepr::NormAct { group, silu, per_cell, film, gamma, beta, .. } => {
            let channels = usize::from(dst.channels);
            let row = image.buffer(image.info().roles.film).ok()?;
            let norm = NormAct {
                cells: height * width,
                channels,
                group: group.into(),
                gamma: image.f32s(gamma),
                beta: image.f32s(beta),
                film: None,
                silu,
                a: p.a,
                b: p.b,
                zp: p.zp,
            };
            let (norm, input, out) = if film == NONE {
                // The film row may have given its bytes to another buffer by now.
                let [input, out] = views(arena, [&src, &dst])?;
                (norm, input, out)
            } else {
                let [input, out, row] = views(arena, [&src, &dst, &row])?;
                let film = typed::<f32>(row).get(usize::from(film)..usize::from(film) + 2 * channels)?;
                (NormAct { film: Some(film), ..norm }, input, out)
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
            let [input, out] = views(arena, [&src, &dst])?;
            let pool = Pool { height: src.height.into(), width: src.width.into(), channels: src.channels.into() };
            (kernels.avg_pool2)(&pool, typed(input), typed(out));
        }
        OpRepr::UpsampleAdd { .. } => {
            let [input, out] = views(arena, [&src, &dst])?;
            let upsample = Upsample { height, width, channels: dst.channels.into(), a: p.a, c: p.c };
            (kernels.upsample_add)(&upsample, typed(input), typed(out));
        }
        OpRepr::Attention { scores, heads, .. } => {
            let scores = image.buffer(scores).ok()?;
            let [input, out, scores] = views(arena, [&src, &dst, &scores])?;
            let attention = Attention {
                tokens: height * width,
                channels: dst.channels.into(),
                heads: heads.into(),
                a: p.a,
                b: p.b,
            };
            (kernels.attention)(&attention, typed(input), typed(scores), typed(out));
        }
    }
    Some(())
}
