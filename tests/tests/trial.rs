//! `fewstep trial`: the sets that classifiers are trained on are what the report says, and a killed trial goes on.

use std::fs;

use fewstep::apps::Painter;
use fewstep::apps::trial::{Arm, Sets, Variants};
use fewstep::data::{Dataset, Split, subset};
use fewstep::export::{ExportOptions, random_student, write_image};
use fewstep::sampling::StudentImage;
use fewstep_core::Request;
use fewstep_tests::{Folder, refusal, report, squares, tiny_arch};
use serde_json::Value;

/// A data set of squares and a student of its shape that has learnt nothing.
struct Files(Folder, Dataset);

impl Files {
    fn new(name: &str) -> Files {
        let (folder, data) = (Folder::new(name), squares());
        fs::create_dir(folder.join("squares")).unwrap();
        for split in [Split::Train, Split::Test] {
            subset::write_split(&folder.join("squares"), split, &data).unwrap();
        }
        let image = write_image(&random_student(&tiny_arch(), 2, 1), &ExportOptions::default()).unwrap().bytes;
        fs::write(folder.join("student.fsw"), image).unwrap();
        Files(folder, data)
    }

    fn words(&self, line: &str) -> Vec<String> {
        let here = format!("{}/", self.0.path().display());
        line.split(' ').map(|word| word.replace('@', &here)).collect()
    }

    fn trial(&self, more: &str) -> Value {
        let line = "trial @student.fsw --data @squares --real 1,3 --pool 40 --images 128 --json --precision f32";
        report(self.words(&format!("{line} {more}")))
    }
}

#[test]
fn every_set_is_half_what_it_says() {
    let files = Files::new("trial-sets");
    let data = &files.1;
    let image = StudentImage::open(&files.0.join("student.fsw")).unwrap();
    let painter = Painter::new(&image, "auto").unwrap();
    let sets = Sets {
        real: data,
        painter: &painter,
        first: Request { seed: 5, steps: 2, ..Request::default() },
        strengths: vec![0.5, 2.0],
        pool: 41,
        variants: Variants::usual(true),
    };
    let lot = sets.lot(3, 9).unwrap();
    let classes = data.classes();
    assert_eq!(lot.labels, (0..3 * classes).map(|i| (i % classes) as u16).collect::<Vec<_>>());
    let real: Vec<&[u8]> = (0..data.len()).map(|i| data.picture(i)).collect();
    assert!((0..lot.len()).all(|i| real.contains(&lot.picture(i))));
    assert_ne!(sets.lot(3, 10).unwrap().pictures, lot.pictures);

    let drawn = sets.drawn(0).unwrap();
    assert_eq!(drawn.len(), 20);
    assert_ne!(sets.drawn(1).unwrap().pictures, drawn.pictures);

    let bytes = data.picture_bytes();
    let of = |arm| sets.set(arm, &lot, &drawn, 9);
    assert_eq!(of(Arm::Real), (lot.pictures.clone(), lot.labels.clone()));
    let (pictures, labels) = of(Arm::Student);
    assert_eq!((labels.len(), &pictures[21 * bytes..]), (41, &drawn.pictures[..]));
    assert_eq!(
        (&pictures[..lot.pictures.len().min(21 * bytes)], &labels[21..]),
        (&lot.pictures[..lot.pictures.len().min(21 * bytes)], &drawn.labels[..])
    );
    let (classical, of_classical) = of(Arm::Classical);
    assert_eq!((classical.len(), of_classical.len()), (41 * bytes, 41));
    assert_ne!(classical[..lot.pictures.len().min(41 * bytes)], lot.pictures[..lot.pictures.len().min(41 * bytes)]);
    let (both, _) = of(Arm::Both);
    assert_eq!((&both[..21 * bytes], &both[21 * bytes..]), (&classical[..21 * bytes], &drawn.pictures[..]));
}

#[test]
fn a_trial_goes_on_and_ends_alike() {
    let files = Files::new("trial-run");
    let whole = files.trial("--repeats 2 --out @whole");
    let cells = whole["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 8);
    for cell in cells {
        let accuracies: Vec<f64> = cell["accuracies"].as_array().unwrap().iter().map(|a| a.as_f64().unwrap()).collect();
        assert!(accuracies.len() == 2 && accuracies.iter().all(|a| (0.0..=1.0).contains(a)), "{cell}");
    }
    let names = ["classifiers", "trial.html", "trial.json", "trial.svg"];
    assert!(names.iter().all(|name| files.0.join("whole").join(name).exists()));

    // What one repeat has left, two go on with.
    files.trial("--repeats 1 --out @parts");
    let kept = || fs::read_dir(files.0.join("parts/classifiers")).unwrap().count();
    let before = kept();
    assert_eq!(files.trial("--repeats 2 --out @parts"), whole);
    assert_eq!(kept(), 2 * before);
}

#[test]
fn refusals_say_what() {
    let files = Files::new("trial-refusals");
    let good = "trial @student.fsw --data @squares --out @report";
    for (line, says) in [
        (format!("{good} --real 3,1"), "smallest first"),
        (format!("{good} --real 100000 --pool 10"), "ask for fewer"),
        (format!("{good} --guidance 77"), "was distilled for"),
        (format!("{good} --repeats 0"), "--repeats 0"),
        (format!("{good} --pool 1"), "--pool 1"),
        ("trial @student.fsw --data @nowhere --out @report".to_string(), "nowhere"),
    ] {
        let said = refusal(files.words(&line));
        assert!(said.contains(says), "{line}: {said}");
    }
}
