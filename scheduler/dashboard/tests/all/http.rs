//! Just enough HTTP to ask anything, right or wrong.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// Asks one address, on a connection of its own each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the code of an error.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Sends a request whose head is what it says, and gives the connection with the answer's head read.
    pub(crate) async fn open(&self, head: &[&str], body: &[u8]) -> (Answer, BufReader<TcpStream>) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{}\r\n\r\n", head.join("\r\n")).as_bytes()).await.unwrap();
        // A server that refuses a body may have hung up.
        let _ = stream.write_all(body).await;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).await.unwrap();
            match line.trim().split_once(": ") {
                Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
                None => return (Answer { status, headers, body: String::new() }, reader),
            }
        }
    }

    /// Sends a request with these headers, and reads the answer to its end.
    pub(crate) async fn send(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let (line, length) = (format!("{line} HTTP/1.1"), format!("content-length: {}", body.len()));
        let mut head = vec![line.as_str(), "connection: close", &length];
        let host = format!("host: {}", self.address);
        if !headers.iter().any(|header| header.starts_with("host:")) {
            head.push(&host);
        }
        head.extend(headers);
        let (mut answer, mut reader) = self.open(&head, body).await;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.unwrap();
        answer.body = String::from_utf8(bytes).unwrap();
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunked(&answer.body);
        }
        answer
    }

    /// The same, with the good token.
    pub(crate) async fn ask(&self, line: &str, body: &[u8]) -> Answer {
        self.send(line, &[&format!("authorization: Bearer {}", crate::fake::TOKEN)], body).await
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}
