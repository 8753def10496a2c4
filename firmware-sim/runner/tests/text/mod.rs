//! What the tests of programs that send text share: what they sent, and what the core draws here.

use std::path::Path;

use fewstep_core::{IMAGE_ALIGN, Model, Progress, Session, Stage};

/// The pictures in a text: portable graymaps and pixmaps of decimal numbers.
pub fn pictures(text: &str) -> Vec<Vec<u8>> {
    let mut lines = text.lines();
    let mut pictures = Vec::new();
    while let Some(line) = lines.next() {
        let channels = match line {
            "P2" => 1,
            "P3" => 3,
            _ => continue,
        };
        let mut head = || lines.next().and_then(|line| line.parse::<usize>().ok()).expect("a number");
        let (width, height, most) = (head(), head(), head());
        assert_eq!(most, 255);
        let mut picture = Vec::new();
        for row in lines.by_ref().take(height) {
            picture.extend(row.split_whitespace().map(|value| value.parse::<u8>().expect("a value")));
        }
        assert_eq!(picture.len(), width * height * channels);
        pictures.push(picture);
    }
    pictures
}

/// The number of the line that starts with `word`.
pub fn number(text: &str, word: &str) -> u32 {
    let line = text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {word} in {text}"))
}

/// What the core draws here from an image in a file; `w` gives the strength of each step.
pub fn draw(file: &Path, request: fewstep_core::Request, mut w: impl FnMut(&Model<'_>, usize) -> f32) -> Vec<u8> {
    let file = std::fs::read(file).unwrap();
    let mut image = vec![0; file.len() + IMAGE_ALIGN];
    let start = image.as_ptr().align_offset(IMAGE_ALIGN);
    image[start..start + file.len()].copy_from_slice(&file);
    let model = Model::parse(&image[start..]).unwrap();
    let mut arena = vec![0; model.arena_bytes() + IMAGE_ALIGN];
    let start = arena.as_ptr().align_offset(IMAGE_ALIGN);
    let mut session = Session::new(&model, &mut arena[start..]).unwrap();
    session.begin(&request).unwrap();
    let mut step = 0;
    loop {
        if session.stage() == Some(Stage::Embed) {
            session.set_guidance(w(&model, step)).unwrap();
            step += 1;
        }
        if session.step_op() == Progress::Done {
            break;
        }
    }
    let mut picture = vec![0; model.output_bytes()];
    session.finish(&mut picture).unwrap();
    picture
}
