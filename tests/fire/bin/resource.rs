//! A resource that several holders write to: `fire_resource fenced|open JOURNAL`.
//!
//! It says on which address it listens, and appends every write that is asked for to its journal,
//! in the order in which it has judged them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use synod_tests::fire::gate::Gate;
use synod_tests::fire::line::{Line, Offer};

struct Resource {
    begun: Instant,
    gate: Gate,
    journal: File,
}

impl Resource {
    /// Answers a line.
    fn answer(&mut self, line: &str) -> Result<String, String> {
        let (line, answer) = match line.split_once(' ') {
            Some(("offer", offer)) => {
                let offer: Offer = offer.parse()?;
                let at_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let verdict = self.gate.judge(&offer);
                (Line::Offer { at_ms, offer, verdict }, verdict.to_string())
            }
            Some(("complaint", text)) => (Line::Complaint(text.to_owned()), "noted".to_owned()),
            _ => return Err(format!("not an offer or a complaint: {line:?}")),
        };
        writeln!(self.journal, "{line}").map_err(|error| error.to_string())?;
        Ok(answer)
    }
}

fn serve(stream: TcpStream, resource: &Mutex<Resource>) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    stream.set_nodelay(true).map_err(failed)?;
    let mut answers = stream.try_clone().map_err(failed)?;
    let mut questions = BufReader::new(stream);
    loop {
        let mut line = String::new();
        // A holder that is killed may leave a line without an end: it is none.
        if questions.read_line(&mut line).is_err() || !line.ends_with('\n') {
            return Ok(());
        }
        // Judging and writing are one step.
        let answer = resource.lock().map_err(|error| error.to_string())?.answer(line.trim_end())?;
        if answers.write_all(format!("{answer}\n").as_bytes()).is_err() {
            return Ok(());
        }
    }
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (fenced, journal) = match arguments.as_slice() {
        [gate, journal] if gate == "fenced" || gate == "open" => (gate == "fenced", journal),
        _ => return Err("fire_resource fenced|open JOURNAL".to_owned()),
    };
    let failed = |error: io::Error| error.to_string();
    let journal = File::create(journal).map_err(failed)?;
    let resource = Resource { begun: Instant::now(), gate: Gate::new(fenced), journal };
    let resource = Arc::new(Mutex::new(resource));
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    println!("listening on {}", listener.local_addr().map_err(failed)?);
    for stream in listener.incoming() {
        let (stream, resource) = (stream.map_err(failed)?, Arc::clone(&resource));
        std::thread::spawn(move || {
            if let Err(problem) = serve(stream, &resource) {
                eprintln!("fire_resource: {problem}");
            }
        });
    }
    Ok(())
}
