//! The work: request, image, session, steps, picture.

use fewstep_core::{Inpaint, Model, Morph, Progress, Request, RequestError, Sampler, Session};
use fewstep_wire::{Kind, Status, Step, Task, Usage};

use crate::{board, console, cpu, flash};

/// Draws what the request in flash asks for.
pub fn draw(arena: &mut [u8], picture: &mut [u8]) -> Status {
    #[cfg(feature = "layer")]
    if let Some(layer) = fewstep_wire::LayerRequest::parse(flash::request()) {
        return crate::layer::run(&layer, arena);
    }
    #[cfg(feature = "scenario")]
    if let Some(script) = fewstep_wire::Script::parse(flash::script()) {
        return crate::scenario::run(&script, arena, picture);
    }
    let request = match fewstep_wire::Request::parse(flash::request()) {
        Ok(request) => request,
        Err(error) => {
            defmt::error!("{=str}", error.reason());
            return Status::BadRequest;
        }
    };
    #[cfg(feature = "drills")]
    crate::drill::run(request.class, arena);
    draw_request(&request, flash::image(), arena, picture, &mut || ())
}

/// Draws what `request` asks for with `image`; `between` is called before each operation.
pub fn draw_request(
    request: &fewstep_wire::Request,
    image: &[u8],
    arena: &mut [u8],
    picture: &mut [u8],
    between: &mut dyn FnMut(),
) -> Status {
    let (task, attached) = (request.task, request.attached);
    let request = Request {
        seed: request.seed,
        class: request.class,
        w: request.w,
        steps: request.steps,
        sampler: match request.sampler {
            fewstep_wire::Sampler::Deterministic => Sampler::Deterministic,
            fewstep_wire::Sampler::Stochastic => Sampler::Stochastic,
        },
    };
    defmt::info!("{=str}: seed {=u64}, class {=u16}, w {=f32}", board::NAME, request.seed, request.class, request.w);

    let model = match Model::parse(image) {
        Ok(model) => model,
        Err(error) => {
            defmt::error!("student image: {}", error);
            return Status::BadImage;
        }
    };
    let arena_budget = arena.len() as u32;
    let info = model.info();
    let Some(picture) = picture.get_mut(..model.output_bytes()) else {
        defmt::error!("picture of {=usize} bytes", model.output_bytes());
        return Status::PictureTooLarge;
    };
    let Some(attached) = flash::attached(&attached) else {
        defmt::error!("the request's picture is damaged");
        return Status::BadRequest;
    };
    // The noise that an encoder finds lies at the arena's end, where no session goes.
    let (arena, noise) = match task {
        Task::Restyle { .. } => arena.split_at_mut(arena.len().saturating_sub(4 * model.output_bytes()) & !15),
        _ => arena.split_at_mut(arena.len()),
    };
    let noise: &mut [f32] = bytemuck::try_cast_slice_mut(noise).unwrap_or_default();
    let noise = noise.get_mut(..model.output_bytes()).unwrap_or_default();
    let mut arena_bytes = info.arena_bytes;
    if let Task::Restyle { class, w } = task {
        let from = Request { class, w, steps: 0, ..request };
        let behind = image.get((info.file_bytes as usize).next_multiple_of(16)..).unwrap_or_default();
        match encode(&from, behind, arena, attached, noise) {
            Ok(bytes) => arena_bytes = arena_bytes.max(bytes) + 4 * noise.len() as u32,
            Err(status) => return status,
        }
    }
    let mut session = match Session::new(&model, arena) {
        Ok(session) => session,
        Err(error) => {
            defmt::error!("arena: {}", error);
            return Status::ArenaTooSmall;
        }
    };
    let (height, width, channels) = model.output_shape();
    let found = fewstep_wire::Model {
        height: height as u16,
        width: width as u16,
        channels: channels as u16,
        ops: model.op_count() as u16,
        arena_bytes,
        arena_budget,
        image_bytes: info.file_bytes,
        macs_per_step: info.macs_per_step,
        backend: session.backend().name(),
    };
    console::send(Kind::Model, &[&found.emit(), found.backend.as_bytes()]);

    if let Err(error) = begin(&mut session, &request, task, attached, noise) {
        defmt::error!("request: {}", error);
        return Status::RequestRefused;
    }
    // A picture that another one starts has its first steps behind it.
    let start = match task {
        Task::Edit { start_step } | Task::Inpaint { start_step, .. } => start_step,
        Task::Sample | Task::Morph { .. } | Task::Restyle { .. } | Task::Enlarge => 0,
    };
    let mut current = start;
    let mut all = 0;
    loop {
        between();
        let progress = cpu::counted(|| session.step_op());
        let done = match progress {
            Progress::Running { step, steps } => {
                all = steps;
                step
            }
            Progress::Done => all,
        };
        if done != current {
            current = done;
            cpu::mark_step();
            console::send(Kind::Step, &[&Step { done: done - start, steps: all - start }.emit()]);
        }
        if progress == Progress::Done {
            break;
        }
    }
    if let Err(error) = session.finish(picture) {
        defmt::error!("picture: {}", error);
        return Status::RequestRefused;
    }
    console::send(Kind::Picture, &[picture]);
    let (stack_used, stack_bytes) = crate::fault::stack_usage();
    console::send(Kind::Usage, &[&Usage { stack_used, stack_bytes }.emit()]);
    defmt::info!("{=usize} bytes of picture, {=u32} of {=u32} bytes of stack", picture.len(), stack_used, stack_bytes);
    Status::Done
}

/// The noise of `picture` by an encoder image; returns the bytes of its arena.
fn encode(
    request: &Request,
    encoder: &[u8],
    arena: &mut [u8],
    picture: &[u8],
    noise: &mut [f32],
) -> Result<u32, Status> {
    let model = Model::parse(encoder).map_err(|error| {
        defmt::error!("encoder image: {}", error);
        Status::BadImage
    })?;
    let mut session = Session::new(&model, arena).map_err(|error| {
        defmt::error!("arena: {}", error);
        Status::ArenaTooSmall
    })?;
    session.encode(request, picture, noise).map_err(|error| {
        defmt::error!("request: {}", error);
        Status::RequestRefused
    })?;
    Ok(model.info().arena_bytes)
}

/// Starts the session on a task; `attached` is its picture, then its mask; `noise` is what an encoder found.
fn begin<'a>(
    session: &mut Session<'a>,
    request: &Request,
    task: Task,
    attached: &'a [u8],
    noise: &[f32],
) -> Result<(), RequestError> {
    match task {
        Task::Sample => session.begin(request),
        Task::Edit { start_step } => session.begin_from(request, attached, start_step),
        Task::Inpaint { start_step, passes } => {
            let (picture, mask) = attached.split_at(attached.len().min(session.model().output_bytes()));
            session.begin_inpaint(request, Inpaint { picture, mask, start_step, passes })
        }
        Task::Enlarge => session.begin_enlarge(request, attached),
        Task::Morph { seed, class, at } => session.begin_morph(request, &Morph { seed, class, at }),
        Task::Restyle { .. } => session.begin_noise(request, noise),
    }
}
