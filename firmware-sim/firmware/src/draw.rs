//! The work: request, image, session, steps, picture.

use fewstep_core::{Model, Progress, Request, Sampler, Session};
use fewstep_wire::{Kind, Status, Step, Usage};

use crate::{board, console, cpu, flash};

/// Draws what the request in flash asks for.
pub fn draw(arena: &mut [u8], picture: &mut [u8]) -> Status {
    #[cfg(feature = "layer")]
    if let Some(layer) = fewstep_wire::LayerRequest::parse(flash::request()) {
        return crate::layer::run(&layer, arena);
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

    let model = match Model::parse(flash::image()) {
        Ok(model) => model,
        Err(error) => {
            defmt::error!("student image: {}", error);
            return Status::BadImage;
        }
    };
    let arena_budget = arena.len() as u32;
    let mut session = match Session::new(&model, arena) {
        Ok(session) => session,
        Err(error) => {
            defmt::error!("arena: {}", error);
            return Status::ArenaTooSmall;
        }
    };
    let info = model.info();
    let found = fewstep_wire::Model {
        height: info.height,
        width: info.width,
        channels: info.channels,
        ops: model.op_count() as u16,
        arena_bytes: info.arena_bytes,
        arena_budget,
        image_bytes: info.file_bytes,
        macs_per_step: info.macs_per_step,
        backend: session.backend().name(),
    };
    console::send(Kind::Model, &[&found.emit(), found.backend.as_bytes()]);

    let Some(picture) = picture.get_mut(..model.output_bytes()) else {
        defmt::error!("picture of {=usize} bytes", model.output_bytes());
        return Status::PictureTooLarge;
    };
    if let Err(error) = session.begin(&request) {
        defmt::error!("request: {}", error);
        return Status::RequestRefused;
    }
    let mut current = 0;
    let mut all = 0;
    loop {
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
            console::send(Kind::Step, &[&Step { done, steps: all }.emit()]);
            defmt::debug!("step {=u16} of {=u16}", done, all);
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
