//! A WASI command that misbehaves as its first argument says. It is built as a component and as a core module of preview 1.

use std::{
    env, fs,
    hint::black_box,
    io::{self, Read, Write},
    process, thread,
    time::Duration,
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        // Ends well.
        [] | ["ok"] => {}
        // Exits with a status.
        ["exit", status] => process::exit(status.parse().expect("a status")),
        // Exits with a status that arrives as it is; the standard library tells only whether it is 0.
        #[cfg(target_env = "p2")]
        ["exit-code", status] => wasip2::cli::exit::exit_with_code(status.parse().expect("a status")),
        // Exits with a status after output that was not flushed by a line break.
        ["exit-mid-line", status] => {
            print!("no line break");
            io::stdout().flush().expect("standard output");
            process::exit(status.parse().expect("a status"))
        }
        // Panics with a message.
        ["panic", message] => panic!("{message}"),
        // Aborts without a message.
        ["abort"] => process::abort(),
        // Loops for ever.
        ["spin"] => loop {
            black_box(());
        },
        // Sleeps so many milliseconds.
        ["sleep", milliseconds] => thread::sleep(Duration::from_millis(milliseconds.parse().expect("milliseconds"))),
        // Writes to standard output without end.
        ["flood-stdout"] => flood(io::stdout()),
        // Writes to standard error without end.
        ["flood-stderr"] => flood(io::stderr()),
        // Writes so many bytes to standard output, without a line break.
        ["write", count] => {
            let count: usize = count.parse().expect("a number of bytes");
            let block = [b'x'; 65_536];
            let mut out = io::stdout();
            for start in (0..count).step_by(block.len()) {
                out.write_all(&block[..block.len().min(count - start)]).expect("standard output");
            }
        }
        // Writes bytes that are not UTF-8, and control sequences of a terminal.
        ["write-binary"] => io::stdout().write_all(b"\xff\xfe\x00\x1b[2J\x1b]0;owned\x07\r\n").expect("standard output"),
        // Copies standard input to standard output.
        ["cat"] => {
            io::copy(&mut io::stdin(), &mut io::stdout()).expect("standard streams");
        }
        // Reads standard input to its end, and prints how many bytes it had.
        ["count-stdin"] => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).expect("standard input");
            println!("{}", bytes.len());
        }
        // Prints its arguments and its environment, one a line.
        ["show", ..] => {
            arguments.iter().for_each(|argument| println!("{argument}"));
            env::vars().for_each(|(name, value)| println!("{name}={value}"));
        }
        // Prints a file.
        ["read", path] => match fs::read(path) {
            Ok(bytes) => io::stdout().write_all(&bytes).expect("standard output"),
            Err(error) => fail(path, &error),
        },
        // Writes a file.
        ["create", path] => {
            if let Err(error) = fs::write(path, "written by a guest\n") {
                fail(path, &error);
            }
        }
        _ => {
            eprintln!("evil-command: no attack is called {arguments:?}");
            process::exit(2);
        }
    }
}

fn flood(mut out: impl Write) {
    loop {
        // Errors too: a host that closes the stream is not asked to end the guest as well.
        let _ = out.write_all(b"a line of the flood, and then the next line of the flood, and then the next\n");
    }
}

fn fail(path: &str, error: &io::Error) {
    eprintln!("evil-command: {path}: {error}");
    process::exit(1);
}
