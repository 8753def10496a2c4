//! An image that enlarges, in bands: with the feature `enlarge` it draws, without it it is refused.

use fewstep_core::{Aligned, Model};

static BANDS: &Aligned<[u8]> = &Aligned(*include_bytes!("images/bands.fsw"));

#[cfg(not(feature = "enlarge"))]
#[test]
fn a_core_without_the_feature_refuses_the_image() {
    use fewstep_core::{Place, Problem};

    let error = Model::parse(&BANDS.0).unwrap_err();
    assert!(matches!((error.place, error.problem), (Place::Section(_), Problem::Unknown { what: "section", .. })));
}

#[cfg(feature = "enlarge")]
#[test]
fn a_picture_is_enlarged_at_once_by_operations_and_by_rows() {
    use fewstep_core::{Progress, Request, RequestError, Session};

    let model = Model::parse(&BANDS.0).unwrap();
    assert!(model.image().rounds() > 1);
    let (height, width, channels) = model.output_shape();
    let base: Vec<u8> = (0..model.base_bytes().unwrap()).map(|i| (i * i % 251) as u8).collect();
    assert_eq!((height * width * channels, model.row_bytes()), (4 * base.len(), width * channels));
    let mut memory = vec![0u128; model.arena_bytes().div_ceil(16)];
    let request = Request { seed: 5, class: 1, w: 1.5, ..Request::default() };

    let mut whole = vec![0; model.output_bytes()];
    let mut session = Session::new(&model, bytemuck::cast_slice_mut(&mut memory)).unwrap();
    session.enlarge(&request, &base, &mut whole).unwrap();

    session.begin_enlarge(&request, &base).unwrap();
    while session.step_op() != Progress::Done {}
    let mut rows = vec![0; whole.len()];
    for (y, row) in rows.chunks_mut(model.row_bytes()).enumerate() {
        session.finish_row(y as u16, row).unwrap();
    }
    assert_eq!(rows, whole);
    let row = &mut rows[..model.row_bytes()];
    let refused = RequestError::Row { found: height as u16, height: height as u16 };
    assert_eq!(session.finish_row(height as u16, row), Err(refused));

    // The mean of every 2x2 square is the base's pixel, but for the rounding of four bytes.
    for (i, byte) in base.iter().enumerate() {
        let at = 2 * (i / (width / 2)) * width + 2 * (i % (width / 2));
        let sum: u32 = [at, at + 1, at + width, at + width + 1].iter().map(|at| u32::from(whole[*at])).sum();
        assert!((sum as f32 / 4.0 - f32::from(*byte)).abs() <= 0.5, "pixel {i}: {sum} / 4, {byte}");
    }
}
