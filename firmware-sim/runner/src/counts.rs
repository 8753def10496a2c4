//! What the instruction counter wrote: see `insn-plugin`.

use serde::Serialize;

/// Instructions of a denoising step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StepCount {
    /// All of them.
    pub instructions: u64,
    /// Those of each call of `Session::step_op`: the embedding, then the operations of the image in order, then the
    /// sampler's update (`fewstep_core::Stage`).
    pub parts: Vec<u64>,
}

/// Reads the counter's lines. `None` if they are not whole: a line too short, or the last step not marked.
pub fn parse(text: &str) -> Option<Vec<StepCount>> {
    parse_cut(text).filter(|(_, rest)| rest.parts.is_empty()).map(|(steps, _)| steps)
}

/// As [`parse`], of a run that may have ended within a step: the steps, and what there is of the last.
pub fn parse_cut(text: &str) -> Option<(Vec<StepCount>, StepCount)> {
    let mut steps = Vec::new();
    let mut current = StepCount::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next()? {
            "mark" => steps.push(std::mem::take(&mut current)),
            "region" => {
                let (_number, name, count) = (words.next()?, words.next()?, words.next()?.parse::<u64>().ok()?);
                if name != "insns" {
                    return None;
                }
                current.instructions += count;
                current.parts.push(count);
            }
            "total" => {}
            _ => return None,
        }
    }
    Some((steps, current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_add_up_to_steps() {
        let text = "region 0 insns 10 ld 3 ph [0]\nregion 1 insns 5 ld 0 ph [0]\nmark\nregion 2 insns 7 ld 0\nmark\ntotal insns 99 ld 1\n";
        let step = |parts: &[u64]| StepCount { instructions: parts.iter().sum(), parts: parts.to_vec() };
        assert_eq!(parse(text), Some(vec![step(&[10, 5]), step(&[7])]));
        assert_eq!(parse(""), Some(vec![]));
        let cut = "mark\nregion 0 insns 3 ld 0\n";
        assert_eq!((parse(cut), parse_cut(cut)), (None, Some((vec![StepCount::default()], step(&[3])))));
    }

    #[test]
    fn damaged_lines_are_refused() {
        for text in
            ["region 0 insns", "region 0 insns x ld 1", "region 0 ld 4 x", "what\n", "\n", "region 0 insns 10 ld 3\n"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
