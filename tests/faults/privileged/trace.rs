//! What `strace -f -xx -yy -o FILE` has written down.

use std::collections::HashMap;

/// What happened, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A system call begins: thread, name, what its first argument is, the bytes that it is given.
    Begins { thread: u32, name: String, file: String, bytes: Vec<u8> },
    /// The call that a thread has begun last ends with this result.
    Ends { thread: u32, result: i64 },
}

/// The steps of a trace.
///
/// # Panics
/// If it is not one.
pub(crate) fn steps(trace: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut calls: HashMap<u32, ()> = HashMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let thread: u32 = thread.parse().expect("a line begins with a thread");
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        let result = |rest: &str| -> i64 {
            let (_, result) = rest.rsplit_once(" = ").expect("a call has a result");
            let number = result.split(' ').next().unwrap_or_default();
            // A thread that ended meanwhile has none.
            number.parse().unwrap_or(-1)
        };
        if rest.starts_with("<...") {
            if calls.remove(&thread).is_some() {
                steps.push(Step::Ends { thread, result: result(rest) });
            }
            continue;
        }
        let (name, arguments) = rest.split_once('(').expect("a call has arguments");
        let (name, file) = (name.to_owned(), file(arguments));
        steps.push(Step::Begins { thread, name, file, bytes: bytes(arguments) });
        if rest.ends_with("<unfinished ...>") {
            calls.insert(thread, ());
        } else {
            steps.push(Step::Ends { thread, result: result(rest) });
        }
    }
    steps
}

/// What stands between the angle brackets behind the first argument, a number. (A socket's has an
/// arrow in it.)
fn file(arguments: &str) -> String {
    let Some((_, rest)) = arguments.split_once('<') else { return String::new() };
    let rest = rest.replace("->", "→");
    let file = rest.split_once('>').map(|(file, _)| file).unwrap_or_default();
    match file.starts_with("\\x") {
        true => String::from_utf8_lossy(&decoded(file)).into_owned(),
        false => file.to_owned(),
    }
}

/// The bytes of all strings among the arguments.
fn bytes(arguments: &str) -> Vec<u8> {
    arguments.split('"').skip(1).step_by(2).flat_map(decoded).collect()
}

fn decoded(string: &str) -> Vec<u8> {
    let digits = string.split("\\x").skip(1);
    digits.map(|it| u8::from_str_radix(it, 16).expect("hexadecimal digits")).collect()
}

#[test]
fn a_trace_is_read() {
    let trace = "7 pwrite64(9<\\x2f\\x64>, \"\\x41\\x42\", 2, 512 <unfinished ...>\n\
                 8 sendto(5<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"\\x01\", 1, MSG_NOSIGNAL, NULL, 0) = 1\n\
                 7 <... pwrite64 resumed>) = 2\n\
                 7 +++ exited with 0 +++\n";
    let begins = |thread, name: &str, file: &str, bytes: &[u8]| Step::Begins {
        thread,
        name: name.to_owned(),
        file: file.to_owned(),
        bytes: bytes.to_vec(),
    };
    let expected = [
        begins(7, "pwrite64", "/d", b"AB"),
        begins(8, "sendto", "TCP:[127.0.0.1:1→127.0.0.1:2]", &[1]),
        Step::Ends { thread: 8, result: 1 },
        Step::Ends { thread: 7, result: 2 },
    ];
    assert_eq!(steps(trace), expected);
}
