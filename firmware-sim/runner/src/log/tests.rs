use super::*;

const TABLE: &[(u16, Option<Level>, &str)] = &[
    (1, None, "{=u8}"),
    (2, None, "Small|Large {{ by: {=u16} }}"),
    (3, None, "name"),
    (4, None, "a {=?} "),
    (5, None, "{=?}"),
    (6, None, ""),
    (10, Some(Level::Info), "step {=u16} of {=u16}"),
    (11, Some(Level::Debug), "{1=u8:#x} {0=i8} {1=u8:08b} {1=u8}"),
    (12, Some(Level::Warn), "{=str} {=str:?} {=istr} {=bool} {=char}"),
    (13, Some(Level::Error), "w {=f32}, {=[u8]:02x}, {=[u8; 2]:a}"),
    (14, Some(Level::Error), "{}"),
    (15, Some(Level::Info), "{=__internal_Display} {=__internal_Debug}!"),
    (16, Some(Level::Info), "{=[?]}"),
    (17, Some(Level::Info), "{=__internal_FormatSequence}"),
    (18, Some(Level::Trace), "{=i32:#010x} {=i64} {=u64} {=usize}"),
    (19, Some(Level::Print), "{{}}"),
    (20, Some(Level::Info), "{=0..4}"),
];

fn line(bytes: &[u8]) -> Line {
    Table::of(TABLE).line(bytes)
}

#[test]
fn lines_of_every_type() {
    for (bytes, level, text) in [
        (&[10, 0, 2, 0, 4, 0][..], Level::Info, "step 2 of 4"),
        (&[11, 0, 0xff, 0x1f], Level::Debug, "0x1f -1 00011111 31"),
        (&[12, 0, 1, 0, 0, 0, b'x', 1, 0, 0, 0, b'"', 3, 0, 1, 0x41, 0, 0, 0], Level::Warn, "x \"\\\"\" name true A"),
        (&[13, 0, 0, 0, 0xc0, 0x3f, 2, 0, 0, 0, 1, 0xff, b'o', b'\n'], Level::Error, "w 1.5, [01, ff], b\"o\\n\""),
        (&[14, 0, 2, 0, 1, 0x34, 0x12], Level::Error, "Large { by: 4660 }"),
        (&[14, 0, 2, 0, 0], Level::Error, "Small"),
        (&[15, 0, b'o', b'k', 0xff, 0xff], Level::Info, "ok !"),
        (&[16, 0, 3, 0, 0, 0, 1, 0, 7, 8, 9], Level::Info, "[7, 8, 9]"),
        (&[16, 0, 2, 0, 0, 0, 2, 0, 0, 1, 1, 0], Level::Info, "[Small, Large { by: 1 }]"),
        (&[17, 0, 4, 0, 1, 0, 5, 1, 0, 6, 0, 0], Level::Info, "a 5 6"),
        (
            &[
                18, 0, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9, 0, 0, 0, 0, 0, 0, 0,
                8, 0, 0, 0,
            ],
            Level::Trace,
            "0xfffffffe -1 9 8",
        ),
        (&[19, 0], Level::Print, "{}"),
    ] {
        assert_eq!(line(bytes), Line { level, text: text.into() }, "{bytes:?}");
    }
}

#[test]
fn frames_that_are_wrong_become_warnings() {
    let whole: &[u8] = &[12, 0, 1, 0, 0, 0, b'x', 1, 0, 0, 0, b'"', 3, 0, 1, 0x41, 0, 0, 0];
    for length in 0..whole.len() {
        assert_eq!(line(&whole[..length]).level, Level::Warn, "cut to {length}");
        assert!(line(&whole[..length]).text.contains("cannot be decoded"));
    }
    for (bytes, what) in [
        (&[99, 0][..], "no such string"),
        (&[1, 0, 5], "not a line"),
        (&[10, 0, 1, 0, 2, 0, 3], "bytes left over"),
        (&[14, 0, 2, 0, 7], "no such variant"),
        (&[12, 0, 0xff, 0xff, 0xff, 0xff], "longer than the frame"),
        (&[16, 0, 0xff, 0xff, 0xff, 0xff, 6, 0], "four billion elements of no bytes"),
        (&[20, 0, 1], "bit fields are not decoded"),
    ] {
        assert!(line(bytes).text.contains("cannot be decoded"), "{what}: {}", line(bytes));
    }
}

#[test]
fn formats_that_hold_themselves_end() {
    let frame: Vec<u8> = [14, 0].into_iter().chain([5, 0].repeat(10_000)).collect();
    assert!(line(&frame).text.contains("cannot be decoded"));
}

#[test]
fn any_bytes_are_some_line() {
    let mut state = 7u32;
    for _ in 0..20_000 {
        let frame: Vec<u8> = (0..24)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Small numbers, so that most indices exist.
                ((state >> 24) % 24) as u8
            })
            .collect();
        assert!(!line(&frame).to_string().is_empty());
    }
}
