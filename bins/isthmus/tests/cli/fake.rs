//! A server of the API that answers by script and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};
use tempfile::TempDir;

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub authorization: String,
    pub body: String,
    /// Method and path of each request before this one.
    pub earlier: Vec<String>,
}

/// What a request is answered with.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    body: Option<Value>,
}

impl Answer {
    pub fn ok(body: Value) -> Self {
        Self {
            status: 200,
            body: Some(body),
        }
    }

    pub fn created(body: Value) -> Self {
        Self {
            status: 201,
            body: Some(body),
        }
    }

    pub fn empty(status: u16) -> Self {
        Self { status, body: None }
    }

    pub fn refused(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message}], "trace": "t"});
        Self {
            status,
            body: Some(body),
        }
    }

    pub fn not_found() -> Self {
        Self::refused(404, "not_found", "It was not found.")
    }
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    logins: AtomicUsize,
    refuse_logins: AtomicBool,
    stop: AtomicBool,
}

/// A running server with a profile that leads to it.
pub struct Fake {
    shared: Arc<Shared>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
    state: TempDir,
}

impl Fake {
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            logins: AtomicUsize::new(0),
            refuse_logins: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if for_thread.stop.load(Ordering::Acquire) {
                    return;
                }
                answer(&for_thread, stream.unwrap());
            }
        });
        let fake = Self {
            shared,
            address,
            thread: Some(thread),
            state: TempDir::new().unwrap(),
        };
        fake.write_profile(&fake.url());
        fake
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn state_dir(&self) -> &Path {
        self.state.path()
    }

    pub fn write_profile(&self, url: &str) {
        let text = format!("url = \"{url}\"\napi_key = \"the-key\"\n");
        std::fs::write(self.state.path().join("credentials.toml"), text).unwrap();
    }

    pub fn refuse_logins(&self) {
        self.shared.refuse_logins.store(true, Ordering::Release);
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let result = thread.join();
            assert!(result.is_ok() || thread::panicking(), "the fake server panicked");
        }
    }
}

fn answer(shared: &Shared, mut stream: TcpStream) {
    let Some(mut request) = read(&stream) else { return };
    let mut requests = shared.requests.lock().unwrap();
    request.earlier = requests
        .iter()
        .map(|earlier| format!("{} {}", earlier.method, earlier.path))
        .collect();
    requests.push(request.clone());
    drop(requests);
    let answer = if request.path == "/identity/token" {
        shared.login()
    } else {
        (shared.script)(&request)
    };
    let body = answer.body.map(|body| body.to_string()).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.status,
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

impl Shared {
    fn login(&self) -> Answer {
        if self.refuse_logins.load(Ordering::Acquire) {
            let body =
                json!({"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."});
            return Answer {
                status: 400,
                body: Some(body),
            };
        }
        let number = self.logins.fetch_add(1, Ordering::AcqRel) + 1;
        Answer::ok(
            json!({"access_token": format!("token-{number}"), "token_type": "Bearer", "expires_in": 3600}),
        )
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut words = line.split(' ');
    let method = words.next()?.to_owned();
    let target = words.next()?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        ..Request::default()
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => request.authorization = value.trim().to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    Some(request)
}
