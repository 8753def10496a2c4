//! Training pictures one by one, as a device that learns makes them: no set is stored, each picture is drawn when it
//! is wanted, used, and forgotten. Nothing here but `main` needs std or a heap; `fewstep augment` draws the same
//! sequence.
//!
//! ```text
//! cargo run --release -p fewstep-core --example training_pictures assets/fashion-mnist-student-4.fsw 30
//! ```

use fewstep_core::{Request, RequestError, Session};

/// An endless sequence of labelled pictures: classes in turn, then guidance strengths in turn, each of its own seed.
pub struct TrainingPictures<'a, 's> {
    session: Session<'a>,
    first: Request,
    strengths: &'s [f32],
    next: u64,
}

impl<'a, 's> TrainingPictures<'a, 's> {
    /// Picture i has seed `first.seed + i`; `strengths` are not empty. Class and strength of `first` are not looked at.
    pub fn new(session: Session<'a>, first: Request, strengths: &'s [f32]) -> Self {
        Self { session, first, strengths, next: 0 }
    }

    /// Draws the next picture into `picture` and returns its label. A main loop that has more to do calls `begin` and
    /// `step_op` of the session instead of `sample`.
    ///
    /// # Errors
    /// A strength or the steps do not fit the image, or `picture` has another length than its pictures.
    pub fn draw(&mut self, picture: &mut [u8]) -> Result<u16, RequestError> {
        let classes = u64::from(self.session.model().info().classes);
        let turn = self.next / classes;
        let strength = self.strengths.get((turn % self.strengths.len().max(1) as u64) as usize);
        let request = Request {
            seed: self.first.seed.wrapping_add(self.next),
            class: (self.next % classes) as u16,
            w: strength.copied().unwrap_or(0.0),
            ..self.first
        };
        self.session.sample(&request, picture)?;
        self.next += 1;
        Ok(request.class)
    }
}

/// What one prints here is what a device would learn from: label, checksum, mean brightness.
#[allow(dead_code, reason = "a test uses this file without its main")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use fewstep_core::{Arena, IMAGE_ALIGN, Model, format::crc::crc32c};

    let mut words = std::env::args().skip(1);
    let path = words.next().ok_or("usage: training_pictures STUDENT.fsw [COUNT]")?;
    let count: u64 = words.next().map_or(Ok(30), |word| word.parse())?;
    // On a device the image lies in flash, aligned by the linker.
    let file = std::fs::read(path)?;
    let mut memory = vec![0; file.len() + IMAGE_ALIGN];
    let start = memory.as_ptr().align_offset(IMAGE_ALIGN);
    memory[start..start + file.len()].copy_from_slice(&file);

    let model = Model::parse(&memory[start..])?;
    let mut arena = Box::new(Arena::<{ 256 * 1024 }>::new());
    let session = Session::new(&model, arena.bytes())?;
    let mut pictures = TrainingPictures::new(session, Request::default(), &[0.5, 1.0, 2.0]);
    let mut picture = vec![0; model.output_bytes()];
    for _ in 0..count {
        let label = pictures.draw(&mut picture)?;
        let mean = picture.iter().map(|v| u64::from(*v)).sum::<u64>() / picture.len() as u64;
        println!("label {label}, CRC-32C {:08x}, mean {mean}", crc32c(&picture));
    }
    Ok(())
}
