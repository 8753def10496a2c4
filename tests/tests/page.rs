//! `fewstep page`: the files that it writes. What they do is tested in a browser, by `./check page`.

use std::fs;

use fewstep::page::{FILES, STUDENT};
use fewstep_tests::{Folder, fewstep, project, refusal, report};

/// Bytes that a page may have with the shipped student.
const MAX_BYTES: u64 = 1_500_000;

fn words(folder: &Folder, line: &str) -> Vec<String> {
    line.split_whitespace().map(|word| word.replace('@', &format!("{}/", folder.path().display()))).collect()
}

#[test]
fn a_page_is_whole_and_refers_to_nothing_else() {
    let folder = Folder::new("page");
    let student = project().join("assets/fashion-mnist-student-1.fsw");
    fs::copy(&student, folder.join("s.fsw")).unwrap();
    // A second time over the first, as when a student is trained anew.
    for _ in 0..2 {
        let made = report(words(&folder, "page @s.fsw --out @made/page --json"));
        let mut names: Vec<_> = FILES.iter().map(|file| file.0.to_string()).chain([STUDENT.to_string()]).collect();
        let mut there: Vec<_> = fs::read_dir(folder.join("made/page"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        there.sort();
        assert_eq!(there, names);
        let bytes: u64 = there.iter().map(|n| fs::metadata(folder.join("made/page").join(n)).unwrap().len()).sum();
        assert_eq!(made["bytes"], bytes);
        assert!(bytes <= MAX_BYTES, "{bytes}");
    }
    assert!(fs::read(folder.join("made/page").join(STUDENT)).unwrap() == fs::read(&student).unwrap());

    let names: Vec<&str> = FILES.iter().map(|file| file.0).chain([STUDENT]).collect();
    for (name, bytes) in FILES {
        let Ok(text) = std::str::from_utf8(bytes) else {
            assert!(bytes.starts_with(b"\0asm\x01\0\0\0"), "{name}");
            continue;
        };
        assert!(!text.contains("://"), "{name} refers to somewhere else");
        for quoted in text.split('"').skip(1).step_by(2) {
            let file = quoted.trim_start_matches("./");
            let is_file = [".js", ".css", ".wasm", ".fsw"].iter().any(|e| file.len() > e.len() && file.ends_with(e));
            assert!(!is_file || names.contains(&file), "{name} refers to {file}");
        }
    }
}

#[test]
fn refusals_say_what_and_touch_nothing() {
    let folder = Folder::new("page-refusals");
    let student = fs::read(project().join("assets/fashion-mnist-student-1.fsw")).unwrap();
    fs::write(folder.join("cut.fsw"), &student[..9000]).unwrap();
    fs::write(folder.join("s.fsw"), &student).unwrap();
    fs::write(folder.join("file"), "kept").unwrap();
    let names = folder.names();
    for (line, parts) in [
        ("page @missing.fsw --out @page", vec!["missing.fsw", "no such file"]),
        ("page @cut.fsw --out @page", vec!["cut.fsw", "needs", "has 9000"]),
        ("page @file --out @page", vec!["file", "needs"]),
        ("page @s.fsw --out @file", vec!["--out", "is a file", "name a folder"]),
        ("page @s.fsw --out @file/page", vec!["cannot make the folder"]),
        ("page @s.fsw", vec!["--out"]),
    ] {
        let message = refusal(words(&folder, line));
        for part in parts {
            assert!(message.contains(part), "fewstep {line}\n    says nothing of {part:?}: {message}");
        }
        assert_eq!(folder.names(), names, "fewstep {line}");
    }
}

#[test]
fn the_shipped_student_is_the_default() {
    let folder = Folder::new("page-default");
    assert!(fewstep(words(&folder, "page --out @page")).status.success());
    let shipped = fs::read(project().join("assets/fashion-mnist-student-4.fsw")).unwrap();
    assert!(fs::read(folder.join("page").join(STUDENT)).unwrap() == shipped);
}
