//! A checked image with its memory.

use fewstep_core::{Model, ParseError, Progress, RequestError, Session};

use crate::memory::room;

/// A student and what it works on.
#[derive(Debug)]
pub struct Student {
    /// The image.
    pub model: Model<'static>,
    arena: &'static mut [u8],
    /// A picture to work on, [height][width][channels] bytes.
    pub picture: &'static mut [u8],
    /// Which of its pixels are drawn anew, [height][width]; 0 keeps one.
    pub mask: &'static mut [u8],
    /// The picture that was drawn, [height][width][channels] bytes.
    pub drawn: &'static mut [u8],
}

impl Student {
    /// Checks the file in `bytes` and takes memory for drawing with it; None where there is none left.
    ///
    /// # Errors
    /// The file is no student image.
    pub fn open(bytes: &'static [u8]) -> Result<Option<Self>, ParseError> {
        let model = Model::parse(bytes)?;
        let info = model.info();
        let pixels = usize::from(info.height) * usize::from(info.width);
        let rooms = || {
            let (picture, drawn) = (room(model.output_bytes())?, room(model.output_bytes())?);
            Some(Self { model, arena: room(model.arena_bytes())?, picture, mask: room(pixels)?, drawn })
        };
        Ok(rooms())
    }

    /// Draws what `begin` begins, which may use the picture and the mask.
    ///
    /// # Errors
    /// The request does not fit the image.
    pub fn draw<'s>(
        &'s mut self,
        begin: impl FnOnce(&mut Session<'s>, &'s [u8], &'s [u8]) -> Result<(), RequestError>,
    ) -> Result<(), RequestError> {
        // The arena was taken as the model wants it.
        let Ok(mut session) = Session::new(&self.model, self.arena) else { return Ok(()) };
        begin(&mut session, self.picture, self.mask)?;
        while session.step() != Progress::Done {}
        session.finish(self.drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fewstep_core::{IMAGE_ALIGN, Request};

    #[test]
    fn room_is_aligned_and_of_the_length_asked_for() {
        for len in [0, 1, 16, 17, 1000] {
            let memory = room(len).unwrap();
            assert_eq!((memory.len(), memory.as_ptr() as usize % IMAGE_ALIGN), (len, 0));
        }
        assert!(room(usize::MAX).is_none() && room(isize::MAX as usize).is_none());
    }

    #[test]
    fn a_student_draws_as_a_session_does_and_bad_requests_and_files_say_why() {
        let file = include_bytes!("../../../assets/fashion-mnist-student-1.fsw");
        let open = |len: usize| {
            let memory = room(len).unwrap();
            memory.copy_from_slice(&file[..len]);
            Student::open(memory)
        };
        let mut student = open(file.len()).unwrap().unwrap();
        let request = Request { seed: 3, class: 8, w: 1.0, ..Request::default() };
        student.draw(|session, _, _| session.begin(&request)).unwrap();
        let mut expected = vec![0; student.drawn.len()];
        let arena = room(student.model.arena_bytes()).unwrap();
        Session::new(&student.model, arena).unwrap().sample(&request, &mut expected).unwrap();
        assert!(student.drawn == expected);
        let wrong = Request { class: 99, ..Request::default() };
        assert!(matches!(student.draw(|s, _, _| s.begin(&wrong)), Err(RequestError::Class { found: 99, .. })));
        for len in [0, 20, 4000] {
            open(len).unwrap_err();
        }
    }
}
