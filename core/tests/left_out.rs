//! What a core that was built without a form of weights says to an image that has it.
#![cfg(not(feature = "int4"))]

use fewstep_core::{Aligned, Model, Problem};

#[test]
fn four_bits_are_refused_by_the_features_name() {
    let image: &Aligned<[u8]> = &Aligned(*include_bytes!("images/int4.fsw"));
    let error = Model::parse(&image.0).unwrap_err();
    assert_eq!(error.problem, Problem::LeftOut { feature: "int4" });
    assert!(error.to_string().contains("needs its feature `int4`"), "{error}");
    let image: &Aligned<[u8]> = &Aligned(*include_bytes!("images/plain.fsw"));
    assert!(Model::parse(&image.0).is_ok());
}
